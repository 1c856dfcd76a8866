"""Connections that break at any byte, and servers that are slow, stop, send too much, or something else."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from kills import Scene  # type: ignore[import-not-found]
from scene import LAST, answers, kept, total  # type: ignore[import-not-found]
from wire import Handler, answering, cutting  # type: ignore[import-not-found]

from accordion.artifact.layout import Layout
from accordion.device import Request, delivery, fetch
from accordion.errors import AccordionError, ContentError, TransferError, UnmeetableError, UsageError
from accordion.registry import http
from accordion.registry.auth import Credentials

# Bytes of a connection: within the headers, at the ends of manifest and ladder, within and around layers, and behind everything.
CUTS = (1, 150, 400, 1_000, 2_500, 5_000, 20_000, 43_500, 60_000, 100_000, 240_000, 400_000)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for as long as in life."""
    monkeypatch.setattr(http, "SILENCE_S", 1.0)
    monkeypatch.setattr(delivery, "PAUSE_S", 0.01)


@pytest.mark.parametrize("after", CUTS)
def test_a_connection_that_is_cut_after_so_many_bytes(scene: Scene, tmp_path: Path, after: int) -> None:
    """Every fetch goes on where the one before was cut off; no byte of a layer comes twice, whatever was complete runs."""
    folder = tmp_path / "m"
    manifest = Layout.open(scene.package).manifest("latest")
    with cutting(scene.endpoint.port) as cutter:
        url, before = f"http://{cutter.address}/chain:latest", 0
        cutter.after = after
        for _ in range(3):
            try:
                fetch(url, folder)
            except TransferError as error:
                assert "\n" not in str(error)
            now = kept(folder, manifest)
            assert now >= before
            before = now
        answers(folder, scene.package)  # what is whole by now runs, and rightly
        cutter.after = 2**62
        result = fetch(url, folder)
    missing = total(manifest) - before
    assert missing <= result.bytes_received <= missing + scene.manifest_bytes["latest"]
    assert answers(folder, scene.package) == ("latest", LAST)


