"""Files that nginx sends: behind it, the endpoint checks who may and answers `X-Accel-Redirect`, and nginx sends the file itself.

What the header names is put together here, from the prefix, the name of a package that is served, and a digest of it that is
there; nothing else of a request gets into it. `deploy/nginx.conf` has the locations that it leads to:

    PREFIX/packages/NAME/blobs/sha256/…             a blob, as it lies in its package
    PREFIX/export/v2/NAME/_accordion/stream/…       a stream, as `accordion export` wrote it
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from starlette.types import Receive, Scope, Send

from accordion.artifact.digest import is_digest
from accordion.endpoint.clients import Proxies
from accordion.endpoint.package import plain_size
from accordion.endpoint.ranges import Unsatisfiable, parse_range
from accordion.endpoint.replies import matches
from accordion.endpoint.routing import ACCORDION
from accordion.endpoint.served import Body
from accordion.errors import UsageError

__all__ = ["Accel", "AccelReply"]

_PREFIX = re.compile(r"/(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)+")


class Accel:
    """Where nginx finds files, and who is nginx: connections from `proxies`. Who comes by another way gets the bytes from here.

    `export` is a folder made by `accordion export`; without it, only streams of one layer are files.

    Raises:
        UsageError: the prefix is none, nobody is named who could be nginx, or there is no such folder.
    """

    @classmethod
    def of(cls, prefix: str | None, proxies: Proxies, export: Path | str | None) -> Accel | None:
        """What the options say; None where they say nothing. UsageError also for a folder without a prefix."""
        if prefix is not None:
            return cls(prefix, proxies, None if export is None else Path(export))
        if export is not None:
            raise UsageError("a folder of exported streams needs --accel-redirect, the prefix under which nginx finds it")
        return None

    def __init__(self, prefix: str, proxies: Proxies, export: Path | None = None) -> None:
        prefix = prefix if prefix.endswith("/") else prefix + "/"
        if not _PREFIX.fullmatch(prefix) or len(prefix) > 255:
            raise UsageError(f"{prefix!r:.80} is no prefix of a path, such as /accordion-files/")
        if not proxies.networks:
            raise UsageError("name the nginx that sends the files in this endpoint's stead, with --trusted-proxy")
        if export is not None and not (export / "v2").is_dir():
            raise UsageError(f"{export} is no folder made by `accordion export`: it has no v2")
        self.prefix, self._export = prefix, export
        self.from_nginx = lru_cache(1024)(proxies.names)  # of the address that a connection comes from

    def takes(self, scope: Scope) -> bool:
        """Whether who asks is nginx."""
        client = scope.get("client")
        return client is not None and self.from_nginx(str(client[0]))

    def blob(self, name: str, content: Body) -> str | None:
        """What nginx calls this content of the package `name`; None if it is no file of that package's own."""
        file = content.file
        return None if file is None else f"{self.prefix}packages/{name}/blobs/sha256/{file.name}"

    def stream(self, name: str, digest: str, content: Body) -> str | None:
        """What nginx calls the stream of the version with this digest; None if it is no file, or not all of it is there."""
        if (alone := self.blob(name, content)) is not None:
            return alone
        if self._export is None or not is_digest(digest):
            return None
        path = f"v2/{name}/{ACCORDION}/stream/{digest}"
        return f"{self.prefix}export/{path}" if plain_size(self._export / path) == content.size else None


class AccelReply:
    """Says where the content lies. nginx sees to ranges; the tag, and whether the client has the bytes already, are said here."""

    def __init__(self, path: str, content: Body, media_type: str, headers: Mapping[str, str], *, most_ranges: int) -> None:
        self._path, self._content, self._most_ranges = path, content, most_ranges
        self._headers = {"ETag": content.etag, **headers}  # Accept-Ranges is nginx's to say
        self._media_type = media_type

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = {name: value.decode("latin-1") for name, value in scope["headers"]}
        headers, status = self._headers, 304
        if not matches(asked.get(b"if-none-match"), self._content.etag):
            status = 200
            headers = {**headers, "Content-Type": self._media_type, "X-Accel-Redirect": self._path, "Content-Length": "0"}
            if scope["method"] == "GET":
                scope.get("accordion", {})["elsewhere"] = self._bytes(asked)
        pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _bytes(self, asked: Mapping[bytes, str]) -> int:
        """How many of the content's bytes nginx is going to send, for the metrics."""
        size = self._content.size
        if asked.get(b"if-range", self._content.etag).strip() != self._content.etag:
            return size
        try:
            ranges = parse_range(asked.get(b"range"), size, most=self._most_ranges)
        except Unsatisfiable:
            return 0
        return size if ranges is None else sum(end + 1 - start for start, end in ranges)
