"""Small files that several processes change: locked against the others meanwhile."""

from __future__ import annotations

import fcntl
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from accordion.errors import StorageError

__all__ = ["locked"]

GLANCE_S = 0.02  # between two looks whether another process has ended


@contextmanager
def locked(path: Path, within_s: float = math.inf) -> Iterator[None]:
    """Waits until no other process has the lock file `path`, and keeps it.

    StorageError where it can't be made, and where another process has it for more than `within_s` seconds.
    """
    end = time.monotonic() + within_s
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a")
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror or error}") from error
    with handle:
        while not _taken(handle):
            if time.monotonic() >= end:
                raise StorageError(f"another process has been at work with {path} for {within_s:.3g} s")
            time.sleep(GLANCE_S)
        yield


def _taken(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
