"""One repository in a registry, over HTTP (OCI distribution specification 1.1). Everything that arrives is bounded and checked."""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import aiohttp

from accordion.artifact.archive import decompress
from accordion.artifact.digest import Verifier, is_digest, sha256_digest
from accordion.artifact.layout import belongs_to_a_version
from accordion.artifact.manifest import MANIFEST_LIMIT, MANIFEST_MEDIA_TYPE, Descriptor
from accordion.artifact.strict_json import parse_object
from accordion.errors import AccordionError, DigestError, FormatError, TransferError, UnmeetableError, UsageError
from accordion.outside import CACERT_VARIABLE
from accordion.registry.auth import Credentials, bearer_token
from accordion.registry.beside import in_daemon
from accordion.registry.docker_config import config_files, from_docker
from accordion.registry.http import Http, read_at_most, sent_on
from accordion.registry.reference import Reference

__all__ = ["NOT_THERE", "PERHAPS_NOT_THERE", "RegistryClient"]

SMALL_LIMIT = 2**20  # bytes of a list of tags
MOST_PAGES = 100  # of such a list
_NEXT = re.compile(r'<([^<>]+)>\s*;\s*rel="?next"?')
PLAN_LIMIT = 8 * 2**20  # bytes; a plan lists its layers
CHUNK = 2**16
LONGEST_WAIT_S = 10.0  # who says that it will take longer is reported instead
MOST_WAITS = 3
NOT_THERE = (404,)
NOT_ALLOWED = (401, 403)
PERHAPS_NOT_THERE = (403, 404)
"""Of what need not be there: object stores say 403 of what is not, and networks that distribute GET alone say it to a POST. Whoever
may not read at all is told so at the manifest."""


