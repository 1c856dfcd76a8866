"""Small files that several processes change: locked against the others meanwhile."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accordion.errors import StorageError

__all__ = ["locked"]


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
