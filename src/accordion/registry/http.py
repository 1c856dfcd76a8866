"""The way to another host: sessions and redirects as the ecosystem's other clients have them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp

from accordion.errors import TransferError
from accordion.outside import certificates, proxy_for
from accordion.registry.beside import Resolver

__all__ = ["Http", "read_at_most", "sent_on"]

CONNECT_S, SILENCE_S = 10.0, 60.0  # without an answer for so long, nobody is there
MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 307, 308)  # 303 would turn what was sent into a GET; nobody in this protocol does that


class Http:
    """A session. An asynchronous context; errors of the network are aiohttp's, the caller knows whom it asked."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """UsageError or StorageError for certificates that are none."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        connector = aiohttp.TCPConnector(ssl=certificates() or True, resolver=Resolver())
        headers = {"Accept-Encoding": "identity"}
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False, headers=headers)

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        params: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request. Redirects are followed with what can be sent again (no stream), each by its own proxy.

        Never from TLS into the clear, and `Authorization` goes to nobody but the first.
        """
        if self._session is None:
            raise RuntimeError("this session is not open")
        sent, first = dict(headers or {}), urlsplit(url)
        again = data is None or isinstance(data, (bytes, dict))
        for _ in range(MOST_REDIRECTS + 1):
            request = self._session.request(
                method, url, headers=sent, data=data, params=params, proxy=proxy_for(url), allow_redirects=False
            )
            async with request as answer:
                location = answer.headers.get("Location") if answer.status in _REDIRECTS and again else None
                if location is None:
                    yield answer
                    return
                url, params = sent_on(url, location), None
            target = urlsplit(url)
            if (target.scheme, target.netloc) != (first.scheme, first.netloc):
                sent.pop("Authorization", None)
        raise TransferError(f"{first.netloc} sends its clients on more than {MOST_REDIRECTS} times")


def sent_on(url: str, location: str) -> str:
    """Where an answer from `url` sends its client on to. TransferError for what is no address, and from TLS into the clear."""
    host = urlsplit(url).netloc
    try:
        found = urljoin(url, location)
        target = urlsplit(found)
    except ValueError as error:
        raise TransferError(f"{host} sends its clients on to what is no address: {location[:80]!r}") from error
    if target.scheme not in ("http", "https") or (target.scheme == "http" and urlsplit(url).scheme == "https"):
        raise TransferError(f"{host} sends its clients on to {target.scheme}://{target.netloc}, which is not safe")
    return found


async def read_at_most(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, in however many pieces it comes; of a longer one, `limit` + 1 bytes."""
    raw = b""
    while len(raw) <= limit and (more := await answer.content.read(limit + 1 - len(raw))):
        raw += more
    return raw
