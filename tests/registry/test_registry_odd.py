"""Registries that are odd, slow or hostile, and others at work in the same folder."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from accordion.artifact.digest import sha256_digest
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import Descriptor
from accordion.device import Request, fetch
from accordion.endpoint import create_app, export
from accordion.errors import AccordionError, DigestError, TransferError, UsageError
from accordion.registry import Credentials, Reference, RegistryClient, pull, push
from accordion.registry.beside import Resolver
from accordion.registry.http import sent_on
from accordion.registry.versions import read_relatives

GOLDEN = Path(__file__).parents[1] / "golden"


@asynccontextmanager
async def answering(answer):
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    async with TestServer(app) as server:
        yield Reference(str(server.make_url("")).rstrip("/"), "some/name", "v1")


@pytest.mark.parametrize("token", ["a" * 3000, "a\nb", "two words", "é"])
async def test_tokens_as_they_come(token: str) -> None:
    """In two pieces; and what can't stand in a header is none."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            reply = web.StreamResponse()
            await reply.prepare(request)
            raw = json.dumps({"token": token}).encode()
            for piece in (raw[:7], raw[7:]):
                await reply.write(piece)
                await asyncio.sleep(0.05)
            return reply
        if request.headers.get("Authorization") == f"Bearer {token}":
            return web.json_response({"tags": ["latest"]})
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{request.url.with_path("/token")}"'})

    async with answering(answer) as target, RegistryClient(target) as client:
        if token.startswith("aa"):
            assert await client.tags() == ["latest"]
        else:
            with pytest.raises(TransferError, match="answered 401"):
                await client.tags()


@pytest.mark.parametrize("location", ["http://[bad", "//[", "ftp://host/x"])
async def test_an_upload_that_goes_nowhere(location: str, layout) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=202 if request.method == "POST" else 404, headers={"Location": location})

    async with answering(answer) as target, RegistryClient(target) as client:
        with pytest.raises(TransferError, match=r"no address|not safe"):
            await push(layout.path, client, version="v1")


def test_never_into_the_clear() -> None:
    assert sent_on("https://host/v2/x", "/v2/y?z=1") == "https://host/v2/y?z=1"
    assert sent_on("http://host/v2/x", "https://other/y") == "https://other/y"
    with pytest.raises(TransferError, match="not safe"):
        sent_on("https://host/v2/x", "http://host/v2/y")


async def test_tags_of_what_belongs_to_a_version(fake, target) -> None:
    async with RegistryClient(target) as client:
        await push(GOLDEN / "precision", client)
        for ending in (".sig", ".att", ".sbom", ""):
            fake.manifests[f"sha256-{'0' * 64}{ending}"] = b'{"artifactType": "application/vnd.dev.sigstore"}'
    async with RegistryClient(dataclasses.replace(target, reference=None)) as client:
        assert await client.resolve() == "v1"
        fake.manifests["v1-sbom"] = json.dumps({"artifactType": "application/spdx+json"}).encode()
        assert await read_relatives(client, prefers=True) == []
        with pytest.raises(UsageError, match=r"say which version .*v1"):
            await client.resolve()


async def test_lists_of_tags_on_several_pages() -> None:
    tags = [f"a{n:03d}" for n in range(120)] + ["latest"]

    async def answer(request: web.Request) -> web.Response:
        first = int(request.query.get("last", 0))
        following = f"http://inside.example/v2/some/name/tags/list?n=100&last={first + 100}"  # as behind a proxy
        headers = {"Link": f'<{following}>; rel="next"'} if first + 100 < len(tags) else {}
        return web.json_response({"tags": tags[first : first + 100]}, headers=headers)

    async with answering(answer) as target, RegistryClient(dataclasses.replace(target, reference=None)) as client:
        assert await client.tags() == tags
        assert await client.resolve() == "latest"


