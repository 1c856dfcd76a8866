"""A TUF repository's files under /tuf/, served and exported. They are public and signed; the endpoint only carries them."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from accordion.artifact.atomic import write_file
from accordion.endpoint.replies import IMMUTABLE, problem
from accordion.errors import StorageError, UsageError
from accordion.trust.files import read_file
from accordion.trust.metadata import METADATA_LIMIT, TIMESTAMP, is_metadata

__all__ = ["TufFiles", "export_tuf"]


class TufFiles:
    """Answers for the files of one repository; nothing else of its folder is ever shown.

    UsageError if the folder is no repository.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = _repository(folder)

    def reply(self, request: Request) -> Response:
        """The file that is asked for, or a problem."""
        name = str(request.path_params["name"])
        if is_metadata(name):
            try:
                data = read_file(self.folder / name, METADATA_LIMIT)
            except (UsageError, StorageError):
                pass  # not there, as far as anybody else is concerned
            else:
                caching = "no-cache" if name == TIMESTAMP else IMMUTABLE
                return Response(data, 200, {"Cache-Control": caching}, "application/json")
        return problem(404, "unknown", "the repository has no such file")


def export_tuf(folder: Path, out: Path) -> list[Path]:
    """Copies a repository's files to `out/tuf`, the timestamp last: whoever follows it finds all that it names.

    Raises:
        UsageError: the folder is no repository.
        StorageError: the disk failed.
    """
    names = sorted(path.name for path in _repository(folder).iterdir() if is_metadata(path.name))
    target = out / "tuf"
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"can't make {target}: {error.strerror or error}") from error
    for name in sorted(names, key=lambda one: one == TIMESTAMP):
        write_file(target / name, read_file(folder / name, METADATA_LIMIT))
    return [target / name for name in names]


def _repository(folder: Path) -> Path:
    if not (folder / TIMESTAMP).is_file():
        raise UsageError(f"{folder} is no repository: it has no {TIMESTAMP} (`accordion tuf init` makes one)")
    return folder
