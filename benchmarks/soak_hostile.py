"""The hostile clients of `soak.py`: what must be refused, or closed, without harm to anybody else."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress

from soak_clients import Clients, Unexpected  # type: ignore[import-not-found]

__all__ = ["Hostile"]

CLOSED = "closed"
CLOSE_S = 60.0  # in which the endpoint must have closed what a client leaves open (header time 15 s, patience 30 s)

BAD_PATHS = (
    "/v2/../../../../etc/passwd",
    "/v2/%2e%2e/%2e%2e/etc/passwd",
    "/v2/steady-0/blobs/../../../index.json",
    "/v2/steady-0/blobs/sha256:" + "0" * 63,
    "/v2/steady-0/blobs/sha256:" + "0" * 64,
    "/v2/steady-0/manifests/%00",
    "/v2/steady-0/_accordion/stream/latest",
    "/v2/" + "a/" * 400 + "manifests/latest",
    "/v2/steady-0/manifests/" + "x" * 4000,
    "/v2//manifests/latest",
    "/v3/_catalog",
    "/tuf/../../etc/passwd",
    "/v2/steady-0/_accordion/nothing",
    "/v2/_catalog?n=many",
)
BAD_BODIES = (
    b"{",
    b"[]",
    b"null",
    b'{"deadline_s": -1}',
    b'{"deadline_s": NaN}',
    b'{"deadline_s": 1e999}',
    b'{"deadline_s": 1, "deadline_s": 2}',
    b'{"min_quality": "best"}',
    b'{"held": {"manifest": "sha256:0", "configuration": 0}}',
    b'{"held": 7}',
    b"\xff\xfe{}",
    b"[" * 20_000,
    b'{"reference": "no-such-tag"}',
    b'{"max_bytes": ' + b"9" * 4000 + b"}",
)
BAD_REQUESTS = (
    b"\x00\x01\x02\x03\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /v2/ HTTP/1.1\r\n\r\n" + b"\xff" * 200,
    b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /v2/steady-0/_accordion/plan HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % k for k in range(300)) + b"\r\n",
    b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    b"GET /" + b"z" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,  # TLS where none is spoken
)


class Hostile(Clients):  # type: ignore[misc]
    """Each action returns how it was refused, and raises if it was not."""

    async def unknown(self) -> str:
        status, _, _ = await self.get(f"/v2/unknown-{self.rng.randrange(1000)}/manifests/latest")
        return self._refused(status)

    def _refused(self, status: int) -> str:
        if not 400 <= status < 500:
            raise Unexpected(f"answered {status}")
        return f"refused with {status}"

    async def bad_plan(self) -> str:
        body = self.rng.choice(BAD_BODIES)
        async with self.session.post(f"{self.url}/v2/steady-0/_accordion/plan", data=body) as answer:
            return self._refused(self.tally.answered(answer.status))

    async def long_body(self) -> str:
        async with self.session.post(f"{self.url}/v2/steady-0/_accordion/plan", data=b" " * 300_000) as answer:
            return self._refused(self.tally.answered(answer.status))

    async def wrong_method(self) -> str:
        method = self.rng.choice(["PUT", "DELETE", "PATCH", "OPTIONS", "NONSENSE"])
        async with self.session.request(method, f"{self.url}/v2/steady-0/manifests/latest", data=b"x") as answer:
            return self._refused(self.tally.answered(answer.status))

    async def many_ranges(self) -> str:
        manifest = await self.manifest_of("steady-0", time.monotonic())
        assert manifest is not None
        count = self.rng.choice([20, 300, 700])
        header = "bytes=" + ",".join(f"{2 * k}-{2 * k}" for k in range(count))
        status, _, _ = await self.get(f"/v2/steady-0/_accordion/stream/{manifest.digest}", headers={"Range": header})
        if status not in (200, 206, 416, 431):
            raise Unexpected(f"answered {status}")
        return f"answered with {status}"

    async def bad_path(self) -> str:
        """As it is, which no library would send: all of these must be refused."""
        said = await self.raw(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % self.rng.choice(BAD_PATHS).encode())
        return said if said == CLOSED else self._refused(int(said.split()[-1]))

    async def raw(self, request: bytes) -> str:
        """Bytes as they are; the answer's status, or the connection closed."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(request)
            with suppress(ConnectionError):
                await writer.drain()
            return self._line(await asyncio.wait_for(reader.readline(), CLOSE_S))
        except ConnectionError:
            return CLOSED
        finally:
            await _close(writer)

    def _line(self, line: bytes) -> str:
        if not line:
            return CLOSED
        status = self.tally.answered(int(line.split()[1]))
        return f"answered with {status}"

    async def lingering(self, first: bytes, more: bytes = b"") -> str:
        """Says little or nothing, and stays: the endpoint has to close."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(first)
            end = time.monotonic() + CLOSE_S
            while time.monotonic() < end:
                with suppress(TimeoutError):
                    return self._line(await asyncio.wait_for(reader.readline(), 1.0))
                writer.write(more)
            raise Unexpected(f"still open after {CLOSE_S:g} s")
        except ConnectionError:
            return CLOSED
        finally:
            await _close(writer)

    async def slow_body(self) -> str:
        head = b"POST /v2/steady-0/_accordion/plan HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        return await self.lingering(head, b" ")

    async def slow_reader(self) -> str:
        """Asks for megabytes, and takes nothing."""
        manifest = await self.manifest_of(self.big, time.monotonic())
        assert manifest is not None
        loop, end = asyncio.get_running_loop(), time.monotonic() + CLOSE_S
        with socket.socket() as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.setblocking(False)
            await loop.sock_connect(made, (self.host, self.port))
            await loop.sock_sendall(
                made, b"GET /v2/%s/_accordion/stream/%s HTTP/1.1\r\nHost: x\r\n\r\n" % (self.big.encode(), manifest.digest.encode())
            )
            while time.monotonic() < end:
                await asyncio.sleep(1.0)
                if made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1:  # no longer established
                    return CLOSED
        raise Unexpected(f"still open after {CLOSE_S:g} s")


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError, TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), 5.0)
