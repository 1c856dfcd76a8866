"""Everything under /v2/: the pull side of the OCI distribution protocol, and the two paths of its own, stream and plan."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from accordion.artifact.digest import is_digest
from accordion.endpoint.accel import Accel, AccelReply
from accordion.endpoint.catalog import Catalog
from accordion.endpoint.gate import CHALLENGE, caller_of, permit, refuse
from accordion.endpoint.metrics import Metrics
from accordion.endpoint.package import INDEX_MEDIA_TYPE
from accordion.endpoint.planner import Planner
from accordion.endpoint.recent import RecentReplies
from accordion.endpoint.replies import IMMUTABLE, PRIVATE, ContentReply, json_reply, matches, oci_error, prefers, problem
from accordion.endpoint.routing import Target, parse_target
from accordion.endpoint.served import Served
from accordion.endpoint.transfers import Transfers
from accordion.errors import StorageError

__all__ = ["Registry"]

LOG = logging.getLogger("accordion.endpoint")

_VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}
_OCTETS = "application/octet-stream"
_OWN = ("stream", "plan")  # answer errors as RFC 9457, the others as registries do
_READ = ("GET", "HEAD")


class Registry:
    """An ASGI application for the paths under /v2/. Whoever asks gets as far as the caller's rights, which the gate has left."""

    def __init__(
        self,
        catalog: Catalog,
        planner: Planner,
        transfers: Transfers,
        metrics: Metrics,
        *,
        most_ranges: int,
        accel: Accel | None = None,
    ) -> None:
        """`accel`: some files are nginx's to send."""
        self.catalog = catalog
        self.planner = planner
        self.transfers = transfers
        self.metrics = metrics
        self.most_ranges = most_ranges
        self.accel = accel
        self._recent = RecentReplies(_OCTETS, most_ranges=most_ranges, keep=not transfers.through_python)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.answer(scope["path_params"].get("rest", ""), scope, receive, send)

    async def answer(self, rest: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers for the path /v2/`rest`."""
        target = parse_target(rest)
        scope.get("accordion", {})["route"] = target.kind
        try:
            reply = await self._reply(target, scope, receive)
        except StorageError as error:
            LOG.warning("%s: %s", target.name, error)
            self.catalog.doubt(target.name)
            reply = self.transfers.unavailable()
        await reply(scope, receive, _without_body(send) if scope["method"] == "HEAD" else send)

    async def _reply(self, target: Target, scope: Scope, receive: Receive) -> ASGIApp:
        """StorageError where something is there, or may be, and can't be read just now."""
        method = scope["method"]
        allowed = ("POST",) if target.kind == "plan" else _READ
        if target.kind == "unknown" and method in _READ:
            return oci_error(404, "NAME_UNKNOWN", "there is nothing at this path")
        if method not in allowed:
            headers = {"Allow": ", ".join(allowed)}
            detail = f"{method} is not allowed here; packages are only read, they are written with 'accordion package'"
            if target.kind == "plan":
                detail = f"{method} is not allowed here; a plan is asked for by POST, with the limits as a JSON object"
            if target.kind in _OWN:
                return problem(405, "method", detail, headers=headers)
            return oci_error(405, "UNSUPPORTED", detail, headers=headers)
        right = "plan" if target.kind == "plan" else "pull"
        if (refusal := permit(scope, self.metrics, right, target.name or None)) is not None:
            return refusal
        if target.kind == "base":
            return _base(scope)
        if target.kind == "catalog":
            return await self._catalog(HttpRequest(scope))
        snapshot = await self.catalog.snapshot(target.name)
        if snapshot is None:
            detail = "no package of this name is served here"
            return problem(404, "unknown", detail) if target.kind in _OWN else oci_error(404, "NAME_UNKNOWN", detail)
        scope.get("accordion", {})["package"] = target.name
        if target.kind == "plan":
            return await self.planner.reply(target.name, snapshot, scope, receive)
        if target.kind == "tags":
            return self._page(
                HttpRequest(scope), sorted(snapshot.tags), {"name": target.name}, "tags", f"/v2/{target.name}/tags/list"
            )
        return await self._by_reference(target, snapshot, scope)

    async def _by_reference(self, target: Target, snapshot: Served, scope: Scope) -> ASGIApp:
        if target.kind == "manifest":
            return await self._manifest(target, snapshot, HttpRequest(scope))
        if not is_digest(target.reference):
            detail = "this is not a digest: sha256: and 64 lower-case hexadecimal digits"
            return problem(400, "digest", detail) if target.kind in _OWN else oci_error(400, "DIGEST_INVALID", detail)
        if target.kind == "stream":
            return await self._stream(target, snapshot, scope)
        if target.kind == "referrers":
            return await self._referrers(target.reference, snapshot, HttpRequest(scope))
        if (content := snapshot.blob(target.reference)) is None:
            return oci_error(404, "BLOB_UNKNOWN", "this package has no such blob")
        caching = _caching(scope, target)
        headers = {"Docker-Content-Digest": target.reference, "Cache-Control": caching, **_VERSION}
        if self.accel is not None and self.accel.takes(scope) and (path := self.accel.blob(target.name, content)) is not None:
            return AccelReply(path, content, _OCTETS, headers, most_ranges=self.most_ranges)
        reply = await self._recent.reply((target.name, target.reference, caching), content, headers)
        return self.transfers.watched(reply, partial(self.catalog.doubt, target.name))

    async def _manifest(self, target: Target, snapshot: Served, request: HttpRequest) -> ASGIApp:
        reference = target.reference
        if is_digest(reference) and not snapshot.knows(reference):
            document = await asyncio.to_thread(snapshot.document, reference)
        else:
            document = snapshot.document(reference)
        if document is None:
            return oci_error(404, "MANIFEST_UNKNOWN", "this package has no manifest of this tag or digest")
        headers = {
            "ETag": f'"{document.digest}"',
            "Docker-Content-Digest": document.digest,
            "Cache-Control": _caching(request.scope, target) if is_digest(reference) else "no-cache",
            **_VERSION,
        }
        body = document.raw
        if document.packed is not None:
            headers["Vary"] = "Accept-Encoding"
            if prefers(request.headers.get("accept-encoding"), "zstd"):  # half of a manifest is said again in each layer
                headers |= {"ETag": f'"{document.digest}+zstd"', "Content-Encoding": "zstd"}
                body = document.packed
        if matches(", ".join(request.headers.getlist("if-none-match")), headers["ETag"]):
            return Response(None, 304, headers)
        return Response(body, 200, headers, document.media_type)

    async def _stream(self, target: Target, snapshot: Served, scope: Scope) -> ASGIApp:
        digest = target.reference
        version = snapshot.version(digest) if snapshot.knows(digest) else await asyncio.to_thread(snapshot.version, digest)
        if version is None:
            return problem(404, "unknown", "this package has no model version of this digest")
        headers, accel = {"Cache-Control": _caching(scope, target)}, self.accel
        if accel is not None and accel.takes(scope) and (path := accel.stream(target.name, digest, version.stream)) is not None:
            return AccelReply(path, version.stream, _OCTETS, headers, most_ranges=self.most_ranges)
        reply = ContentReply(version.stream, _OCTETS, headers, most_ranges=self.most_ranges)
        return self.transfers.watched(reply, partial(self.catalog.doubt, target.name))

    async def _referrers(self, digest: str, snapshot: Served, request: HttpRequest) -> ASGIApp:
        manifests = await asyncio.to_thread(snapshot.referrers, digest)
        headers = dict(_VERSION)
        if (wanted := request.query_params.get("artifactType")) is not None:
            manifests = [one for one in manifests if one.get("artifactType") == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        value = {"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": manifests}
        return json_reply(value, media_type=INDEX_MEDIA_TYPE, headers=headers)

    async def _catalog(self, request: HttpRequest) -> ASGIApp:
        await asyncio.to_thread(self.catalog.refresh)
        caller = caller_of(request.scope)
        names = [name for name in await asyncio.to_thread(self.catalog.names) if caller.may("pull", name)]
        return self._page(request, names, {}, "repositories", "/v2/_catalog")

    def _page(self, request: HttpRequest, items: Sequence[str], value: dict[str, Any], field: str, path: str) -> Response:
        """A list, of at most `n` items after `last` where the request says so, with a link to what follows."""
        if (last := request.query_params.get("last")) is not None:
            items = [item for item in items if item > last]
        headers = dict(_VERSION)
        if (wanted := request.query_params.get("n")) is not None:
            if not (wanted.isascii() and wanted.isdigit() and len(wanted) < 10):
                return oci_error(400, "PAGINATION_NUMBER_INVALID", "n is not a number of items, 0 or more")
            page = items[: int(wanted)]
            if page and len(page) < len(items):
                headers["Link"] = f'<{path}?{urlencode({"n": wanted, "last": page[-1]})}>; rel="next"'
            items = page
        return json_reply({**value, field: list(items)}, headers=headers)


def _base(scope: Scope) -> Response:
    """That this is a registry. Where there are tokens, who has shown none is asked for one, whatever is open to everybody.

    Clients that know docker's ways heed that question here alone: without it they would keep a token that they have to themselves.
    Those that have none go on without; only docker's own does not.
    """
    if caller_of(scope).named:
        return json_reply({}, headers=_VERSION)
    detail = "who has a token shows it: Authorization: Bearer …; what is open to everybody is had without"
    return refuse(401, "unauthenticated", detail, headers={"WWW-Authenticate": CHALLENGE, **_VERSION})


def _caching(scope: Scope, target: Target) -> str:
    """Who may keep what a digest names. `public` would let a shared cache give to anybody what a token was asked for."""
    return IMMUTABLE if caller_of(scope).shares(target.name) else PRIVATE


def _without_body(send: Send) -> Send:
    """HEAD answers with GET's headers and nothing after them."""

    async def sender(message: Message) -> None:
        if message["type"] == "http.response.body":
            if message.get("more_body", False):
                return
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await send(message)

    return sender
