"""Certificates, proxies, redirects and busy servers, with real servers on this machine."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from accordion.artifact.digest import sha256_digest
from accordion.errors import AccordionError, TransferError, UsageError
from accordion.outside import CACERT_VARIABLE, proxy_for, trusted
from accordion.registry import Credentials, Reference, RegistryClient, push
from accordion.registry.auth import bearer_token
from accordion.registry.http import Http
from certificates import Pair, make_pair

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*PROXIES, *map(str.lower, PROXIES), "REQUEST_METHOD", "SSL_CERT_FILE", CACERT_VARIABLE, "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, "http://host/", None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://host/", "http://proxy:3128"),
        ({"http_proxy": "proxy:3128"}, "http://host/", "http://proxy:3128"),
        ({"HTTP_PROXY": "http://proxy:3128"}, "https://host/", None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "https://host/", "http://proxy:3128"),
        ({"ALL_PROXY": "http://proxy:1"}, "https://host/", "http://proxy:1"),
        ({"HTTP_PROXY": "http://proxy:1", "NO_PROXY": "host,.example.org"}, "http://host:80/", None),
        ({"HTTP_PROXY": "http://proxy:1", "NO_PROXY": ".example.org"}, "http://a.example.org/", None),
        ({"HTTP_PROXY": "http://proxy:1", "NO_PROXY": "host:81"}, "http://host:80/", "http://proxy:1"),
        ({"HTTP_PROXY": "http://proxy:1", "NO_PROXY": "*"}, "http://host/", None),
        ({"HTTP_PROXY": "http://proxy:1", "REQUEST_METHOD": "GET"}, "http://host/", None),
    ],
)
def test_which_proxy(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, proxy: str | None) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(url)
    assert (None if found is None else str(found).rstrip("/")) == proxy


def test_what_is_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("socks5://me:secret@proxy:1", "http://:secret@", "http://proxy:port"):
        monkeypatch.setenv("HTTP_PROXY", wrong)
        with pytest.raises(UsageError) as caught:
            proxy_for("http://host/")
        assert "secret" not in str(caught.value)


class Forward:
    """A proxy: plain requests for `http`, tunnels for `https`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.passwords: set[str] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split()
        self.asked.append(f"{method} {target}")
        for line in head.decode().split("\r\n"):
            if line.lower().startswith("proxy-authorization: "):
                self.passwords.add(line.partition(": ")[2])
        address = target if method == "CONNECT" else target.split("/")[2]
        host, _, port = address.rpartition(":")
        there, out = await asyncio.open_connection(host, int(port))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            out.write(head)
        await asyncio.gather(self._carry(reader, out), self._carry(there, writer))

    @staticmethod
    async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except (OSError, RuntimeError):
            pass
        finally:
            writer.close()


async def test_through_a_proxy(layout, fake, target, monkeypatch) -> None:
    proxy = Forward()
    async with proxy.running() as address:
        monkeypatch.setenv("HTTP_PROXY", address)
        async with RegistryClient(target) as client:
            await push(layout.path, client)
        assert proxy.asked[0].startswith(f"HEAD {target.base}/v2/some/name/blobs/")
        count = len(proxy.asked)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with RegistryClient(target) as client:
            assert "v1" in await client.tags()
        assert len(proxy.asked) == count
    monkeypatch.delenv("NO_PROXY")
    with pytest.raises(TransferError, match="proxy"):
        async with RegistryClient(target) as client:
            await client.tags()


@asynccontextmanager
async def secure(app: web.Application, pair: Pair) -> AsyncIterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    server = TestServer(app, scheme="https", host="127.0.0.1")
    await server.start_server(ssl=context)
    try:
        yield f"https://127.0.0.1:{server.port}"
    finally:
        await server.close()


async def test_a_private_authority(layout, fake, pair, monkeypatch) -> None:
    async with secure(fake.app, pair) as base:
        target = Reference(base, "some/name", "v1")
        with pytest.raises(TransferError, match=rf"not trusted.*{CACERT_VARIABLE}"):
            async with RegistryClient(target) as client:
                await client.tags()
        monkeypatch.setenv(CACERT_VARIABLE, str(pair.authority))
        async with RegistryClient(target) as client:
            await push(layout.path, client)
            assert "v1" in await client.tags()
        proxy = Forward()
        async with proxy.running() as address:
            monkeypatch.setenv("HTTPS_PROXY", address.replace("//", "//me:secret@"))
            async with RegistryClient(target) as client:
                assert "v1" in await client.tags()
        assert proxy.asked == [f"CONNECT {base.removeprefix('https://')}"]
        assert proxy.passwords == {Credentials("me", "secret").basic()}


def test_certificates_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    for path in ("none", "text", "."):
        with pytest.raises(AccordionError):
            trusted(tmp_path / path)


