from __future__ import annotations

import json
from collections.abc import Callable
from email.parser import BytesParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from accordion.artifact.digest import sha256_digest
from accordion.artifact.layout import Layout
from accordion.endpoint import create_app

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def code(reply: httpx.Response) -> str:
    assert reply.headers["content-type"] == "application/json"
    (error,) = reply.json()["errors"]
    assert error["message"]
    return str(error["code"])


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
async def test_base(client: httpx.AsyncClient, path: str) -> None:
    reply = await client.get(path)
    assert reply.status_code == 200
    assert reply.headers["docker-distribution-api-version"] == "registry/2.0"


async def test_a_manifest_travels_compressed_for_who_asks(client: httpx.AsyncClient, package: Any) -> None:
    path = f"/v2/team/net/manifests/{package.manifest.digest}"
    for asked in ("zstd", "zstd, gzip", "ZSTD;q=0.5"):
        reply = await client.get(path, headers={"Accept-Encoding": asked})
        assert reply.headers["content-encoding"] == "zstd"
        assert reply.content == package.manifest.raw  # httpx unpacks it
        assert int(reply.headers["content-length"]) < len(package.manifest.raw)
        assert reply.headers["docker-content-digest"] == package.manifest.digest
        assert reply.headers["etag"] == f'"{package.manifest.digest}+zstd"'
        headers = {"Accept-Encoding": asked, "If-None-Match": reply.headers["etag"]}
        assert (await client.get(path, headers=headers)).status_code == 304
    for asked in ("identity", "zstd;q=0", "zstd; q=0.0", "gzip, deflate, zstd", "*", "zstandard"):
        reply = await client.get(path, headers={"Accept-Encoding": asked})
        assert "content-encoding" not in reply.headers and reply.content == package.manifest.raw


