"""A TUF repository's files under /tuf/. They are public and signed; the endpoint only carries them."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from accordion.artifact.bounded import read_file
from accordion.endpoint.descriptors import lacking
from accordion.endpoint.replies import IMMUTABLE, problem
from accordion.endpoint.tuf_export import repository_folder
from accordion.errors import StorageError, UsageError
from accordion.trust.metadata import METADATA_LIMIT, TIMESTAMP, is_metadata

__all__ = ["TufFiles"]


class TufFiles:
    """Answers for the files of one repository; nothing else of its folder is ever shown.

    UsageError if the folder is no repository.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = repository_folder(folder)

    def reply(self, request: Request) -> Response:
        """The file that is asked for, or a problem. StorageError where there is no descriptor left to read it with."""
        name = str(request.path_params["name"])
        if is_metadata(name):
            try:
                data = read_file(self.folder / name, METADATA_LIMIT)
            except (UsageError, StorageError) as error:
                if lacking(error):
                    raise
                # else it is not there, as far as anybody else is concerned
            else:
                caching = "no-cache" if name == TIMESTAMP else IMMUTABLE
                return Response(data, 200, {"Cache-Control": caching}, "application/json")
        return problem(404, "unknown", "the repository has no such file")
