from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from accordion.artifact.digest import sha256_digest
from accordion.artifact.layout import Layout
from accordion.endpoint import export
from accordion.errors import ContentError, DigestError, FormatError, StorageError, UsageError


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_the_files_are_what_the_endpoint_answers(
    client: httpx.AsyncClient, package: Any, sign: Callable[..., str], tmp_path: Path
) -> None:
    signature = sign(package)
    written = export(package.path, tmp_path / "out", name="team/net")
    found = files(tmp_path / "out")
    assert sorted(found) == sorted({path.relative_to(tmp_path / "out").as_posix() for path in written})
    for path in found:
        if path == "nginx-accordion.conf":
            continue
        reply = await client.get("/" + path)
        assert reply.status_code == 200, path
        assert reply.content == found[path], path
    digest = package.manifest.digest
    assert found[f"v2/team/net/_accordion/stream/{digest}"] == package.stream()
    assert f"v2/team/net/manifests/{signature}" in found
    assert json.loads(found[f"v2/team/net/referrers/{digest}"])["manifests"][0]["digest"] == signature
    for layer in json.loads(found[f"v2/team/net/manifests/{signature}"])["layers"]:
        assert sha256_digest(found[f"v2/team/net/blobs/{layer['digest']}"]) == layer["digest"]


def test_several_packages_and_again(package: Any, build: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    other = build(tmp_path / "other")
    export(package.path, out)
    export(other.path, out)
    assert json.loads((out / "v2" / "_catalog").read_bytes()) == {"repositories": ["net", "other"]}
    before = files(out)
    export(package.path, out)
    assert files(out) == before
    Layout.open(package.path).add_version("v3", package.manifest)
    index = json.loads((package.path / "index.json").read_bytes())
    index["manifests"] = [one for one in index["manifests"] if one["annotations"]["org.opencontainers.image.ref.name"] != "v2"]
    (package.path / "index.json").write_text(json.dumps(index))
    export(package.path, out)
    after = files(out)
    assert "v2/net/manifests/v2" not in after
    assert after["v2/net/manifests/v3"] == package.manifest.raw


def test_damage_is_repaired_by_another_export(package: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(package.path, out)
    before = files(out)
    for path in (out / "v2" / "net" / "blobs").iterdir():
        path.write_bytes(b"x")
    for path in (out / "v2" / "net" / "_accordion" / "stream").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"x")  # as long as it was
    export(package.path, out)
    assert files(out) == before


def test_a_corrupt_package_is_not_exported(package: Any, tmp_path: Path) -> None:
    blob = Layout(package.path).blob_path(package.manifest.layers[2].digest)
    whole = blob.read_bytes()
    blob.write_bytes(bytes(len(whole)))
    with pytest.raises(DigestError):
        export(package.path, tmp_path / "out")
    assert not (tmp_path / "out" / "v2" / "net" / "manifests").exists()
    assert all(sha256_digest(data) == Path(path).name for path, data in files(tmp_path / "out").items())
    blob.unlink()
    with pytest.raises(FormatError, match=r"is missing"):
        export(package.path, tmp_path / "out")


def test_wrong_usage(package: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        export(tmp_path / "none", tmp_path / "out")
    with pytest.raises(UsageError):
        export(package.path, tmp_path / "out", name="../up")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ContentError):
        export(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        export(package.path, tmp_path / "file")


@pytest.fixture
def nginx(package: Any, sign: Callable[..., str], tmp_path: Path, free_port: int) -> Iterator[str]:
    """The URL of a real nginx over an exported package."""
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("nginx is not installed")
    sign(package)
    export(package.path, tmp_path / "out", name="team/net")
    # Workers of an nginx started by root give their rights up and must still be able to read.
    for folder in [tmp_path, *tmp_path.parents][:3]:
        folder.chmod(0o755)
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"""
        daemon off; pid {tmp_path}/nginx.pid; error_log stderr; worker_processes 1;
        events {{}}
        http {{
            access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p; fastcgi_temp_path {tmp_path}/f;
            uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;
            server {{ listen 127.0.0.1:{free_port}; root {tmp_path}/out; include {tmp_path}/out/nginx-accordion.conf; }}
        }}
        """
    )
    process = subprocess.Popen([program, "-p", str(tmp_path), "-c", str(configuration)], stderr=subprocess.PIPE)
    try:
        for _ in range(200):
            try:
                httpx.get(f"http://127.0.0.1:{free_port}/v2/")
                break
            except httpx.TransportError:
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                time.sleep(0.02)
        yield f"http://127.0.0.1:{free_port}"
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_nginx_serves_an_export(nginx: str, package: Any) -> None:
    manifest = package.manifest
    with httpx.Client(base_url=nginx) as client:
        assert client.get("/v2/").json() == {}
        assert client.get("/v2/_catalog").json() == {"repositories": ["team/net"]}
        for reference in ("latest", manifest.digest):
            reply = client.get(f"/v2/team/net/manifests/{reference}")
            assert reply.content == manifest.raw
            assert reply.headers["content-type"] == "application/vnd.oci.image.manifest.v1+json"
        assert reply.headers["docker-content-digest"] == manifest.digest
        layer = manifest.layers[1]
        reply = client.get(f"/v2/team/net/blobs/{layer.digest}")
        assert sha256_digest(reply.content) == layer.digest == reply.headers["docker-content-digest"]
        assert "immutable" in reply.headers["cache-control"]
        stream = f"/v2/team/net/_accordion/stream/{manifest.digest}"
        part = client.get(stream, headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, package.stream()[100:200])
        assert client.get(f"/v2/team/net/referrers/{manifest.digest}").json()["manifests"]
        assert client.get("/v2/team/net/tags/list").headers["content-type"] == "application/json"
