"""A real nginx: before two endpoints, with the configuration in `deploy/`, and over files that were exported."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from accordion.artifact.layout import Layout
from accordion.cli import main
from serving import serving

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
WAIT_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def nginx(configuration: str, folder: Path, port: int) -> Iterator[str]:
    """nginx with this configuration, which makes it listen at `port`."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    path = folder / "nginx.conf"
    path.write_text(configuration)
    for above in [folder, *folder.parents][:3]:  # workers of an nginx started by root give their rights up
        above.chmod(0o755)
    with (folder / "nginx.log").open("wb") as log:
        command = [program, "-p", str(folder), "-c", str(path), "-g", "daemon off;"]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
        try:
            end = time.monotonic() + WAIT_S
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert process.poll() is None, (folder / "nginx.log").read_text()
                    assert time.monotonic() < end
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(WAIT_S)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def shipped(folder: Path, port: int, *endpoints: str, packages: Path | None = None, export: Path | None = None) -> str:
    """`deploy/nginx.conf` for this machine; the last endpoint is every further one."""
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    own = "".join(f" {kind}_temp_path {folder}/{kind};" for kind in ("proxy", "client_body", "fastcgi", "uwsgi", "scgi"))
    for before, after in (
        ("endpoint-1:8080", endpoints[0].removeprefix("http://")),
        ("endpoint-2:8080", endpoints[-1].removeprefix("http://")),
        ("listen 8080;", f"listen 127.0.0.1:{port};"),
        ("/tmp/nginx.pid", f"{folder}/nginx.pid"),
        ("/dev/stdout", f"{folder}/access.log"),
        ("http {", "http {" + own),
        ("alias /packages/;", f"alias {packages or '/packages'}/;"),
        ("alias /export/;", f"alias {export or '/export'}/;"),
    ):
        assert before in text
        text = text.replace(before, after)
    return text


class Busy(BaseHTTPRequestHandler):
    """An endpoint with as many transfers under way as it carries."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 503)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_endpoints_that_are_busy_are_not_taken_for_dead(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as busy:
        threading.Thread(target=busy.serve_forever, daemon=True).start()
        endpoint, port = f"http://127.0.0.1:{busy.server_port}", free_port()
        with nginx(shipped(tmp_path, port, endpoint, endpoint), tmp_path, port) as url:
            for _ in range(6):
                told = httpx.get(f"{url}/v2/net/_accordion/stream/x", timeout=WAIT_S)
                assert (told.status_code, told.headers["retry-after"]) == (503, "1")
            assert httpx.get(f"{url}/healthz", timeout=WAIT_S).status_code == 200
        busy.shutdown()


def test_before_two_endpoints_of_which_one_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    with ExitStack() as first, serving(GOLDEN / "precision", "--trusted-proxy", "127.0.0.1") as other:
        one = first.enter_context(serving(GOLDEN / "precision", "--trusted-proxy", "127.0.0.1"))
        with nginx(shipped(tmp_path, port, one, other), tmp_path, port) as url:
            # Each of the two answers some of these.
            for _ in range(4):
                assert httpx.get(f"{url}/v2/precision/tags/list", timeout=WAIT_S).status_code == 200
            model = tmp_path / "model"
            small = told(capsys, "fetch", f"{url}/precision", "-o", str(model), "--max-bytes", "100kB")
            first.close()  # one endpoint goes; nobody is told
            for _ in range(6):
                assert httpx.post(f"{url}/v2/precision/_accordion/plan", json={}, timeout=WAIT_S).status_code == 200
            whole = told(capsys, "upgrade", str(model))
            assert whole["configuration"] >= small["configuration"]
            assert main(["verify", str(model)]) == 0
            assert httpx.get(f"{url}/metrics", timeout=WAIT_S).status_code == 404  # not for the world
            assert httpx.post(f"{url}/v2/precision/_accordion/plan", content=b" " * 70_000, timeout=WAIT_S).status_code == 413
        assert "127.0.0.1" not in (tmp_path / "access.log").read_text()


@pytest.fixture
def accelerated(tmp_path: Path) -> Iterator[tuple[str, str, Path]]:
    """nginx that sends files in an endpoint's stead, the endpoint itself, and the package `team/net`."""
    package, port = tmp_path / "packages" / "team" / "net", free_port()
    shutil.copytree(GOLDEN / "precision", package)
    assert main(["export", str(package), str(tmp_path / "out"), "--name", "team/net"]) == 0
    options = ["--trusted-proxy", "127.0.0.1", "--accel-redirect", "/accordion-files", "--accel-export", str(tmp_path / "out")]
    with serving(tmp_path / "packages", *options) as endpoint:
        text = shipped(tmp_path, port, endpoint, packages=tmp_path / "packages", export=tmp_path / "out")
        with nginx(text, tmp_path, port) as url:
            yield url, endpoint, package


def paths(package: Path) -> dict[str, bytes]:
    """A blob and a stream, by their paths."""
    layout = Layout.open(package)
    manifest = layout.manifest()
    blobs = [layout.blob_path(layer.digest).read_bytes() for layer in manifest.layers]
    largest = max(range(len(blobs)), key=lambda index: len(blobs[index]))
    return {
        f"/v2/team/net/blobs/{manifest.layers[largest].digest}": blobs[largest],
        f"/v2/team/net/_accordion/stream/{manifest.digest}": b"".join(blobs),
    }


