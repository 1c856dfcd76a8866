"""A package made by hand, and an OCI registry in memory that answers as the distribution specification says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from accordion.artifact.digest import sha256_digest
from accordion.artifact.layout import Layout, signature_tag
from accordion.artifact.manifest import (
    CONFIG_MEDIA_TYPE,
    DOC_RAW,
    FILEPATH,
    LADDER_JSON,
    MANIFEST_MEDIA_TYPE,
    WEIGHT_RAW,
    Descriptor,
    Manifest,
)
from accordion.registry import Reference


def make_version(layout: Layout, tag: str, files: dict[str, bytes]) -> Manifest:
    """A version over these files; transfer looks at blobs only, so they may hold anything."""

    def put(data: bytes, media_type: str, path: str | None = None) -> Descriptor:
        digest, size = layout.write_blob(data)
        return Descriptor(media_type, digest, size, {FILEPATH: path} if path else {})

    layers = [put(b'{"a": "ladder"}', LADDER_JSON)]
    layers += [put(data, DOC_RAW if path.endswith(".md") else WEIGHT_RAW, path) for path, data in files.items()]
    manifest = Manifest.build(put(b"{}", CONFIG_MEDIA_TYPE), layers, {})
    layout.add_version(tag, manifest)
    return manifest


def sign(layout: Layout, manifest: Manifest) -> str:
    """A signature in cosign's place (what it says does not matter here); returns its manifest's digest."""
    digest, size = layout.write_blob(b"signed: " + manifest.digest.encode())
    blob = {"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": digest, "size": size}
    raw = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_MEDIA_TYPE, "config": blob, "layers": [blob]}).encode()
    return layout.add_manifest(signature_tag(manifest.digest), raw).digest


class FakeRegistry:
    """Keeps blobs and manifests; counts what was asked of it. `token` makes it want one, `lie` makes its blobs wrong."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.token: str | None = None
        self.lie: bytes | None = None
        self.fail_after: int | None = None
        self.app = web.Application(client_max_size=2**26)
        self.app.router.add_get("/token", self.give_token)
        self.app.router.add_route("*", "/v2/{rest:.*}", self.answer)

    async def give_token(self, request: web.Request) -> web.Response:
        assert request.query["service"] == "fake"
        return web.json_response({"token": self.token})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            realm = request.url.with_path("/token").with_query({})
            return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="fake",scope="x"'})
        if self.fail_after is not None and len(self.requests) > self.fail_after:
            return web.Response(status=503, text="the registry is\nbeing repaired")
        kind, _, last = request.path.removeprefix("/v2/some/name/").partition("/")
        method = request.method
        if (method, kind) == ("GET", "tags"):
            return web.json_response({"tags": [key for key in self.manifests if ":" not in key]})
        if (method, kind, last) == ("POST", "blobs", "uploads/"):
            return web.Response(status=202, headers={"Location": "/v2/some/name/blobs/uploads/1?state=a"})
        if (method, kind) == ("PUT", "blobs"):
            data = await request.read()
            assert request.query["state"] == "a"
            assert sha256_digest(data) == request.query["digest"]
            self.blobs[request.query["digest"]] = data
            return web.Response(status=201)
        if (method, kind) == ("PUT", "manifests"):
            data = await request.read()
            named = json.loads(data)
            assert all(blob["digest"] in self.blobs for blob in [named["config"], *named["layers"]])
            self.manifests[last] = self.manifests[sha256_digest(data)] = data
            return web.Response(status=201)
        if kind == "manifests" and last in self.manifests:
            raw = self.manifests[last]
            headers = {"Docker-Content-Digest": sha256_digest(raw)}
            return web.Response(body=raw, content_type=MANIFEST_MEDIA_TYPE, headers=headers)
        if kind == "blobs" and last in self.blobs:
            return web.Response(body=self.lie if self.lie is not None and method == "GET" else self.blobs[last])
        return web.json_response({"errors": [{"code": "NAME_UNKNOWN"}]}, status=404)

    def count(self, method: str, part: str) -> int:
        return sum(asked == method and part in path for asked, path in self.requests)


@pytest.fixture
def fake() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
async def base(fake: FakeRegistry) -> AsyncIterator[str]:
    async with TestServer(fake.app) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.fixture
def target(base: str) -> Reference:
    return Reference(base, "some/name", "v1")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Two versions that share a blob; the first is signed."""
    made = Layout.create(tmp_path / "package")
    first = make_version(made, "v1", {"0.safetensors": b"a" * 70_000, "1.safetensors": b"b" * 300, "README.md": b""})
    make_version(made, "v2", {"0.safetensors": b"a" * 70_000, "1.safetensors": b"c" * 300})
    sign(made, first)
    return made
