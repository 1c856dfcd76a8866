"""Files that a person names, read within bounds."""

from __future__ import annotations

from pathlib import Path

from accordion.errors import StorageError, UsageError

__all__ = ["read_file"]


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