def test_nginx_sends_what_the_endpoint_would(accelerated: tuple[str, str, Path]) -> None:
    url, _, package = accelerated
    for path, data in paths(package).items():
        digest, size = path.rpartition("/")[2], len(data)
        tag = f'"{digest}"'
        whole = httpx.get(url + path)
        assert (whole.status_code, whole.content) == (200, data)
        assert whole.headers.get_list("etag") == [tag]
        assert whole.headers.get_list("accept-ranges") == ["bytes"]
        assert whole.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert whole.headers["content-type"] == "application/octet-stream"
        assert whole.headers.get("docker-content-digest") == (digest if "/blobs/" in path else None)
        assert "last-modified" not in whole.headers
        assert "x-accel-redirect" not in whole.headers
        head = httpx.head(url + path)
        assert (head.status_code, head.headers["content-length"], head.content) == (200, str(size), b"")
        for headers, status, expected in (
            ({"Range": "bytes=10-19"}, 206, data[10:20]),
            ({"Range": "bytes=-5"}, 206, data[-5:]),
            ({"Range": "bytes=10-19", "If-Range": tag}, 206, data[10:20]),
            ({"Range": "bytes=10-19", "If-Range": '"another"'}, 200, data),
            ({"Range": "bytes=10-19", "If-Range": "Wed, 21 Oct 2015 07:28:00 GMT"}, 200, data),
            ({"If-None-Match": tag}, 304, b""),
            ({"If-None-Match": '"another"'}, 200, data),
            ({"If-Modified-Since": "Wed, 21 Oct 2099 07:28:00 GMT"}, 200, data),
        ):
            reply = httpx.get(url + path, headers=headers)
            assert (reply.status_code, reply.content) == (status, expected), headers
            assert reply.headers["etag"] == tag
        several = httpx.get(url + path, headers={"Range": "bytes=0-4,10-19"})
        assert several.status_code == 206
        assert data[:5] in several.content and data[10:20] in several.content
        assert httpx.get(url + path, headers={"Range": f"bytes={size}-"}).status_code == 416


def test_nobody_gets_at_the_files_but_through_an_endpoint(accelerated: tuple[str, str, Path]) -> None:
    url, endpoint, package = accelerated
    blob = next(iter(paths(package)))
    inside = f"packages/team/net/blobs/sha256/{blob.rpartition(':')[2]}"
    for path in (inside, "packages/team/net/index.json", "export/v2/_catalog", "packages/../packages/team/net/index.json"):
        assert httpx.get(f"{url}/accordion-files/{path}").status_code == 404
    assert (
        httpx.get(f"{url}{blob}", headers={"X-Accel-Redirect": "/accordion-files/packages/team/net/index.json"}).content
        == (paths(package)[blob])
    )
    # The files themselves are nginx's: here they are gone, and the endpoint has the bytes at hand no more either.
    (package / "blobs" / "sha256" / blob.rpartition(":")[2]).unlink()
    assert httpx.get(f"{url}{blob}").status_code == 503
    assert httpx.get(f"{endpoint}{blob}").status_code in (404, 503)  # by now it may have looked at the package again


def test_a_device_notices_nothing_of_who_sends(
    accelerated: tuple[str, str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, _, _ = accelerated
    capsys.readouterr()
    model = tmp_path / "model"
    small = told(capsys, "fetch", f"{url}/team/net", "-o", str(model), "--max-bytes", "1500B")
    whole = told(capsys, "upgrade", str(model))
    assert whole["configuration"] > small["configuration"]
    assert main(["verify", str(model)]) == 0


def test_over_exported_files_a_device_plans_for_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And comes to what an endpoint would have planned."""
    port = free_port()
    assert main(["export", str(GOLDEN / "precision"), str(tmp_path / "out")]) == 0
    capsys.readouterr()
    configuration = f"""
        pid {tmp_path}/nginx.pid; error_log stderr; worker_processes 1;
        events {{}}
        http {{
            access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p; fastcgi_temp_path {tmp_path}/f;
            uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;
            server {{ listen 127.0.0.1:{port}; root {tmp_path}/out; include {tmp_path}/out/nginx-accordion.conf; }}
        }}
        """
    limits = ["--max-bytes", "1500B"]
    with nginx(configuration, tmp_path, port) as files, serving(GOLDEN / "precision") as endpoint:
        assert httpx.post(f"{files}/v2/precision/_accordion/plan", json={}).status_code in (404, 405)
        alone = told(capsys, "fetch", f"{files}/precision", "-o", str(tmp_path / "alone"), *limits)
        helped = told(capsys, "fetch", f"{endpoint}/precision", "-o", str(tmp_path / "helped"), *limits)
        assert (alone["manifest"], alone["configuration"]) == (helped["manifest"], helped["configuration"])
        plan, other = (told(capsys, "plan", f"{url}/precision", *limits, "--throughput", "10Mbps") for url in (files, endpoint))
        for field in ("manifest", "configuration", "bytes_to_send", "ranges", "layers"):
            assert plan[field] == other[field]
        assert (
            told(capsys, "upgrade", str(tmp_path / "alone"))["configuration"]
            == told(capsys, "upgrade", str(tmp_path / "helped"))["configuration"]
        )
    assert main(["verify", str(tmp_path / "alone")]) == 0