async def test_manifests_by_tag_and_digest(client: httpx.AsyncClient, package: Any) -> None:
    for tag, manifest in package.manifests.items():
        for reference in (tag, manifest.digest):
            reply = await client.get(f"/v2/team/net/manifests/{reference}")
            assert reply.status_code == 200
            assert reply.content == manifest.raw
            assert "content-encoding" not in reply.headers and reply.headers["vary"] == "Accept-Encoding"
            assert reply.headers["docker-content-digest"] == manifest.digest
            assert reply.headers["etag"] == f'"{manifest.digest}"'
            assert reply.headers["content-type"] == MANIFEST_TYPE
            assert ("immutable" in reply.headers["cache-control"]) == (reference != tag)  # a tag can move
            again = await client.get(f"/v2/team/net/manifests/{reference}", headers={"If-None-Match": reply.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")


async def test_blobs(client: httpx.AsyncClient, package: Any) -> None:
    for layer in (package.manifest.config, *package.manifest.layers):
        reply = await client.get(f"/v2/team/net/blobs/{layer.digest}")
        assert reply.status_code == 200
        assert sha256_digest(reply.content) == layer.digest
        assert reply.headers["content-length"] == str(layer.size)
        assert reply.headers["etag"] == f'"{layer.digest}"'
        assert reply.headers["docker-content-digest"] == layer.digest
        assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert reply.headers["accept-ranges"] == "bytes"


async def test_the_stream_is_all_layers_in_order(client: httpx.AsyncClient, package: Any) -> None:
    for tag, manifest in package.manifests.items():
        reply = await client.get(f"/v2/team/net/_accordion/stream/{manifest.digest}")
        assert reply.status_code == 200
        assert reply.content == package.stream(tag)
        assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"


def paths(package: Any) -> list[str]:
    manifest = package.manifest
    return [f"/v2/team/net/blobs/{manifest.layers[2].digest}", f"/v2/team/net/_accordion/stream/{manifest.digest}"]


@pytest.mark.parametrize("which", [0, 1])
async def test_ranges(client: httpx.AsyncClient, package: Any, which: int) -> None:
    path = paths(package)[which]
    whole = (await client.get(path)).content
    size = len(whole)
    for header, start, end in [
        ("bytes=0-0", 0, 0),
        ("bytes=100-299", 100, 299),
        ("bytes=900-", 900, size - 1),
        ("bytes=-10", size - 10, size - 1),
        ("bytes=0-999999999", 0, size - 1),
        ("bytes=0-9,5-19", 0, 19),
    ]:
        reply = await client.get(path, headers={"Range": header})
        assert reply.status_code == 206
        assert reply.headers["content-range"] == f"bytes {start}-{end}/{size}"
        assert reply.headers["content-length"] == str(end - start + 1)
        assert reply.content == whole[start : end + 1]
    refused = await client.get(path, headers={"Range": f"bytes={size}-"})
    assert (refused.status_code, refused.headers["content-range"], refused.content) == (416, f"bytes */{size}", b"")
    assert refused.headers["cache-control"] == "no-store"
    ignored = await client.get(path, headers={"Range": "bytes=9-1"})
    assert (ignored.status_code, ignored.content) == (200, whole)


@pytest.mark.parametrize("which", [0, 1])
async def test_if_range(client: httpx.AsyncClient, package: Any, which: int) -> None:
    path = paths(package)[which]
    etag = (await client.head(path)).headers["etag"]
    for condition, status in [(etag, 206), ('"other"', 200), (f"W/{etag}", 200), ("Wed, 21 Oct 2015 07:28:00 GMT", 200)]:
        reply = await client.get(path, headers={"Range": "bytes=0-9", "If-Range": condition})
        assert reply.status_code == status, condition
    for condition, status in [(etag, 304), (f'"x", W/{etag}', 304), ("*", 304), ('"x"', 200)]:
        assert (await client.get(path, headers={"If-None-Match": condition})).status_code == status, condition
    lines = [("If-None-Match", etag), ("If-None-Match", '"x"')]
    assert (await client.get(path, headers=lines)).status_code == 304


@pytest.mark.parametrize("which", [0, 1])
async def test_several_ranges_come_as_parts(client: httpx.AsyncClient, package: Any, which: int) -> None:
    path = paths(package)[which]
    whole = (await client.get(path)).content
    reply = await client.get(path, headers={"Range": "bytes=10-19,0-4,-7"})
    assert reply.status_code == 206
    assert reply.headers["content-length"] == str(len(reply.content))
    message = BytesParser().parsebytes(b"Content-Type: " + reply.headers["content-type"].encode() + b"\r\n\r\n" + reply.content)
    assert message.get_content_type() == "multipart/byteranges"
    size = len(whole)
    parts = [(str(part["Content-Range"]), part.get_payload(decode=True)) for part in message.get_payload()]  # type: ignore[union-attr]
    assert parts == [
        (f"bytes {start}-{end}/{size}", whole[start : end + 1]) for start, end in [(0, 4), (10, 19), (size - 7, size - 1)]
    ]


async def test_head_has_gets_headers(client: httpx.AsyncClient, package: Any, sign: Callable[..., str]) -> None:
    sign(package)
    manifest = package.manifest
    for path in [
        "/v2/",
        "/v2/_catalog",
        "/v2/team/net/tags/list",
        "/v2/team/net/manifests/latest",
        f"/v2/team/net/manifests/{manifest.digest}",
        f"/v2/team/net/referrers/{manifest.digest}",
        *paths(package),
        "/v2/team/net/manifests/none",
        "/v2/none/manifests/latest",
        f"/v2/team/net/blobs/sha256:{'0' * 64}",
        "/healthz",
        "/openapi.json",
    ]:
        got, head = await client.get(path), await client.head(path)
        assert got.content
        assert head.content == b""
        assert head.status_code == got.status_code
        assert dict(head.headers) == dict(got.headers)
        assert head.headers["content-length"] == str(len(got.content))
    ranged = await client.head(paths(package)[0], headers={"Range": "bytes=0-1"})
    assert ranged.status_code == 200  # ranges are defined for GET alone


async def test_tags_and_catalog_in_pages(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v2/team/net/tags/list")).json() == {"name": "team/net", "tags": ["latest", "v2"]}
    assert (await client.get("/v2/_catalog")).json() == {"repositories": ["team/net"]}
    first = await client.get("/v2/team/net/tags/list?n=1")
    assert first.json()["tags"] == ["latest"]
    link = first.headers["link"]
    assert link.endswith('; rel="next"')
    second = await client.get(link.partition(">")[0].removeprefix("<"))
    assert second.json()["tags"] == ["v2"]
    assert "link" not in second.headers
    assert (await client.get("/v2/team/net/tags/list?n=0")).json()["tags"] == []
    assert (await client.get("/v2/_catalog?last=team/net")).json() == {"repositories": []}
    for wrong in ("-1", "x", "1.5", "", "99999999999"):
        reply = await client.get(f"/v2/_catalog?n={wrong}")
        assert (reply.status_code, code(reply)) == (400, "PAGINATION_NUMBER_INVALID")


async def test_referrers_find_a_signature_by_its_tag(client: httpx.AsyncClient, package: Any, sign: Callable[..., str]) -> None:
    digest = package.manifest.digest
    path = f"/v2/team/net/referrers/{digest}"
    empty = await client.get(path)
    assert empty.status_code == 200
    assert empty.json()["manifests"] == []
    signature = sign(package)
    reply = await client.get(path)
    assert reply.headers["content-type"] == "application/vnd.oci.image.index.v1+json"
    (found,) = reply.json()["manifests"]
    assert found["digest"] == signature
    assert found["artifactType"] == "application/vnd.dev.cosign.artifact.sig.v1+json"
    assert len((await client.get(f"/v2/team/net/manifests/{signature}")).content) == found["size"]
    assert (await client.get(f"/v2/team/net/manifests/{digest.replace(':', '-')}.sig")).status_code == 200
    filtered = await client.get(path, params={"artifactType": "application/other"})
    assert filtered.json()["manifests"] == []
    assert filtered.headers["oci-filters-applied"] == "artifactType"
    # the other version has none
    other = package.manifests["v2"].digest
    assert (await client.get(f"/v2/team/net/referrers/{other}")).json()["manifests"] == []


async def test_referrers_find_by_subject_once(client: httpx.AsyncClient, package: Any, sign: Callable[..., str]) -> None:
    signature = sign(package, subject=True)
    found = (await client.get(f"/v2/team/net/referrers/{package.manifest.digest}")).json()["manifests"]
    assert [one["digest"] for one in found] == [signature]


DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        ("/v2/none/manifests/latest", 404, "NAME_UNKNOWN"),
        ("/v2/none/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/none/referrers/" + DIGEST, 404, "NAME_UNKNOWN"),
        ("/v2/team/manifests/latest", 404, "NAME_UNKNOWN"),
        ("/v2/team/net/manifests/none", 404, "MANIFEST_UNKNOWN"),
        ("/v2/team/net/manifests/" + DIGEST, 404, "MANIFEST_UNKNOWN"),
        ("/v2/team/net/manifests/", 404, "MANIFEST_UNKNOWN"),
        ("/v2/team/net/blobs/" + DIGEST, 404, "BLOB_UNKNOWN"),
        ("/v2/team/net/blobs/latest", 400, "DIGEST_INVALID"),
        ("/v2/team/net/blobs/sha256:" + "A" * 64, 400, "DIGEST_INVALID"),
        ("/v2/team/net/blobs/sha512:" + "0" * 128, 400, "DIGEST_INVALID"),
        ("/v2/team/net/referrers/x", 400, "DIGEST_INVALID"),
        ("/v2/team/net/anything", 404, "NAME_UNKNOWN"),
    ],
)
async def test_registry_errors(client: httpx.AsyncClient, path: str, status: int, expected: str) -> None:
    reply = await client.get(path)
    assert (reply.status_code, code(reply)) == (status, expected)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/none/_accordion/stream/" + DIGEST, 404),
        ("/v2/team/net/_accordion/stream/" + DIGEST, 404),
        ("/v2/team/net/_accordion/stream/latest", 400),
        ("/", 404),
        ("/none", 404),
        ("/healthz/", 404),
    ],
)
async def test_other_errors_are_problems(client: httpx.AsyncClient, path: str, status: int) -> None:
    reply = await client.get(path)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["status"] == status
    assert reply.json()["detail"]


