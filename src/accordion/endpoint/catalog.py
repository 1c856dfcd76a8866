"""Which packages there are, by name, and under which name each directory is served."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from accordion.artifact.names import is_name
from accordion.endpoint.descriptors import lacking
from accordion.endpoint.package import Package
from accordion.endpoint.remote import REFRESH_S, RemotePackage, source_reference
from accordion.endpoint.served import Served, Source
from accordion.errors import FormatError, StorageError, TransferError, UsageError

__all__ = ["Catalog"]

LOG = logging.getLogger("accordion.endpoint")
START_S = 30.0  # how long an endpoint that has nothing else to serve waits for its registries
LOOK_S = 0.02  # between two looks whether one of them has answered
RESCAN_S = 2.0  # how old the list of packages may be when an unknown name, or the list, is asked for
_DEPTH = 8  # folders below a DIR in which packages are looked for
_GONE = (FileNotFoundError, NotADirectoryError)


class Catalog:
    """The packages in some directories, and in registries. Broken ones are listed in `problems` and leave the others alone.

    A directory that is a package has its own name; one that holds several gives each its path below the directory. Links to
    directories are not followed. Packages that come later are found, the first one too, and those that go are dropped. A text with
    `://` in it is a repository in a registry, which is served under its own name. With `whole` false, packages are read only until
    one is found that can be served: that is enough to say what is wrong.

    Raises:
        UsageError: a directory is missing, a name is impossible, or two are equal.
        FormatError: packages are named one by one, and not one of them can be served.
        StorageError: a directory can't be looked into.
        TransferError: nor is there one, and a registry can't be reached.
    """

    def __init__(
        self, directories: Sequence[Path | str], *, rescan_s: float = RESCAN_S, refresh_s: float = REFRESH_S, whole: bool = True
    ) -> None:
        if not directories:
            raise UsageError("name at least one directory with packages")
        far = [source_reference(text) for text in directories if isinstance(text, str) and "://" in text]
        self._far = [RemotePackage(target, refresh_s=refresh_s) for target in far]
        near = [directory for directory in directories if not (isinstance(directory, str) and "://" in directory)]
        self.directories = [Path(directory).absolute() for directory in near]
        self._rescan_s = rescan_s
        self._lock = threading.Lock()
        self._scanned = 0.0
        self._packages: dict[str, Source] = {}
        self._misnamed: dict[str, str] = {}
        self._names: list[str] = []
        self._blind = False  # whether there was no descriptor left to look into a folder with
        self._scan(first=True)
        paths = [package.path for package in self._packages.values() if isinstance(package, Package)]
        folders = [directory for directory in self.directories if directory not in paths]  # in which packages may yet come
        if not self._any_known() and not folders:
            name, problem = next(iter(self.problems().items()), ("", "there is no package"))
            kind = TransferError if any(package.unreachable for package in self._far) else FormatError
            raise kind(f"nothing can be served: {name}: {problem}")
        if whole:
            for name, problem in self._misnamed.items():
                LOG.warning("%s: %s", name, problem)
            for folder in folders:
                if not any(path.is_relative_to(folder) for path in paths):
                    LOG.warning("%s holds no package yet (files oci-layout and index.json): waiting for its first", folder)
            self._load_all()

    def names(self) -> list[str]:
        """The names of what could be served when the packages were last looked at, sorted."""
        return list(self._names)

    def problems(self) -> dict[str, str]:
        """What is wrong, by name: one line each, without paths."""
        found = {name: "; ".join(package.problems) for name, package in list(self._packages.items()) if package.problems}
        return {**self._misnamed, **found}

    def current(self, name: str) -> Served | None:
        """The package of this name as it is now, if that is known without waiting."""
        package = self._packages.get(name)
        return None if package is None else package.current()

    async def snapshot(self, name: str) -> Served | None:
        """The package of this name as it is now, or None. StorageError where there is no descriptor left to look with."""
        if (current := self.current(name)) is not None:
            return current
        return await asyncio.to_thread(self._find, name)

    def doubt(self, name: str) -> None:
        """Bytes of this package could not be had: it is looked at again before it is served again."""
        if (package := self._packages.get(name)) is not None:
            package.doubt()

    def refresh(self) -> None:
        """Looks for packages that have come, gone or changed, unless that was done a moment ago."""
        with self._lock:
            if time.monotonic() - self._scanned >= self._rescan_s:
                self._scan(first=False)
                self._load_all()

    def _any_known(self) -> bool:
        """Whether there is something to serve. Registries are waited for where nothing else is there, all at the same time."""
        end = time.monotonic() + START_S
        for package in self._far:
            package.known()  # begins to look
        while not any(package.known() is not None for package in self._packages.values()):
            if time.monotonic() >= end or not any(package.looking for package in self._far):
                return any(package.known() is not None for package in self._far)  # one may just have been done
            time.sleep(LOOK_S)
        return True

    def _find(self, name: str) -> Served | None:
        """The package of this name. Where nothing of it can be served, another of the same name may have come elsewhere."""
        before = self._packages.get(name)
        found = None if before is None else before.snapshot()
        if found is None and is_name(name):
            self.refresh()
            if (package := self._packages.get(name)) is not None and package is not before:
                found = package.snapshot()
            if package is None and self._blind:
                raise StorageError("whether there is such a package can't be said: a folder can't be looked into")
        return found

    def _load_all(self) -> None:
        """Reads what is new. It touches every package, so it is done as rarely as the folders are searched."""
        self._names = sorted(name for name, package in list(self._packages.items()) if package.known() is not None)

    def _scan(self, *, first: bool) -> None:
        packages: dict[str, Source] = {package.name: package for package in self._far}
        if first and len(packages) < len(self._far):
            raise UsageError("two packages in registries have the same name")
        misnamed: dict[str, str] = {}
        blind = False
        for directory in self.directories:
            failures: list[OSError] = []
            found = list(_packages_in(directory, failures.append))
            if first and not found:
                _check_folder(directory, failures)
            blind |= any(map(lacking, failures))
            for error in failures:
                found += self._kept(directory, error, misnamed)
            for name, path in found:
                known = packages.get(name)
                if not is_name(name):
                    if first and path == directory:
                        raise UsageError(
                            f"{path} can't be served under its own name {name!r}: letters, digits, '.', '_' and '-' only"
                        )
                    misnamed[repr(name)[:100]] = "its folder's name can't be the name of a package"
                elif known is None:
                    before = self._packages.get(name)
                    same = isinstance(before, Package) and before.path == path
                    packages[name] = before if same and before is not None else Package(name, path)
                elif not isinstance(known, Package) or known.path.resolve() != path.resolve() or first:
                    if first:
                        where = known.path if isinstance(known, Package) else "one in a registry"
                        raise UsageError(f"two packages have the name {name!r}: {where} and {path}")
                    misnamed[name] = "two packages have this name; the first is served"
        self._packages, self._misnamed, self._blind = packages, misnamed, blind
        self._scanned = time.monotonic()

    def _kept(self, directory: Path, error: OSError, problems: dict[str, str]) -> list[tuple[str, Path]]:
        """The packages that a folder held when it could be read last: that it can't be read now says nothing of them.

        One that nobody let us read, and that has given nothing so far (`lost+found`, say), is none of our business.
        """
        folder = Path(error.filename)
        found = [
            (name, package.path)
            for name, package in self._packages.items()
            if isinstance(package, Package) and package.path.is_relative_to(folder)
        ]
        if found or not isinstance(error, PermissionError):
            name = directory.name if folder == directory else folder.relative_to(directory).as_posix()
            name, told = name if is_name(name) else repr(name)[:100], f"this folder can't be looked into: {error.strerror}"
            if self._misnamed.get(name) != told:
                LOG.warning("%s: %s", folder, told)
            problems[name] = told
        return found


def _check_folder(directory: Path, failures: list[OSError]) -> None:
    """That packages may yet come where none is found: UsageError or StorageError if not."""
    for error in failures:
        if Path(error.filename) == directory:
            raise StorageError(f"can't look into {directory}: {error.strerror}") from error
    if not directory.is_dir():
        raise UsageError(f"there is no directory {directory}")
    if (directory / "index.json").is_file():
        raise UsageError(f"{directory} holds no package: beside its index.json, a package has the file oci-layout")


def _mode(path: Path) -> int:
    """What kind of file a path leads to, as `stat` tells it; 0 if there is none. OSError where that can't be told."""
    try:
        return path.stat().st_mode
    except _GONE:
        return 0


def _packages_in(directory: Path, failed: Callable[[OSError], None]) -> Iterator[tuple[str, Path]]:
    """(name, path) of each package: the directory itself, or those below it, in order. `failed` is told of folders that fail."""

    def note(error: OSError) -> None:
        if not isinstance(error, _GONE):  # one that has gone meanwhile is no failure
            failed(error)

    try:
        if not S_ISDIR(_mode(directory)):
            return
        alone = S_ISREG(_mode(directory / "oci-layout"))
    except OSError as error:
        failed(OSError(error.errno, error.strerror, os.fspath(directory)))
        return
    if alone:
        # A link's own name: what it points to may be called anything. `.` and `..` have none.
        yield (directory.name if directory.name not in ("", "..") else directory.resolve().name), directory
        return
    for folder, children, files in os.walk(directory, onerror=note):
        path = Path(folder)
        relative = path.relative_to(directory)
        if "oci-layout" in files:
            yield relative.as_posix(), path
            children.clear()
        elif len(relative.parts) >= _DEPTH:
            children.clear()
        else:
            children[:] = sorted(child for child in children if not child.startswith("."))
