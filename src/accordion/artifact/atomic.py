"""Files that appear whole or not at all, a power cut included."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from accordion.errors import StorageError

__all__ = ["write_file", "write_named_by_content"]

T = TypeVar("T")
_MODE = 0o644  # before the umask, as if the file had been opened plainly; temporary files are 0600


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
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as stream:
                for chunk in chunks:
                    stream.write(chunk)
                stream.flush()
                if sync:
                    os.fsync(stream.fileno())
            os.chmod(temporary, _MODE & ~_umask())  # noqa: PTH101
            path = name()
            os.replace(temporary, path)  # noqa: PTH105
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"can't write into {folder}: {error.strerror or error}") from error
    return path


def _umask() -> int:
    """The process's umask; Linux says it in a file, elsewhere it can only be read by setting it, which threads would notice."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except (OSError, ValueError):
        pass
    return 0o022