async def test_a_blob_is_no_manifest(client: httpx.AsyncClient, package: Any) -> None:
    for layer in (package.manifest.config, *package.manifest.layers):
        assert (await client.get(f"/v2/team/net/manifests/{layer.digest}")).status_code == 404
        assert (await client.get(f"/v2/team/net/_accordion/stream/{layer.digest}")).status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_nothing_is_written(client: httpx.AsyncClient, package: Any, method: str) -> None:
    before = sorted(path for path in package.path.rglob("*"))
    for path in [
        "/v2/",
        "/v2/_catalog",
        "/v2/team/net/blobs/uploads/",
        "/v2/team/net/manifests/latest",
        f"/v2/team/net/blobs/{package.manifest.layers[0].digest}",
        "/v2/new/blobs/uploads/",
        "/v2/whatever",
    ]:
        reply = await client.request(method, path, content=b"{}")
        assert (reply.status_code, code(reply)) == (405, "UNSUPPORTED")
        assert reply.headers["allow"] == "GET, HEAD"
    stream = await client.request(method, f"/v2/team/net/_accordion/stream/{package.manifest.digest}")
    assert (stream.status_code, stream.headers["content-type"]) == (405, "application/problem+json")
    health = await client.request(method, "/healthz")
    assert health.status_code == 405
    assert sorted(path for path in package.path.rglob("*")) == before


