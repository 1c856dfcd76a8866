"""Servers that are not this project's endpoint: they know less, or answer otherwise."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from accordion.artifact.layout import Layout
from accordion.device import Model, Request, fetch, upgrade
from accordion.endpoint import export
from accordion.errors import DigestError, UsageError
from chain import answers  # type: ignore[import-not-found]
from plain_server import Plain  # type: ignore[import-not-found]


@pytest.mark.parametrize("refusal", [(405, 404), (403, 403)], ids=["as registries do", "as object stores do"])
def test_a_registry_without_planner_and_stream_will_do(package: Path, tmp_path: Path, refusal: tuple[int, int]) -> None:
    """Static export without what is ours: manifest and blobs alone. What it says to a POST, and of what is not there, differs."""
    import http.server

    export(package, tmp_path / "static")
    blobs, layout = {}, Layout.open(package)
    for path in (package / "blobs" / "sha256").iterdir():
        blobs[f"/v2/chain/blobs/sha256:{path.name}"] = path
    manifest = layout.manifest("latest")

    class Handler(Plain, http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send(refusal[0], b"no")

        def do_GET(self) -> None:
            if self.path == "/v2/chain/manifests/latest":
                self.send(200, manifest.raw)
            elif self.path in blobs:
                self.send(200, blobs[self.path].read_bytes())
            else:
                self.send(refusal[1], b"no")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        result = fetch(f"http://127.0.0.1:{server.server_port}/chain:latest", tmp_path / "m", Request(max_bytes=150_000))
        server.shutdown()
    assert result.configuration == 2
    answers(tmp_path / "m", 2)


@pytest.mark.parametrize("status", [404, 422])
def test_an_endpoint_that_does_not_know_what_is_held_is_asked_again(package: Path, tmp_path: Path, status: int) -> None:
    """Whatever its words are. Where there are no plans at all, and problems say so, the device plans for itself."""
    import http.server

    export(package, tmp_path / "static")
    asked: list[bool] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "static"))  # type: ignore[arg-type]

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append("held" in request)
            self.send_response(status if asked[-1] else 404)
            self.send_header("Content-Type", "application/problem+json")
            self.end_headers()
            self.wfile.write(json.dumps({"title": "no", "detail": "unknown manifest"}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/chain"
        fetch(f"{url}:latest", tmp_path / "m", Request(max_bytes=100_000))
        result = upgrade(tmp_path / "m", Request(reference="v2"))
        with pytest.raises(UsageError, match="has no chain:v3"):
            upgrade(tmp_path / "m", Request(reference="v3"))
        server.shutdown()
    assert asked == [False, True, False, True, False]
    assert result.manifest == Layout.open(package).manifest("v2").digest


def test_a_server_that_lies_is_found_out(package: Path, tmp_path: Path) -> None:
    import http.server

    manifest = Layout.open(package).manifest("latest")
    stream = bytearray(b"".join(Layout.open(package).blob_path(layer.digest).read_bytes() for layer in manifest.layers))
    stream[manifest.offsets[4] + 500] ^= 4

    class Handler(Plain, http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(404)

        def do_GET(self) -> None:
            if "stream" in self.path:
                start, end = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
                self.send(206, bytes(stream[start : end + 1]), Content_Range=f"bytes {start}-{end}/{len(stream)}")
            else:
                self.send(200, manifest.raw if "manifests" in self.path else b"")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(DigestError, match="layer 4 is corrupt"):
            fetch(f"http://127.0.0.1:{server.server_port}/chain:latest", tmp_path / "m")
        server.shutdown()
    with Model.open(tmp_path / "m") as model:
        assert model.configuration == 0