def say(handler: Handler, status: int, data: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    if "Content_Length" not in headers:
        handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


class Honest:
    """Manifest and stream of `latest`, which a test may answer otherwise."""

    def __init__(self, package: Path) -> None:
        layout = Layout.open(package)
        self.version = layout.manifest("latest")
        self.stream = b"".join(layout.blob_path(layer.digest).read_bytes() for layer in self.version.layers)
        self.asked: list[str] = []

    def __call__(self, handler: Handler) -> None:
        self.asked.append(handler.path)
        if "/manifests/" in handler.path:
            self.manifest(handler)
        elif "/stream/" in handler.path:
            start, end = map(int, handler.headers["Range"].removeprefix("bytes=").split("-"))
            self.bytes(handler, start, end)
        else:
            say(handler, 404, b"no", Content_Type="text/plain")

    def manifest(self, handler: Handler) -> None:
        say(handler, 200, self.version.raw, Content_Type=MANIFEST)

    def bytes(self, handler: Handler, start: int, end: int) -> None:
        say(handler, 206, self.stream[start : end + 1], Content_Range=f"bytes {start}-{end}/{len(self.stream)}")


@pytest.fixture
def server(scene: Scene) -> Any:
    return Honest(scene.package)


def test_the_honest_one_of_these_servers(server: Any, scene: Scene, tmp_path: Path) -> None:
    with answering(server) as address:
        assert fetch(f"{address}/chain:latest", tmp_path / "m").configuration == LAST
    assert answers(tmp_path / "m", scene.package) == ("latest", LAST)


def test_a_server_that_drips_ends_with_the_deadline(server: Any, scene: Scene, tmp_path: Path) -> None:
    """One byte now and then is never silence; the deadline is the device's own."""
    gone = threading.Event()

    def drip(handler: Handler, start: int, end: int) -> None:
        say(handler, 206, b"", Content_Range=f"bytes {start}-{end}/{len(server.stream)}", Content_Length=str(end + 1 - start))
        for byte in server.stream[start : end + 1]:
            if gone.wait(0.02):
                return
            handler.wfile.write(bytes([byte]))

    server.bytes = drip
    with answering(server) as address:
        began = time.monotonic()
        with pytest.raises(UnmeetableError, match="are kept"):
            fetch(f"{address}/chain:latest", tmp_path / "m", Request(deadline_s=0.6, throughput_bps=1e9))
        assert time.monotonic() - began < 60  # not the drip's end
        gone.set()
    assert answers(tmp_path / "m", scene.package) is None


@pytest.mark.parametrize("at", [0, 1000, 100_000])
def test_a_server_that_stops_in_the_middle_is_given_up(server: Any, scene: Scene, tmp_path: Path, at: int) -> None:
    gone = threading.Event()

    def stop(handler: Handler, start: int, end: int) -> None:
        length = str(end + 1 - start)
        say(handler, 206, b"", Content_Range=f"bytes {start}-{end}/{len(server.stream)}", Content_Length=length)
        handler.wfile.write(server.stream[start : max(start, at)])
        gone.wait(20)

    server.bytes = stop
    with answering(server) as address:
        with pytest.raises(TransferError):
            fetch(f"{address}/chain:latest", tmp_path / "m")
        gone.set()
    held = answers(tmp_path / "m", scene.package)
    assert held in ((("latest", 1), None) if at == 100_000 else (None,))  # nothing yet where a busy machine was given up sooner


def test_a_server_that_sends_more_than_it_was_asked_for(server: Any, scene: Scene, tmp_path: Path) -> None:
    def more(handler: Handler, start: int, end: int) -> None:
        data = server.stream[start : end + 1] + b"more" * 10_000
        say(handler, 206, data, Content_Range=f"bytes {start}-{end}/{len(server.stream)}")

    server.bytes = more
    with answering(server) as address:
        result = fetch(f"{address}/chain:latest", tmp_path / "m", Request(max_bytes=100_000))
    assert result.bytes_received <= 100_000 + server.version.size  # what is too much is not read
    assert answers(tmp_path / "m", scene.package) == ("latest", 1)


@pytest.mark.parametrize("length", ["0", "17", "99999999", "-1", "x", "1e3", str(2**70)])
def test_a_server_that_lies_about_its_length(server: Any, scene: Scene, tmp_path: Path, length: str) -> None:
    def lie(handler: Handler, start: int, end: int) -> None:
        whole = f"bytes {start}-{end}/{len(server.stream)}"
        say(handler, 206, server.stream[start : end + 1], Content_Range=whole, Content_Length=length)
        handler.close_connection = True

    server.bytes = lie
    with answering(server) as address:
        try:
            assert fetch(f"{address}/chain:latest", tmp_path / "m").configuration == LAST
            assert int(length) > total(server.version)  # it brought all, whatever else it announced
        except AccordionError as error:
            assert error.exit_code in (1, 4) and "\n" not in str(error)
    held = answers(tmp_path / "m", scene.package)
    assert held is None or held[0] == "latest"


@pytest.mark.parametrize("where", ["manifest", "bytes", "everything"])
def test_a_page_of_html_instead(server: Any, scene: Scene, tmp_path: Path, where: str) -> None:
    """As networks answer that want somebody to log in first."""

    def page(handler: Handler, *_: int) -> None:
        say(handler, 200, b"<!doctype html><p>Log in" + b" " * 300_000, Content_Type="text/html")

    if where != "everything":
        setattr(server, where, page)
    with answering(page if where == "everything" else server) as address, pytest.raises(AccordionError) as caught:
        fetch(f"{address}/chain:latest", tmp_path / "m")
    assert isinstance(caught.value, (ContentError, TransferError)) and "\n" not in str(caught.value)
    assert answers(tmp_path / "m", scene.package) is None


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_followed_without_credentials(scene: Scene, server: Any, tmp_path: Path, status: int) -> None:
    """Registries send their clients to where blobs lie; who the client is concerns only the registry."""
    heard: list[str | None] = []

    def other(handler: Handler) -> None:
        heard.append(handler.headers.get("Authorization"))
        server(handler)

    with answering(other) as there:

        def elsewhere(handler: Handler) -> None:
            if handler.command == "POST":
                say(handler, 404, b"no", Content_Type="text/plain")
            else:
                say(handler, status, b"", Location=f"{there}{handler.path}")

        with answering(elsewhere) as address:
            fetch(f"{address}/chain:latest", tmp_path / "m", credentials=Credentials("me", "secret"))
    assert answers(tmp_path / "m", scene.package) == ("latest", LAST)
    assert heard and set(heard) == {None}


@pytest.mark.parametrize(
    "where", ["", "/v2/again", "file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "http://127.0.0.1:1/", "//["]
)
def test_redirects_to_nowhere(scene: Scene, tmp_path: Path, where: str) -> None:
    with answering(lambda handler: say(handler, 302, b"", Location=where)) as address, pytest.raises(AccordionError) as caught:
        fetch(f"{address}/chain:latest", tmp_path / "m")
    assert caught.value.exit_code in (1, 4) and "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    assert not (tmp_path / "m").exists()


def test_a_name_that_is_not_there_any_more(server: Any, scene: Scene, tmp_path: Path) -> None:
    with answering(lambda handler: say(handler, 404, b"{}", Content_Type="text/plain")) as address, pytest.raises(UsageError):
        fetch(f"{address}/chain:latest", tmp_path / "m")
