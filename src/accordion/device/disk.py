"""Single files and folders of a model on disk: linked, deleted, told apart."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from accordion.errors import StorageError

__all__ = ["delete", "file_stamp", "is_full", "place_file", "remove_empty"]


def file_stamp(path: Path) -> tuple[int, ...] | None:
    """What changes when a file does; None if it can't be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def is_full(error: StorageError) -> bool:
    """Whether it was for lack of room."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)


def delete(root: Path, place: Path) -> int:
    """Deletes a file, and folders below `root` that are empty then; returns the bytes given back."""
    if not place.is_file():
        return 0
    size = place.stat().st_size
    place.unlink()
    remove_empty(root, place.parent)
    return size


def remove_empty(root: Path, folder: Path) -> None:
    """Removes folders that hold nothing any more, upwards to `root`."""
    with suppress(OSError):
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def place_file(source: Path, target: Path) -> None:
    """Makes `target` the same file as `source`, or where a disk knows no links a copy of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
