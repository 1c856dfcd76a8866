"""The forms of an answer: JSON, errors as registries and as RFC 9457 write them, and content with ranges."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from accordion.endpoint.ranges import MOST_RANGES, Unsatisfiable, parse_range
from accordion.endpoint.served import Body
from accordion.errors import StorageError

__all__ = ["IMMUTABLE", "PRIVATE", "BytesReply", "ContentReply", "json_reply", "matches", "oci_error", "prefers", "problem"]

IMMUTABLE = "public, max-age=31536000, immutable"  # for what a digest names
PRIVATE = "private, max-age=31536000, immutable"  # the same, where not everybody may have it: no shared cache keeps it
_CONDITIONS = frozenset({b"if-none-match", b"if-range", b"range"})
_REVALIDATE = "no-cache"  # for what a tag names


def json_reply(
    value: Any, *, status: int = 200, media_type: str = "application/json", headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON document. What is said here can change, so caches have to ask again."""
    body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return Response(body, status, {"Cache-Control": _REVALIDATE, **(headers or {})}, media_type)


class BytesReply:
    """Status 200 and bytes, with headers that are written already; the length is added."""

    __slots__ = ("_body", "_headers")

    def __init__(self, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self._headers, self._body = headers, body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*self._headers, (b"content-length", str(len(self._body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})


def oci_error(status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """An error as the OCI distribution specification has it."""
    return json_reply({"errors": [{"code": code, "message": message}]}, status=status, headers=headers)


def problem(status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """An error as RFC 9457 has it; `kind` is a short name for programs, `detail` one line for people."""
    value = {
        "type": f"urn:accordion:problem:{kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **more,
    }
    return json_reply(value, status=status, media_type="application/problem+json", headers=headers)


class ContentReply:
    """Sends content, whole or in part, as `Range`, `If-Range` and `If-None-Match` ask. Can be called any number of times.

    A whole file is handed to the server by its path where the server can take it, so that its bytes never come into Python.
    `whole`, where it is known, are the bytes of the content: then they are sent at once, whatever part of them. StorageError and
    TransferError where the bytes can't be had: mostly after the head was sent, but before any of them.
    """

    def __init__(
        self,
        content: Body,
        media_type: str,
        headers: Mapping[str, str],
        *,
        most_ranges: int = MOST_RANGES,
        whole: bytes | None = None,
    ) -> None:
        self.content = content
        self.most_ranges = most_ranges
        self.media_type = media_type
        self.whole = whole
        self.headers = {"ETag": content.etag, "Accept-Ranges": "bytes", **headers}
        self._all = _pairs({**self.headers, "Content-Type": media_type, "Content-Length": str(content.size)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked: dict[bytes, str] = {}
        for name, value in scope["headers"]:
            if name in _CONDITIONS:  # a list may stand in several lines (RFC 9110, section 5.3)
                asked[name] = f"{asked[name]}, {value.decode('latin-1')}" if name in asked else value.decode("latin-1")
        size = self.content.size
        if asked and matches(asked.get(b"if-none-match"), self.content.etag):
            await _start(send, 304, self.headers)
            await _end(send)
            return
        ranges = None
        # Ranges are defined for GET alone. A date in If-Range never matches: there is no Last-Modified here.
        if asked and scope["method"] == "GET" and asked.get(b"if-range", self.content.etag).strip() == self.content.etag:
            try:
                ranges = parse_range(asked.get(b"range"), size, most=self.most_ranges)
            except Unsatisfiable:
                # Without a word of its own a cache might keep this for as long as the content.
                refusal = {**self.headers, "Cache-Control": "no-store"}
                await _start(send, 416, {**refusal, "Content-Range": f"bytes */{size}", "Content-Length": "0"})
                await _end(send)
                return
        if ranges is not None and len(ranges) > 1:
            await self._send_parts(ranges, receive, send)
            return
        start, end = ranges[0] if ranges else (0, size - 1)
        if ranges:
            headers = {**self.headers, "Content-Type": self.media_type, "Content-Range": f"bytes {start}-{end}/{size}"}
            await _start(send, 206, {**headers, "Content-Length": str(end + 1 - start)})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": self._all})
        if scope["method"] == "HEAD" or size == 0:
            await _end(send)
        elif self.whole is not None:
            await _end(send, self.whole[start : end + 1])
        elif end + 1 - start == size and self.content.file is not None and "http.response.pathsend" in scope.get("extensions", {}):
            _try_to_open(self.content.file)
            await send({"type": "http.response.pathsend", "path": str(self.content.file)})
        else:
            await self._send_blocks([(b"", start, end)], b"", receive, send)

    async def _send_parts(self, ranges: list[tuple[int, int]], receive: Receive, send: Send) -> None:
        boundary = secrets.token_hex(16)
        parts = []
        for start, end in ranges:
            head = f"Content-Type: {self.media_type}\r\nContent-Range: bytes {start}-{end}/{self.content.size}"
            parts.append((f"\r\n--{boundary}\r\n{head}\r\n\r\n".encode(), start, end))
        tail = f"\r\n--{boundary}--\r\n".encode()
        length = sum(len(head) + end + 1 - start for head, start, end in parts) + len(tail)
        media_type = f"multipart/byteranges; boundary={boundary}"
        await _start(send, 206, {**self.headers, "Content-Type": media_type, "Content-Length": str(length)})
        if self.whole is not None:
            await _end(send, b"".join([*(head + self.whole[start : end + 1] for head, start, end in parts), tail]))
            return
        await self._send_blocks(parts, tail, receive, send)

    async def _send_blocks(self, parts: list[tuple[bytes, int, int]], tail: bytes, receive: Receive, send: Send) -> None:
        # Not every server fails a send to somebody who has gone, and reading on for nobody would cost the disk's time.
        gone = asyncio.ensure_future(_gone(receive))
        try:
            for head, start, end in parts:
                if head:
                    await send({"type": "http.response.body", "body": head, "more_body": True})
                async for block in self.content.blocks(start, end):
                    # A send that need not wait gives nobody else a turn; a fast client must not have the server for itself.
                    await asyncio.sleep(0)
                    if gone.done():
                        return
                    await send({"type": "http.response.body", "body": block, "more_body": True})
            await _end(send, tail)
        finally:
            gone.cancel()


def _try_to_open(path: Path) -> None:
    """StorageError if a file can't be opened: the server would answer 404 for it, as if there were none."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise StorageError(f"can't read a blob: {error.strerror or error}") from error


async def _gone(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    message: Message = {}
    while message.get("type") != "http.disconnect":
        message = await receive()


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": _pairs(headers)})


def _pairs(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


async def _end(send: Send, body: bytes = b"") -> None:
    await send({"type": "http.response.body", "body": body, "more_body": False})


def prefers(header: str | None, coding: str) -> bool:
    """Whether `Accept-Encoding` names this coding before all others. Who names it among others gets the bytes as they are."""
    name, _, weight = (header or "").lower().partition(",")[0].partition(";")
    return name.strip() == coding and weight.replace(" ", "").rstrip("0") not in ("q=", "q=0.")


def matches(header: str | None, etag: str) -> bool:
    """`If-None-Match`: a list of tags, compared weakly, or `*`."""
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return etag in tags or tags == ["*"]
