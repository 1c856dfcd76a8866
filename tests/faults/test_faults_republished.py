"""A tag that is given to another version while a device fetches: it gets the one or the other, never parts of both."""

from __future__ import annotations

import http.server
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from kills import Scene  # type: ignore[import-not-found]
from scene import LAST, SHARED, Endpoint, Prepared, answers, kept, make_package, total, weight  # type: ignore[import-not-found]

from accordion.artifact.layout import Layout
from accordion.device import Request, fetch
from accordion.endpoint import export
from accordion.errors import TransferError

RATE = ["--limit-rate", "1.6Mbps"]


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    made = Endpoint(make_package(tmp_path))
    made.start()
    yield made
    made.stop()


def republish(package: Path) -> None:
    """`latest` is what `v2` is."""
    layout = Layout.open(package)
    layout.add_version("latest", layout.manifest("v2"))


def test_a_tag_republished_in_the_middle_of_a_fetch(endpoint: Endpoint, scene: Scene, tmp_path: Path) -> None:
    package, folder = endpoint.packages[0], tmp_path / "m"
    process = Prepared("fetch", f"{endpoint.url}:latest", "-o", folder, *RATE)
    while weight(folder) < 60_000 and process.poll() is None:
        time.sleep(0.005)
    republish(package)
    assert process.wait()[0] == 0
    assert answers(folder, scene.package) == ("latest", LAST)  # it goes on with the version that it began with
    result = fetch(f"{endpoint.url}:latest", folder)  # the next one brings the other
    assert answers(folder, scene.package) == ("v2", LAST)
    assert result.bytes_reused > SHARED * 40_000


def test_a_tag_republished_between_two_parts_of_a_fetch(endpoint: Endpoint, scene: Scene, tmp_path: Path) -> None:
    """What was left of the one version is of use for the other only where it is the same, byte for byte."""
    package, folder = endpoint.packages[0], tmp_path / "m"
    other = Layout.open(package).manifest("v2")
    process = Prepared("fetch", f"{endpoint.url}:latest", "-o", folder, *RATE)
    while weight(folder) < 150_000 and process.poll() is None:
        time.sleep(0.005)
    process.send()
    process.wait()
    held = answers(folder, scene.package)
    assert held is not None and held[0] == "latest"
    republish(package)
    known = kept(folder, other)
    result = fetch(f"{endpoint.url}:latest", folder)
    assert result.bytes_received <= total(other) - known + 4096
    assert answers(folder, scene.package) == ("v2", LAST)


def test_a_version_that_goes_away_in_the_middle(scene: Scene, tmp_path: Path) -> None:
    """A file server whose export is replaced: what is fetched by digest is not there any more, and nothing else takes its place."""
    export(scene.package, tmp_path / "site")
    arrived: list[int] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/stream/" in self.path:  # no ranges, no streams: blob by blob
                self.send_error(404)
                return
            if "/blobs/" in self.path and len(arrived) == 4:
                shutil.rmtree(tmp_path / "site" / "v2" / "chain" / "blobs")
            arrived.extend([1] if "/blobs/" in self.path else [])
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "site"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(TransferError, match="has no blob"):
            fetch(f"http://127.0.0.1:{server.server_port}/chain:latest", tmp_path / "m", Request())
        server.shutdown()
    held = answers(tmp_path / "m", scene.package)
    assert held is not None and held[0] == "latest" and held[1] < LAST
