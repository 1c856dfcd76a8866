"""A TUF repository's files as a static folder beside exported packages."""

from __future__ import annotations

from pathlib import Path

from accordion.artifact.atomic import write_file
from accordion.artifact.bounded import read_file
from accordion.errors import StorageError, UsageError
from accordion.trust.metadata import METADATA_LIMIT, TIMESTAMP, is_metadata

__all__ = ["export_tuf", "repository_folder"]


def export_tuf(folder: Path, out: Path) -> list[Path]:
    """Copies a repository's files to `out/tuf`, the timestamp last: whoever follows it finds all that it names.

    Raises:
        UsageError: the folder is no repository.
        StorageError: the disk failed.
    """
    names = sorted(path.name for path in repository_folder(folder).iterdir() if is_metadata(path.name))
    target = out / "tuf"
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"can't make {target}: {error.strerror or error}") from error
    for name in sorted(names, key=lambda one: one == TIMESTAMP):
        write_file(target / name, read_file(folder / name, METADATA_LIMIT))
    return [target / name for name in names]


def repository_folder(folder: Path) -> Path:
    """`folder`, if it is a repository; UsageError otherwise."""
    if not (folder / TIMESTAMP).is_file():
        raise UsageError(f"{folder} is no repository: it has no {TIMESTAMP} (`accordion tuf init` makes one)")
    return folder