class RegistryClient:
    """An asynchronous context.

    Errors: TransferError (the network, the registry), UsageError (an unknown name), ContentError (not what was promised).
    """

    def __init__(self, target: Reference, credentials: Credentials | None = None) -> None:
        """`credentials` left out: what the environment says, else what docker's and podman's files know of the host. These are
        looked at when the registry wants to know who asks, and not before: a helper that they name may be slow, or gone.
        """
        self.target, self.credentials = target, credentials
        self._http: Http | None = None
        self._authorization: str | None = None

    async def __aenter__(self) -> Self:
        if self.credentials is None:
            self.credentials = Credentials.from_environment()
        self._http = Http()
        await self._http.open()
        if self.credentials is not None:
            self._authorization = self.credentials.header()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._http is not None:
            await self._http.close()

    async def ping(self) -> None:
        """Opens a connection that a request made at the same time as another will find. Never fails: that request would say why."""
        if self._http is not None:
            headers = {"Authorization": self._authorization} if self._authorization else None
            with suppress(aiohttp.ClientError, TimeoutError, AccordionError):
                async with self._http.request("GET", f"{self.target.base}/v2/", headers=headers) as answer:
                    await answer.content.read(SMALL_LIMIT)

    async def tags(self) -> list[str]:
        """The tags of the repository, on however many pages; UsageError if the registry does not know it."""
        found: dict[str, None] = {}
        following: str | None = "tags/list"
        for _ in range(MOST_PAGES):
            if following is None:
                break
            page, following = await self._tags_page(following)
            found.update(dict.fromkeys(page))
        return list(found)

    async def _tags_page(self, path: str) -> tuple[list[str], str | None]:
        """Some of the tags, and where the next ones are, if there are any."""
        async with self._ask("GET", path, allow=NOT_THERE) as answer:
            if answer.status == 404:
                raise UsageError(f"{self.target.base} has no package {self.target.name!r}")
            raw = await self._body(answer, SMALL_LIMIT)
            link = _NEXT.search(answer.headers.get("Link", ""))
            following = None if link is None else self._here(str(answer.url), link[1])
        tags = parse_object(raw, f"the tags of {self.target.name}", SMALL_LIMIT).get("tags") or []
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise FormatError(f"the tags of {self.target.name} at {self.target.base} are not texts")
        return tags, following

    def _here(self, url: str, link: str) -> str | None:
        """A link of an answer as an address at this very registry, which behind a proxy may not know what it is called."""
        try:
            parts = urlsplit(urljoin(url, link))
        except ValueError:
            return None
        return f"{self.target.base}{parts.path}?{parts.query}" if parts.path.startswith("/v2/") else None

    async def resolve(self) -> str:
        """The reference asked for; left out: `latest`, else the only tag. UsageError if there are several, or none."""
        if self.target.reference is not None:
            return self.target.reference
        tags = [tag for tag in await self.tags() if not belongs_to_a_version(tag)]
        if "latest" in tags or len(tags) == 1:
            return "latest" if "latest" in tags else tags[0]
        where = f"{self.target.base}/{self.target.name}"
        raise UsageError(f"say which version of {where} you mean: {', '.join(tags[:10])}" if tags else f"{where} is empty")

    async def manifest(self, reference: str) -> bytes | None:
        """The exact bytes of a manifest, checked against the digest if `reference` is one; None if there is none."""
        found = await self.manifest_as_sent(reference)
        return None if found is None else found[0]

    async def manifest_as_sent(self, reference: str, *, absent: tuple[int, ...] = NOT_THERE) -> tuple[bytes, int] | None:
        """As `manifest`, and how many bytes of it crossed the network: endpoints send it compressed to those who ask for that.

        None at the answers `absent`.
        """
        headers = {"Accept": MANIFEST_MEDIA_TYPE, "Accept-Encoding": "zstd"}
        async with self._ask("GET", f"manifests/{reference}", allow=absent, headers=headers) as answer:
            if answer.status in absent:
                return None
            raw = await self._body(answer, MANIFEST_LIMIT)
            promised = reference if is_digest(reference) else answer.headers.get("Docker-Content-Digest")
            encoding = answer.headers.get("Content-Encoding", "identity").lower()
        sent = len(raw)
        if encoding == "zstd":
            raw = decompress(raw, limit=MANIFEST_LIMIT, what=f"the manifest {reference} from {self.target.base}")
        elif encoding != "identity":
            raise FormatError(
                f"{self.target.base} sent the manifest {reference} encoded as {encoding[:40]!r}, which was not asked for"
            )
        if promised is not None and promised != sha256_digest(raw):
            raise DigestError(f"the manifest {reference} from {self.target.base} is corrupt: its digest is {sha256_digest(raw)}")
        return raw, sent

    async def blob(self, descriptor: Descriptor) -> AsyncIterator[bytes]:
        """The pieces of a blob as they arrive; DigestError before the last one is given out if they are not what was promised."""
        verifier = Verifier(descriptor.digest, descriptor.size, f"the blob {descriptor.digest}")
        async with self._ask("GET", f"blobs/{descriptor.digest}") as answer:
            try:
                async for chunk in answer.content.iter_chunked(CHUNK):
                    verifier.update(chunk)
                    if not verifier.missing:
                        verifier.finish()
                    yield chunk
            except (aiohttp.ClientError, TimeoutError) as error:
                raise TransferError(f"{self.target.base} broke off while sending {descriptor.digest}: {_reason(error)}") from error
        if verifier.missing:
            raise TransferError(
                f"{self.target.base} sent {verifier.received} of the {descriptor.size} bytes of {descriptor.digest}"
            )

    async def plan(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """An endpoint's answer to a request; None where nobody plans (a plain registry, a file server), where this client may not
        ask for plans, or where nobody has that model: whoever asks for its manifest then is told so.

        UnmeetableError, with the nearest plan, if no configuration keeps the limits. UsageError if the request is refused; one that
        names what is `held` also where that is not known.
        """
        raw = json.dumps(dict(request)).encode()
        headers = {"Content-Type": "application/json"}
        allow = (400, *NOT_ALLOWED, 404, 405, 409, 422, 501)
        async with self._ask("POST", "_accordion/plan", allow=allow, headers=headers, body=lambda: raw, repeatable=True) as answer:
            kind = answer.headers.get("Content-Type", "").partition(";")[0]
            if answer.status in NOT_ALLOWED or (answer.status in allow and kind != "application/problem+json"):
                return None
            data = parse_object(await self._body(answer, PLAN_LIMIT), f"the plan of {self.target}", PLAN_LIMIT)
        if answer.status == 200:
            return data
        if answer.status == 404 and request.get("held") is None:
            return None
        detail = " ".join(str(data.get("detail") or data.get("title") or "it refuses this request")[:500].split())
        if answer.status == 409:
            nearest = data.get("nearest")
            limit = str(data.get("limit") or "limits")[:40]
            raise UnmeetableError(detail, limit=limit, nearest=nearest if isinstance(nearest, dict) else None)
        raise UsageError(f"{self.target.base}: {detail}")

    async def stream(self, manifest: str, start: int, end: int) -> AsyncIterator[bytes] | None:
        """Bytes `start` to `end` (inclusive) of a version's stream, as they arrive; None where there is no stream, and where a
        server that knows no ranges would send more of it than that.

        Every one of them, or TransferError. What they hold is not checked here.
        """
        pieces = self._range(f"_accordion/stream/{manifest}", start, end, absent=PERHAPS_NOT_THERE, more=False)
        try:
            first = await anext(pieces)
        except StopAsyncIteration:
            return None

        async def all_pieces() -> AsyncIterator[bytes]:
            try:
                yield first
                async for piece in pieces:
                    yield piece
            finally:
                await pieces.aclose()

        return all_pieces()

    async def blob_range(self, descriptor: Descriptor, start: int, end: int | None = None) -> AsyncIterator[bytes]:
        """A blob's bytes from `start` to `end` (inclusive; left out: the last), as they arrive and unchecked.

        TransferError unless all of them come.
        """
        end = descriptor.size - 1 if end is None else end
        if start > end:
            return
        found = False
        async for piece in self._range(f"blobs/{descriptor.digest}", start, end):
            found = True
            yield piece
        if not found:
            raise TransferError(f"{self.target.base} has no blob {descriptor.digest}", status=404)

    async def _range(
        self, path: str, start: int, end: int, *, absent: tuple[int, ...] = NOT_THERE, more: bool = True
    ) -> AsyncGenerator[bytes]:
        """Exactly the bytes `start` to `end`; nothing where the path is not known, which the answers `absent` say.

        Nothing either where that takes `more` than these bytes and must not.
        """
        missing = end - start + 1
        async with self._ask("GET", path, expect=(200, 206), allow=absent, headers={"Range": f"bytes={start}-{end}"}) as answer:
            if answer.status in absent:
                return
            skip = 0
            if answer.status == 200:  # a server that knows no ranges sends everything
                skip = start
                if not more and (start or answer.content_length != missing):
                    return
            elif not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-{end}/"):
                raise TransferError(f"{self.target.base} answered with other bytes than the {start}-{end} asked for")
            try:
                async for chunk in answer.content.iter_any():
                    dropped = min(skip, len(chunk))
                    skip -= dropped
                    piece = chunk[dropped : dropped + missing]
                    missing -= len(piece)
                    if piece:
                        yield piece
                    if not missing:
                        break
            except (aiohttp.ClientError, TimeoutError) as error:
                raise TransferError(f"{self.target.base} broke off while sending: {_reason(error)}") from error
        if missing:
            raise TransferError(f"{self.target.base} broke off {missing} bytes before the end")

    async def has_blob(self, digest: str) -> bool:
        """Whether the repository has this blob already."""
        async with self._ask("HEAD", f"blobs/{digest}", allow=NOT_THERE) as answer:
            return answer.status == 200

    async def put_blob(self, digest: str, path: Path, progress: Callable[[int], None] = lambda sent: None) -> None:
        """Sends a file as one blob: a POST that opens the upload, a PUT with all of it."""
        async with self._ask("POST", "blobs/uploads/", expect=(202,)) as answer:
            location = answer.headers.get("Location")
        if not location:
            raise TransferError(f"{self.target.base} opened an upload without saying where (no Location)")
        url = sent_on(f"{self._root}/blobs/uploads/", location)
        url += ("&" if "?" in url else "?") + f"digest={digest}"
        headers = {"Content-Length": str(path.stat().st_size), "Content-Type": "application/octet-stream"}
        async with self._ask("PUT", url, expect=(201,), headers=headers, body=lambda: _pieces(path, progress)):
            pass

    async def put_manifest(self, reference: str, raw: bytes, media_type: str = MANIFEST_MEDIA_TYPE) -> None:
        """Sends a manifest under a tag; its blobs must be there."""
        async with self._ask(
            "PUT", f"manifests/{reference}", expect=(201,), headers={"Content-Type": media_type}, body=lambda: raw
        ):
            pass

    @property
    def _root(self) -> str:
        return f"{self.target.base}/v2/{self.target.name}"

    @asynccontextmanager
    async def _ask(
        self,
        method: str,
        path: str,
        *,
        expect: tuple[int, ...] = (200,),
        allow: tuple[int, ...] = (),
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Any] = lambda: None,
        repeatable: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request, a second one where the registry first wants a token. `body` is called for each.

        A request that is `repeatable` is made once more when the connection is closed before any answer: a server may close one
        that was idle just as the request is on its way. Where the method alone says that it is repeatable, the library does so.
        """
        if self._http is None:
            raise RuntimeError("a RegistryClient is used within `async with`")
        url = path if "://" in path else f"{self._root}/{path}"
        asked_for_token, waited = False, 0
        try:
            while True:
                sent = dict(headers or {})
                if self._authorization and url.startswith(self.target.base + "/"):
                    sent["Authorization"] = self._authorization
                async with AsyncExitStack() as stack:
                    try:
                        request = self._http.request(method, url, headers=sent, data=body())
                        answer = await stack.enter_async_context(request)
                    except (aiohttp.ServerDisconnectedError, aiohttp.ClientConnectionResetError, aiohttp.ClientOSError) as error:
                        if not repeatable or isinstance(error, aiohttp.ClientConnectorError):
                            raise
                        repeatable = False
                        continue
                    challenge = answer.headers.get("WWW-Authenticate")
                    if answer.status == 401 and not asked_for_token and challenge:
                        asked_for_token = True
                        self._authorization = await self._identify(challenge, sent.get("Authorization"))
                        if self._authorization is not None:
                            continue
                    if (pause := _pause(answer)) is None or waited == MOST_WAITS:
                        if answer.status not in (*expect, *allow):
                            raise TransferError(await _refusal(method, answer, self.target), status=answer.status)
                        yield answer
                        return
                waited += 1
                await asyncio.sleep(pause)
        except ssl.SSLCertVerificationError as error:
            raise TransferError(f"can't reach {self.target.base}: {_reason(error)}") from error
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, UnicodeError) as error:  # the last: no host's name
            raise TransferError(f"can't reach {self.target.base}: {_reason(error)}") from error

    async def _identify(self, challenge: str, tried: str | None) -> str | None:
        """The `Authorization` to try next; None if there is none beside the one that was `tried`."""
        if self.credentials is None and any(path.exists() for path in config_files()):
            self.credentials = await in_daemon(partial(from_docker, urlsplit(self.target.base).netloc))
        found = self.credentials
        # A registry that wants a token is asked for one in the place that it names, not sent a password here.
        if found is not None and (found.token or not challenge.lower().startswith("bearer ")):
            header = found.header()
            if header is not None and header != tried:
                return header
        assert self._http is not None
        return await bearer_token(self._http, challenge, self.credentials, secure=self.target.base.startswith("https:"))

    async def _body(self, answer: aiohttp.ClientResponse, limit: int) -> bytes:
        raw = await read_at_most(answer, limit)
        if len(raw) > limit:
            raise FormatError(f"{self.target.base} sent more than the {limit} bytes that {answer.url.path} may have")
        return raw


def _pause(answer: aiohttp.ClientResponse) -> float | None:
    """How long a busy server asks its client to wait (429 and 503 with `Retry-After`); None if it does not, or for too long."""
    text = answer.headers.get("Retry-After", "")
    if answer.status not in (429, 503) or not (text.isascii() and text.isdigit() and len(text) < 4):
        return None
    return float(text) if float(text) <= LONGEST_WAIT_S else None


def _pieces(path: Path, progress: Callable[[int], None]) -> AsyncIterator[bytes]:
    async def pieces() -> AsyncIterator[bytes]:
        with path.open("rb") as stream:
            while chunk := await asyncio.to_thread(stream.read, CHUNK * 16):
                yield chunk
                progress(len(chunk))

    return pieces()


async def _refusal(method: str, answer: aiohttp.ClientResponse, target: Reference) -> str:
    said = _said((await read_at_most(answer, 4096))[:4096])
    hint = ""
    if answer.status in (401, 403):
        names = (Credentials.VARIABLE, Credentials.TOKEN_VARIABLE)
        if not any(os.environ.get(name) for name in names):
            hint = f"; say who you are in {names[0]} (user:password) or {names[1]}, or by `docker login`"
    if answer.status == 405:
        hint = "; it does not take uploads"
    return f"{target.base} answered {answer.status} to {method} {answer.url.path}: {said or answer.reason}{hint}"


def _said(raw: bytes) -> str:
    """An error's own words: a problem's (RFC 9457), a registry's, or the beginning of what else it is."""
    try:
        data = json.loads(raw)
        found = data.get("detail") or data["errors"][0]["message"]
    except (ValueError, LookupError, TypeError, AttributeError):
        found = raw.decode(errors="replace")
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(str(found).split()))[:200]


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        cause = getattr(error, "certificate_error", error)
        what = getattr(cause, "verify_message", None) or str(cause)
        return f"its certificate is not trusted ({what}); name the authority's in {CACERT_VARIABLE} or SSL_CERT_FILE"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"the proxy can't be reached ({error.os_error.strerror or error})"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error is not None:
        return error.os_error.strerror or str(error)
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
