"""Files that appear whole or not at all, a power cut included."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from accordion.errors import StorageError

__all__ = ["INCOMING", "UNFINISHED", "held", "sync_all", "write_file", "write_named_by_content"]

T = TypeVar("T")
UNFINISHED = ".new-"  # how the name of a file begins that is being written; one that was killed leaves such a file
INCOMING = ".incoming"  # how the name of a pull's folder begins, which it holds for as long as it is at work there
_MODE = 0o644  # before the umask, as if the file had been opened plainly; Python's temporary files are 0600


def write_file(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write `data` to `path`, replacing what is there in one step. The folder must exist.

    Without `sync` that holds when the process is killed, but not when the power is cut: for content that is checked before use.

    Raises:
        StorageError: the disk is full, read-only or not permitted; what was there is untouched.
    """
    write_named_by_content(path.parent, [data], lambda: path, sync=sync)


def write_named_by_content(folder: Path, chunks: Iterable[bytes], name: Callable[[], Path], *, sync: bool = True) -> Path:
    """Write chunks to a temporary file in `folder`, then move it to what `name()` says once all are written.

    Raises:
        StorageError: the disk is full, read-only or not permitted; nothing is left behind.
    """
    try:
        handle, temporary = _new_file(folder)
        try:
            with os.fdopen(handle, "wb") as stream:
                for chunk in chunks:
                    stream.write(chunk)
                stream.flush()
                if sync:
                    os.fsync(stream.fileno())
            path = name()
            os.replace(temporary, path)  # noqa: PTH105
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"can't write into {folder}: {error.strerror or error}") from error
    return path


def sync_all(paths: Iterable[Path]) -> None:
    """Files and folders onto the disk, before something names them that is synced. StorageError."""
    for path in paths:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise StorageError(f"can't write {path}: {error.strerror or error}") from error


@contextmanager
def held(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """While this process changes what it has just read in `folder`, nobody else does who asks in the same way; he waits.

    Whether it is held: always, where the file system knows locks and one may `wait`. StorageError if there is no such folder.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(f"can't look into {folder}: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            got = True
        except OSError:
            got = False
        yield got
    finally:
        os.close(handle)


def _new_file(folder: Path) -> tuple[int, Path]:
    """A file under a name of its own, open for writing."""
    while True:
        path = folder / f"{UNFINISHED}{secrets.token_hex(8)}"
        with suppress(FileExistsError):
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE), path
