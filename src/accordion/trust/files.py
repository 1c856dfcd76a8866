"""Small files that a person names: read within bounds, and locked against others while they change."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accordion.errors import StorageError, UsageError

__all__ = ["locked", "read_file"]


def read_file(path: Path, limit: int) -> bytes:
    """At most `limit` bytes. UsageError if there is no such file or it is longer, StorageError from the disk."""
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UsageError(f"there is no file {path}") from error
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror or error}") from error
    if len(data) > limit:
        raise UsageError(f"{path} is longer than the {limit} bytes that such a file may have")
    return data


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits until no other process has the lock file `path`, and keeps it. StorageError where it can't be made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a")
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror or error}") from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
