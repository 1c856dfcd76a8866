"""One process at a time changes a model folder; readers need no lock."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from accordion.artifact.atomic import UNFINISHED
from accordion.device.exchange import LOCK, finish_exchange
from accordion.errors import StorageError, UsageError

__all__ = ["locked"]

LOCK_TRIES = 10


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other changes out of a model folder, which is made if need be. The lock goes with the process, however it ends."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file: name a folder for the model")
    new = not path.exists()
    fresh = new or not any(path.iterdir())
    foreign = (path / "run.json").exists()  # a training's folder has a lock of the same name
    if foreign or (not fresh and not any((path / name).exists() for name in ("state.json", "manifest.json", LOCK))):
        raise UsageError(f"{path} holds something else: name a new or an empty folder for the model")
    with _lock(path):
        finish_exchange(path)
        for left in path.rglob(f"{UNFINISHED}*"):  # of a write that was killed
            left.unlink(missing_ok=True)
        try:
            yield
        finally:
            if fresh and [left.name for left in path.iterdir()] == [LOCK]:  # nothing came of it
                if new:
                    shutil.rmtree(path, ignore_errors=True)
                else:  # an empty folder that somebody has prepared, with an owner and a mode of its own
                    (path / LOCK).unlink(missing_ok=True)


def _lock(path: Path) -> IO[str]:
    """The lock file, held.

    A fetch of which nothing came takes its folder away again, lock file and all: whoever opened that file just before begins anew.
    """
    for _ in range(LOCK_TRIES):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"can't make {path}: {error.strerror or error}") from error
        try:
            handle = (path / LOCK).open("w")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StorageError(f"can't write into {path}: {error.strerror or error}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.close()
            raise StorageError(
                f"another fetch, upgrade or shed is at work in {path}: wait for it, or name another folder"
            ) from error
        with suppress(OSError):
            if os.path.samestat(os.fstat(handle.fileno()), (path / LOCK).stat()):
                return handle
        handle.close()
    raise StorageError(f"can't write into {path}: it is taken away again and again")