async def test_pages_without_end() -> None:
    async def answer(request: web.Request) -> web.Response:
        number = int(request.query.get("last", 0)) + 1
        headers = {"Link": f'<{request.path}?last={number}>; rel="next"'}
        return web.json_response({"tags": [f"t{number}"]}, headers=headers)

    async with answering(answer) as target, RegistryClient(target) as client:
        assert len(await client.tags()) == 100


async def test_credentials_are_looked_for_when_they_are_wanted(fake, layout, target, tmp_path: Path, monkeypatch) -> None:
    """What is left of a docker that was removed is no obstacle to what is open to all."""
    monkeypatch.delenv(Credentials.VARIABLE, raising=False)
    monkeypatch.delenv(Credentials.TOKEN_VARIABLE, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for text in ('{"credsStore": "of-nobody"}', "{"):
        (tmp_path / "config.json").write_text(text)
        async with RegistryClient(target) as client:
            await push(layout.path, client)
        fake.token = "secret"
        async with RegistryClient(target) as client:
            with pytest.raises(UsageError, match=r"of-nobody|config\.json"):
                await client.tags()
        fake.token = None
    host = target.base.removeprefix("http://")
    (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"registrytoken": "secret"}}}))
    fake.token = "secret"
    async with RegistryClient(target) as client:
        assert "v1" in await client.tags()


@pytest.mark.parametrize("said", ["bytes 11-20/100", "bytes 0-9/100", "bytes 10-18/100", "bytes 10-190/200", "bytes */100", None])
async def test_other_bytes_than_those_asked_for(said: str | None) -> None:
    """As many, from elsewhere: nothing of them is given out."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers["Range"])
        return web.Response(status=206, body=bytes(10), headers={} if said is None else {"Content-Range": said})

    blob, came = Descriptor("application/x", sha256_digest(bytes(100)), 100), []
    async with answering(answer) as target, RegistryClient(target) as client:
        with pytest.raises(TransferError, match="other bytes than the 10-19 asked for"):
            came += [piece async for piece in client.blob_range(blob, 10, 19)]
        with pytest.raises(TransferError, match="other bytes than the 10-19 asked for"):
            await client.stream(blob.digest, 10, 19)
    assert came == [] and asked == ["bytes=10-19"] * 2


@pytest.mark.parametrize("length", ["100", "*"])
async def test_the_bytes_asked_for(length: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=206, body=b"0123456789", headers={"Content-Range": f"bytes 10-19/{length}"})

    blob = Descriptor("application/x", sha256_digest(bytes(100)), 100)
    async with answering(answer) as target, RegistryClient(target) as client:
        assert b"".join([piece async for piece in client.blob_range(blob, 10, 19)]) == b"0123456789"


async def test_a_manifest_by_its_tag_is_what_the_registry_promises() -> None:
    """A tag promises nothing of itself; what stands in the header is held against what came."""
    raw, said = b"{}", {"Docker-Content-Digest": sha256_digest(b"{}")}

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=raw, headers=said)

    async with answering(answer) as target, RegistryClient(target) as client:
        assert await client.manifest("v1") == raw
        said["Docker-Content-Digest"] = sha256_digest(b"{ }")
        with pytest.raises(DigestError, match=r"the manifest v1 .* is corrupt"):
            await client.manifest("v1")
        assert await client.manifest(sha256_digest(raw)) == raw  # here the digest asked for counts
        said.clear()
        assert await client.manifest("v1") == raw


async def test_a_name_server_that_never_answers(tmp_path: Path, monkeypatch) -> None:
    """The deadline is the caller's: nobody waits for the look-up, at the end of the event loop neither."""
    release, asked = threading.Event(), threading.Event()

    def look(*_: object, **__: object) -> list[object]:
        asked.set()
        release.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look)
    try:
        with pytest.raises(AccordionError):
            await asyncio.to_thread(fetch, "http://far.example/net", tmp_path / "m", Request(deadline_s=0.2))
        assert asked.is_set() and not release.is_set()
    finally:
        release.set()


