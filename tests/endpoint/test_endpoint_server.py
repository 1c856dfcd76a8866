"""The endpoint as a real process on a real server."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from accordion.artifact.digest import sha256_digest
from accordion.endpoint import serve, server
from accordion.errors import AccordionError, FormatError, UsageError

PROGRAM = """
import sys
from pathlib import Path
from accordion.endpoint import serve, server
serve([Path(argument) for argument in sys.argv[2:]], port=int(sys.argv[1]), on_ready=lambda url: print(url, flush=True))
print("stopped", flush=True)
"""


@contextmanager
def endpoint(*directories: Path, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(port), *map(str, directories)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), url
        yield url, process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


LARGE = 40_000_000


@pytest.fixture
def large(tmp_path: Path, build: Callable[..., Any]) -> Any:
    """A package with a segment that is far larger than any buffer on the way."""
    return build(tmp_path / "large", {"latest": [b"first", bytes(LARGE)]})


def test_a_real_server(package: Any, large: Any, tmp_path: Path) -> None:
    with endpoint(tmp_path / "packages", large.path) as (url, process), httpx.Client(base_url=url, timeout=30) as client:
        assert client.get("/v2/_catalog").json() == {"repositories": ["large", "team/net"]}
        manifest = package.manifest
        layer = manifest.layers[1]
        # a whole file, sent by its path
        whole = client.get(f"/v2/team/net/blobs/{layer.digest}")
        assert sha256_digest(whole.content) == layer.digest
        assert whole.headers["content-length"] == str(layer.size)
        part = client.get(f"/v2/team/net/blobs/{layer.digest}", headers={"Range": "bytes=0-"})
        assert (part.status_code, part.content) == (206, whole.content)
        head = client.head(f"/v2/team/net/blobs/{layer.digest}")
        same = {name: value for name, value in whole.headers.items() if name != "date"}
        assert {name: value for name, value in head.headers.items() if name != "date"} == same
        stream = f"/v2/team/net/_accordion/stream/{manifest.digest}"
        assert client.get(stream).content == package.stream()
        assert client.get(stream, headers={"Range": "bytes=500-9000"}).content == package.stream()[500:9001]
        plan = client.post("/v2/team/net/_accordion/plan", json={"deadline_s": 1})
        assert plan.status_code == 200
        assert client.post("/v2/team/net/_accordion/plan", content=b"{").status_code == 400
        assert client.post("/v2/team/net/blobs/uploads/").status_code == 405
        whole_large = client.get(f"/v2/large/_accordion/stream/{large.manifest.digest}").content
        assert whole_large == large.stream()
        # a worker that stops in mid-transfer ends it first
        with client.stream("GET", f"/v2/large/_accordion/stream/{large.manifest.digest}") as reply:
            pieces = reply.iter_bytes(65536)
            received = len(next(pieces))
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            received += sum(len(piece) for piece in pieces)
        assert received == len(large.stream())
        assert process.wait(timeout=20) == 0


def test_a_client_that_goes_frees_the_worker(large: Any) -> None:
    """What is sent to a client that reads slowly stays bounded, and ends when it goes."""
    with endpoint(large.path) as (url, _), httpx.Client(base_url=url, timeout=30) as client:
        path = f"/v2/large/_accordion/stream/{large.manifest.digest}"
        with client.stream("GET", path) as reply:
            next(reply.iter_bytes(1000))
            time.sleep(0.3)
        with httpx.Client(base_url=url) as other:
            for _ in range(100):
                text = other.get("/metrics").text
                if "accordion_http_requests_underway 1.0" in text:  # this very request
                    break
                time.sleep(0.05)
            assert "accordion_http_requests_underway 1.0" in text
            (line,) = [one for one in text.splitlines() if one.startswith('accordion_http_sent_bytes_total{route="stream"}')]
            assert float(line.split()[-1]) < LARGE


def test_a_port_is_taken_once(package: Any, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(AccordionError, match=r"can't listen"):
            serve([package.path], port=taken.getsockname()[1])
    with endpoint(package.path) as (url, _), pytest.raises(AccordionError, match=r"can't listen"):
        serve([package.path], port=int(url.rpartition(":")[2]))


def test_wrong_usage(package: Any, tmp_path: Path) -> None:
    for wrong in ({"port": -1}, {"port": 65536}, {"workers": 0}, {"host": "no.such.host.invalid"}, {"host": "192.0.2.1"}):
        with pytest.raises(UsageError):
            serve([package.path], **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        serve([tmp_path / "none"])
    (package.path / "index.json").write_text("{")
    with pytest.raises(FormatError):
        serve([package.path])


def test_skopeo_copies_a_package(package: Any, sign: Callable[..., str], tmp_path: Path) -> None:
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("skopeo is not installed")
    sign(package)
    with endpoint(tmp_path / "packages") as (url, _):
        source = f"docker://{url.removeprefix('http://')}/team/net"
        for tag in ("latest", "v2"):
            subprocess.run(
                [program, "copy", "--src-tls-verify=false", f"{source}:{tag}", f"oci:{tmp_path}/copy:{tag}"],
                check=True,
                capture_output=True,
                timeout=60,
            )
        listed = subprocess.run([program, "list-tags", "--tls-verify=false", source], check=True, capture_output=True, timeout=60)
    assert set(json.loads(listed.stdout)["Tags"]) >= {"latest", "v2"}
    for manifest in package.manifests.values():
        for descriptor in (manifest.config, *manifest.layers):
            copied = tmp_path / "copy" / "blobs" / "sha256" / descriptor.digest.removeprefix("sha256:")
            assert sha256_digest(copied.read_bytes()) == descriptor.digest
        assert (tmp_path / "copy" / "blobs" / "sha256" / manifest.digest.removeprefix("sha256:")).read_bytes() == manifest.raw


def test_announcing_without_a_callback(package: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server._announce(listening.getsockname(), "http://here", server._print, threading.Event())
    assert capsys.readouterr().err == "serving at http://here\n"


def test_it_is_announced_however_long_the_workers_take(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten thousand packages take a slow machine more than a minute."""
    clock = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))

    class Late:
        """As the event that ends the wait; after 200 looks, each a second of that clock or more, somebody begins to listen."""

        looks = 0

        def wait(self, seconds: float) -> bool:
            self.looks += 1
            if self.looks == 200:
                listening.listen()
            return self.looks > 300

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        late = Late()
        server._announce(listening.getsockname(), "http://here", server._print, cast(threading.Event, late))
    assert late.looks == 200
    assert capsys.readouterr().err == "serving at http://here\n"
