"""What the endpoint says to nginx; `tests/deploy/test_deploy_nginx.py` has nginx act on it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from accordion.endpoint import create_app, export
from accordion.endpoint.accel import Accel
from accordion.endpoint.clients import Proxies
from accordion.endpoint.tokens import Tokens
from accordion.errors import UsageError

NGINX = "192.0.2.1"


def behind(package: Any, *, address: str = NGINX, **how: Any) -> httpx.AsyncClient:
    """A client whose requests come from `address`."""
    app = create_app([package.path.parent.parent], trusted_proxies=[NGINX], accel_redirect="/files", **how)
    transport = httpx.ASGITransport(app=app, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://endpoint")


async def test_nginx_is_told_where_a_blob_lies(package: Any) -> None:
    layer = package.manifest.layers[1]
    async with behind(package) as client:
        reply = await client.get(f"/v2/team/net/blobs/{layer.digest}")
        assert (reply.status_code, reply.content, reply.headers["content-length"]) == (200, b"", "0")
        where = reply.headers["x-accel-redirect"]
        assert where == f"/files/packages/team/net/blobs/sha256/{layer.digest.removeprefix('sha256:')}"
        assert (package.path.parent.parent / where.removeprefix("/files/packages/")).read_bytes() == package.blob(layer.digest)
        assert reply.headers["etag"] == f'"{layer.digest}"'
        assert reply.headers["docker-content-digest"] == layer.digest
        assert "immutable" in reply.headers["cache-control"]
        had = await client.get(f"/v2/team/net/blobs/{layer.digest}", headers={"If-None-Match": f'"{layer.digest}"'})
        assert had.status_code == 304
        assert "x-accel-redirect" not in had.headers


async def test_who_is_not_nginx_gets_the_bytes(package: Any) -> None:
    layer = package.manifest.layers[1]
    async with behind(package, address="198.51.100.7") as client:
        # … and saying that one is somebody else changes nothing
        reply = await client.get(f"/v2/team/net/blobs/{layer.digest}", headers={"X-Forwarded-For": NGINX})
        assert reply.content == package.blob(layer.digest)
        assert "x-accel-redirect" not in reply.headers


@pytest.mark.parametrize(
    "path",
    [
        "/v2/team/net/blobs/sha256:" + "0" * 64,
        "/v2/team/net/blobs/sha256:..%2f..%2findex.json",
        "/v2/team/net/blobs/..%2f..%2foci-layout",
        "/v2/team/..%2fteam/net/blobs/{digest}",
        "/v2/team/net%0d%0aX-Accel-Redirect:%20/secret/blobs/{digest}",
        "/v2/team/other/blobs/{digest}",
        "/v2/team/net/_accordion/stream/{digest}",
        "/files/packages/team/net/blobs/sha256/{hex}",
        "/v2/team/net/manifests/latest",
        "/v2/team/net/tags/list",
    ],
)
async def test_nothing_but_files_of_a_package_is_ever_named(package: Any, path: str) -> None:
    digest = package.manifest.layers[1].digest
    async with behind(package) as client:
        reply = await client.get(path.format(digest=digest, hex=digest.removeprefix("sha256:")))
        assert "x-accel-redirect" not in reply.headers


async def test_a_link_in_a_package_is_no_file_of_it(package: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (package.path / "blobs" / "sha256" / ("1" * 64)).symlink_to(tmp_path / "secret")
    async with behind(package) as client:
        reply = await client.get(f"/v2/team/net/blobs/sha256:{'1' * 64}")
        assert reply.status_code == 404
        assert "x-accel-redirect" not in reply.headers


async def test_rights_are_asked_for_first(package: Any, tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text('{"tokens": [], "anonymous": {"packages": ["public/*"], "rights": ["pull"]}}')
    assert Tokens.parse((tmp_path / "tokens.json").read_bytes(), "the file")
    async with behind(package, tokens=tmp_path / "tokens.json") as client:
        reply = await client.get(f"/v2/team/net/blobs/{package.manifest.layers[1].digest}")
        assert reply.status_code == 401
        assert "x-accel-redirect" not in reply.headers


async def test_streams_go_by_what_was_exported_of_them(package: Any, tmp_path: Path) -> None:
    out, digest = tmp_path / "out", package.manifest.digest
    export(package.path, out, name="team/net")
    path = f"/v2/team/net/_accordion/stream/{digest}"
    async with behind(package) as client:  # several layers are no file
        assert (await client.get(path)).content == package.stream()
    async with behind(package, accel_export=out) as client:
        reply = await client.get(path)
        assert reply.headers["x-accel-redirect"] == f"/files/export{path}"
        assert reply.headers["etag"] == f'"{digest}"'
        assert (out / path[1:]).read_bytes() == package.stream()
        (out / path[1:]).write_bytes(b"half of it")
        assert (await client.get(path)).content == package.stream()
        (out / path[1:]).unlink()
        assert (await client.get(path)).content == package.stream()


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ({}, 1001),
        ({"Range": "bytes=0-9"}, 10),
        ({"Range": "bytes=0-9,20-29"}, 20),
        ({"Range": "bytes=5000-"}, 0),
        ({"Range": "nonsense"}, 1001),
        ({"Range": "bytes=0-9", "If-Range": '"another"'}, 1001),
    ],
)
async def test_what_nginx_sends_is_counted(package: Any, headers: dict[str, str], sent: int) -> None:
    layer = package.manifest.layers[2]
    assert layer.size == 1001
    async with behind(package) as client:
        await client.get(f"/v2/team/net/blobs/{layer.digest}", headers=headers)
        await client.head(f"/v2/team/net/blobs/{layer.digest}")
        text = (await client.get("/metrics")).text
    found = re.search(r'^accordion_http_sent_bytes_total\{route="blob"\} (\S+)$', text, re.MULTILINE)
    assert found is not None
    assert float(found[1]) == sent


@pytest.mark.parametrize("prefix", ["", "/", "files", "//files", "/../etc", "/a b", "/a\r\nX: y", "/a?b", "/ä", "/" + "a" * 300])
def test_what_is_no_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(UsageError, match="prefix"):
        Accel(prefix, Proxies([NGINX]))


def test_nobody_is_nginx_unless_it_is_named(package: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--trusted-proxy"):
        create_app([package.path], accel_redirect="/files")
    with pytest.raises(UsageError, match="accordion export"):
        create_app([package.path], accel_redirect="/files", trusted_proxies=[NGINX], accel_export=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="--accel-redirect"):
        create_app([package.path], accel_export=tmp_path)


async def test_it_is_off_unless_asked_for(connect: Callable[..., httpx.AsyncClient], package: Any) -> None:
    async with connect(package.path.parent.parent, trusted_proxies=["127.0.0.1"]) as client:
        reply = await client.get(f"/v2/team/net/blobs/{package.manifest.layers[1].digest}")
        assert "x-accel-redirect" not in reply.headers
        assert reply.content