async def test_names_are_looked_up_as_ever() -> None:
    found = await Resolver().resolve("localhost", 80, socket.AF_UNSPEC)
    assert {one["host"] for one in found} & {"127.0.0.1", "::1"}
    with pytest.raises(OSError):
        await Resolver().resolve("nobody.invalid", 80)


async def test_two_pulls_into_one_folder(fake, layout, target, tmp_path: Path) -> None:
    for tag in ("v1", "v2"):
        async with RegistryClient(dataclasses.replace(target, reference=tag)) as client:
            await push(layout.path, client)
    Layout.create(tmp_path / "out")
    (tmp_path / "out" / ".incoming-of-one-that-was-killed").mkdir()

    async def bring(tag: str) -> None:
        async with RegistryClient(dataclasses.replace(target, reference=tag)) as client:
            await pull(client, tmp_path / "out")

    await bring("v1")
    assert not list((tmp_path / "out").glob(".incoming*"))
    for round_ in range(5):
        await asyncio.gather(*(bring(tag) for tag in ("v1", "v2")))
        assert set(Layout.open(tmp_path / "out").tags()) == {"v1", "v2"}, round_
    assert not list((tmp_path / "out").glob(".incoming*"))


def test_no_tag_is_lost_to_another_writer(layout) -> None:
    manifest = layout.manifest("v1")

    def name(number: int) -> None:
        Layout.open(layout.path).add_version(f"t{number}", manifest)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(name, range(64)))
    assert set(layout.tags()) == {"v1", "v2", *(f"t{number}" for number in range(64))}


def test_no_name_is_lost_to_another_export(tmp_path: Path) -> None:
    def carry(number: int) -> None:
        export(GOLDEN / "precision", tmp_path, name=f"n{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(carry, range(16)))
    names = json.loads((tmp_path / "v2" / "_catalog").read_bytes())["repositories"]
    assert names == sorted(f"n{number}" for number in range(16))


async def test_a_registry_that_hangs_keeps_nobody_from_the_rest(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        app = await asyncio.to_thread(create_app, [GOLDEN / "precision", f"http://127.0.0.1:{port}/far"])
        async with client_of(app) as ask:
            assert (await ask("/v2/precision/tags/list")).status_code == 200
            health = await ask("/healthz")
            assert "has not answered yet" in json.dumps(health.json())
            assert (await ask("/v2/nothing/tags/list")).status_code == 404
    finally:
        release.set()
        server.close()


@asynccontextmanager
async def client_of(app):
    import httpx

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://endpoint") as client:
        yield client.get


@pytest.mark.parametrize("status", [401, 403])
async def test_who_may_not_ask_for_plans_makes_them(status: int) -> None:
    """A right of its own; who may not read at all is told so at the manifest."""

    async def answer(request: web.Request) -> web.StreamResponse:
        headers = {"WWW-Authenticate": "Basic realm=x"} if status == 401 else {}
        detail = json.dumps({"detail": "not for you"})
        return web.Response(status=status, text=detail, content_type="application/problem+json", headers=headers)

    async with answering(answer) as target, RegistryClient(target, Credentials(token="t")) as client:
        assert await client.plan({}) is None
        with pytest.raises(TransferError, match="not for you"):
            await client.manifest("v1")


async def test_the_second_connection_says_who_it_is_too() -> None:
    """An endpoint would count it as refused else."""
    said = []

    async def answer(request: web.Request) -> web.StreamResponse:
        said.append((request.path, request.headers.get("Authorization")))
        return web.json_response({})

    async with answering(answer) as target:
        async with RegistryClient(target, Credentials(token="t")) as client:
            await client.ping()
        async with RegistryClient(target) as client:
            await client.ping()
    assert said == [("/v2/", "Bearer t"), ("/v2/", None)]