@pytest.mark.parametrize(
    "path",
    [
        "/v2/team/net/blobs/../../../../etc/passwd",
        "/v2/team/net/blobs/%2e%2e%2f%2e%2e%2findex.json",
        "/v2/team/net/blobs/..%2f..%2findex.json",
        "/v2/team/net/manifests/..%2f..%2findex.json",
        "/v2/team/net/manifests/%2e%2e",
        "/v2/..%2f..%2fetc/manifests/passwd",
        "/v2/%2e%2e/packages/team/net/manifests/latest",
        "/v2/team/../team/net/manifests/latest",
        "/v2/team/%2e/net/manifests/latest",
        "/v2//team/net/manifests/latest",
        "/v2/team/net%00/manifests/latest",
        "/v2/team/net/blobs/sha256:%2e%2e",
        "/v2/team/net/manifests/%0aX-Injected:%201",
        "/v2/team/net/_accordion/stream/%2e%2e%2f%2e%2e",
    ],
)
async def test_nobody_leaves_the_package(package: Any, tmp_path: Path, path: str) -> None:
    (tmp_path / "packages" / "secret").write_bytes(b"secret")
    # without a client in between, which would tidy the path up
    scope = {
        "type": "http",
        "method": "GET",
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"endpoint")],
        "http_version": "1.1",
        "scheme": "http",
        "extensions": {},
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await create_app([tmp_path / "packages"])(scope, receive, send)
    assert sent[0]["status"] in (400, 404)
    assert b"secret" not in b"".join(message.get("body", b"") for message in sent)
    assert all(b"\n" not in value and b"injected" not in name for name, value in sent[0]["headers"])


async def test_links_out_of_the_package_are_not_followed(client: httpx.AsyncClient, package: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (package.path / "blobs" / "sha256" / ("0" * 64)).symlink_to(secret)
    reply = await client.get(f"/v2/team/net/blobs/{DIGEST}")
    assert (reply.status_code, code(reply)) == (404, "BLOB_UNKNOWN")


async def test_an_image_that_is_no_model_is_served_but_not_streamed(client: httpx.AsyncClient, package: Any) -> None:
    raw = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": {}, "layers": []}).encode()
    Layout.open(package.path).add_manifest("image", raw)
    assert (await client.get("/v2/team/net/manifests/image")).content == raw
    assert (await client.get(f"/v2/team/net/_accordion/stream/{sha256_digest(raw)}")).status_code == 404
    reply = await client.post("/v2/team/net/_accordion/plan", json={"reference": "image"})
    assert reply.status_code == 404