async def test_redirects(monkeypatch, pair) -> None:
    """To where the bytes are, without the credentials; not from TLS into the clear, and not for ever."""
    seen: list[tuple[str, str | None]] = []
    data = b"some bytes"
    digest = sha256_digest(data)

    async def storage(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("Authorization")))
        return web.Response(body=data)

    far = web.Application()
    far.router.add_get("/stored", storage)
    async with TestServer(far) as elsewhere:
        goal = str(elsewhere.make_url("/stored"))

        async def registry(request: web.Request) -> web.Response:
            seen.append((request.path, request.headers.get("Authorization")))
            kind = request.path.split("/")[2]
            location = {"good": goal, "round": request.path, "odd": "file:///etc/passwd"}[kind]
            return web.Response(status=307, headers={"Location": location})

        near = web.Application()
        near.router.add_get("/v2/{rest:.*}", registry)
        async with TestServer(near) as server:
            base = str(server.make_url("")).rstrip("/")
            credentials = Credentials("me", "secret")
            async with RegistryClient(Reference(base, "good"), credentials) as client:
                raw = await client.manifest(digest)
            assert raw == data
            assert seen[0][1] == credentials.basic()
            assert seen[1] == ("/stored", None)
            for kind in ("round", "odd"):
                async with RegistryClient(Reference(base, kind)) as client:
                    with pytest.raises(TransferError, match="sends its clients on"):
                        await client.manifest("latest")
        monkeypatch.setenv(CACERT_VARIABLE, str(pair.authority))
        again = web.Application()
        again.router.add_get("/v2/{rest:.*}", registry)
        async with secure(again, pair) as base, RegistryClient(Reference(base, "good")) as client:
            with pytest.raises(TransferError, match="not safe"):
                await client.manifest("latest")


async def test_a_busy_server_is_asked_again() -> None:
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        kind = request.path.split("/")[2]
        if kind == "soon" and asked > 2:
            return web.json_response({"tags": ["v1"]})
        after = {"soon": "0", "long": "600", "never": "0", "odd": "tomorrow"}[kind]
        problem = {"detail": "come back\na little later"}
        return web.json_response(problem, status=429, headers={"Retry-After": after})

    app = web.Application()
    app.router.add_get("/v2/{rest:.*}", answer)
    async with TestServer(app) as server:
        base = str(server.make_url("")).rstrip("/")
        async with RegistryClient(Reference(base, "soon")) as client:
            assert await client.tags() == ["v1"]
        for kind, times in (("long", 1), ("odd", 1), ("never", 4)):
            asked = 0
            async with RegistryClient(Reference(base, kind)) as client:
                with pytest.raises(TransferError, match=r"429.*come back a little later"):
                    await client.tags()
            assert asked == times


async def test_an_identity_buys_a_token() -> None:
    forms: list[dict[str, str]] = []

    async def token(request: web.Request) -> web.Response:
        forms.append({name: str(value) for name, value in (await request.post()).items()})
        return web.json_response({"access_token": "bought"})

    async def answer(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") == "Bearer bought":
            return web.json_response({"tags": ["v1"]})
        realm = request.url.with_path("/token").with_query({})
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="here"'})

    app = web.Application()
    app.router.add_post("/token", token)
    app.router.add_get("/v2/{rest:.*}", answer)
    async with TestServer(app) as server:
        base = str(server.make_url("")).rstrip("/")
        async with RegistryClient(Reference(base, "net"), Credentials(identity="mine")) as client:
            assert await client.tags() == ["v1"]
    assert forms == [{"grant_type": "refresh_token", "client_id": "accordion", "refresh_token": "mine", "service": "here"}]


class Weary:
    """Answers some requests of a connection, keeps it open as if for more, and closes it when the next one has come."""

    def __init__(self, *answered: int) -> None:
        self.left = list(answered)  # by connection, in order; none of those after
        self.requests: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self.left.pop(0) if self.left else 0
        with suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = next((int(row.partition(":")[2]) for row in head.splitlines() if row.startswith("content-length:")), 0)
                await reader.readexactly(length)
                self.requests.append(head.split()[0])
                if not left:
                    break
                left -= 1
                body = b'{"tags": ["v1"]}'
                kind = b"Content-Type: application/json\r\nContent-Length: %d" % len(body)
                writer.write(b"HTTP/1.1 200 OK\r\n" + kind + b"\r\n\r\n" + body)
        writer.close()


@pytest.mark.parametrize(
    ("answered", "requests"),
    [
        ((1, 1), ["get", "post", "post"]),
        ((1, 0), ["get", "post", "post"]),  # once more, not for ever
        ((2,), ["get", "post"]),
    ],
)
async def test_a_plan_over_a_connection_that_is_closed_just_then(answered: tuple[int, ...], requests: list[str]) -> None:
    weary = Weary(*answered)
    server = await asyncio.start_server(weary.serve, "127.0.0.1", 0)
    async with server:
        target = Reference(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "name")
        async with RegistryClient(target) as client:
            assert await client.tags() == ["v1"]
            if sum(answered) < 2:
                with pytest.raises(TransferError, match="can't reach"):
                    await client.plan({})
            else:
                assert await client.plan({}) == {"tags": ["v1"]}
    assert weary.requests == requests


@pytest.mark.parametrize("url", ["http://a..b/token", "http://[::1", "http://", "http://" + "x" * 64 + "/token"])
async def test_a_realm_that_names_no_host_is_no_realm(url: str) -> None:
    assert await bearer_token(cast(Http, None), f'Bearer realm="{url}"', None, secure=False) is None
