"""Another version takes the place of the one that is there.

Once it is whole in `.next`, a marker is written there: the one step that decides. Then its files move into their place. Whoever
finds the marker waits for who is at work there, or, where that was killed, moves the rest.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path

from accordion.artifact.atomic import sync_all, write_file
from accordion.artifact.strict_json import Fields, dump, parse_object
from accordion.device.disk import remove_empty
from accordion.device.state import STATE_LIMIT, State, check_own_path
from accordion.errors import FormatError, StorageError
from accordion.trust.proof import PROOF, PROOF_LIMIT

__all__ = ["INCOMING", "LOCK", "NEXT", "decide", "finish_exchange", "read_bounded", "settle"]

NEXT, MARKER, INCOMING, LOCK = ".next", "COMMIT", ".incoming", ".lock"
EXCHANGE_S = 60.0  # how long a reader waits for another process to move a new version's files into their place
GLANCE_S = 0.01  # between two looks whether it has


def decide(new: Path, old_files: list[str]) -> None:
    """The version in `new` is whole and takes the place of the one that has `old_files`. StorageError: nothing was decided.

    Its files go to the disk first, all of them: those before are deleted next, and a power cut must leave one version or the other.
    """
    sync_all((*new.rglob("*"), new))
    write_file(new / MARKER, dump({"old": old_files}))


def finish_exchange(root: Path) -> None:
    """Moves a decided next version into its place; harmless to repeat from the beginning."""
    new = root / NEXT
    if not (new / MARKER).exists():
        return
    try:
        try:
            old_files = {check_own_path(path, "a file of the version before") for path in _old_files(new / MARKER)}
            state = State.parse(read_bounded(new / "state.json", STATE_LIMIT), str(new / "state.json"))
        except FormatError as error:
            if not _is_whole(root):
                raise FormatError(f"{error}, so {root} is neither of two versions: remove it, and fetch the model again") from error
            (new / MARKER).unlink()  # nothing of it has been moved: the version before is still the one
            shutil.rmtree(new, ignore_errors=True)
            return
        for path in old_files - set(state.files):  # first: a file of old may lie where the new version has a folder
            (root / path).unlink(missing_ok=True)
            remove_empty(root, (root / path).parent)
        for path in state.files:
            if (new / path).exists():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(new / path, root / path)  # noqa: PTH105
        if (new / PROOF).exists():
            write_file(root / PROOF, read_bounded(new / PROOF, PROOF_LIMIT))
        else:
            (root / PROOF).unlink(missing_ok=True)
        for name in ("manifest.json", "state.json"):
            write_file(root / name, read_bounded(new / name, STATE_LIMIT))
        shutil.rmtree(root / INCOMING, ignore_errors=True)
        # The marker goes last of all that matters: until then a repetition finds its way.
        (new / MARKER).unlink()
        shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"can't put the new version of {root} in its place: {error.strerror or error}") from error


def _is_whole(root: Path) -> bool:
    """Whether all files are there that the state of `root` names."""
    try:
        state = State.parse(read_bounded(root / "state.json", STATE_LIMIT), str(root / "state.json"))
        return all((root / path).stat().st_size == entry.size for path, entry in state.files.items())
    except (FormatError, StorageError, OSError):
        return False


def settle(root: Path) -> None:
    """Returns when no exchange of versions is under way in `root`: another process ends it, or, where that was killed, this one."""
    begin = time.monotonic()
    while (root / NEXT / MARKER).exists():
        try:
            with (root / LOCK).open("a") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                finish_exchange(root)
        except BlockingIOError as error:
            if time.monotonic() - begin > EXCHANGE_S:
                raise StorageError(f"another process has been changing {root} to another version for {EXCHANGE_S:.0f} s") from error
            time.sleep(GLANCE_S)
        except OSError as error:
            raise StorageError(f"can't put the new version of {root} in its place: {error.strerror or error}") from error


def _old_files(marker: Path) -> tuple[str, ...]:
    """What the version before had: the marker says it, since a repetition may find the new state in place already."""
    where = str(marker)
    return Fields(parse_object(read_bounded(marker, STATE_LIMIT), where, STATE_LIMIT), where).texts("old")


def read_bounded(path: Path, limit: int) -> bytes:
    """A file of at most `limit` bytes. FormatError where it is missing or longer, StorageError where the disk failed."""
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except FileNotFoundError as error:
        raise FormatError(f"{path} is missing") from error
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror or error}") from error
    if len(data) > limit:
        raise FormatError(f"{path} is longer than the {limit} bytes that it may have")
    return data
