"""Endpoints that lie, stall, or never end: nothing that was not promised is used, and the device keeps its own limits."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from accordion.artifact.layout import Layout
from accordion.artifact.manifest import Manifest
from accordion.device import Model, Request, fetch
from accordion.errors import AccordionError, ContentError, FormatError, TransferError, UnmeetableError, UsageError
from accordion.planning import Request as PlanRequest
from accordion.planning import make_plan

Answer = tuple[int, str, bytes]
PROBLEM, JSON = "application/problem+json", "application/json"


class Endpoint:
    """One package's answers, each of which a test can replace: `plan` (of the request), `manifest`, `stream` (of its range)."""

    def __init__(self, package: Path) -> None:
        self.layout = Layout.open(package)
        self.version = self.layout.manifest("latest")
        self.ladder = self.layout.ladder(self.version)
        self.bytes = b"".join(self.layout.blob_path(layer.digest).read_bytes() for layer in self.version.layers)
        self.plan: Callable[[dict[str, Any]], Answer] = lambda request: (200, JSON, json.dumps(self.planned(request)).encode())
        self.manifest: Callable[[str], Answer] = lambda reference: (
            200,
            "application/vnd.oci.image.manifest.v1+json",
            self.version.raw,
        )
        self.stream: Callable[[int, int], bytes] = lambda start, end: self.bytes[start : end + 1]

    def planned(self, request: dict[str, Any], version: Manifest | None = None) -> dict[str, Any]:
        request = {key: value for key, value in request.items() if key not in ("reference", "held")}
        return make_plan("chain", version or self.version, self.ladder, PlanRequest.from_json(request)).to_json()


@contextmanager
def serving(endpoint: Endpoint) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self._send(*endpoint.plan(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def do_GET(self) -> None:
            if "/manifests/" in self.path:
                self._send(*endpoint.manifest(self.path.rpartition("/")[2]))
            elif "/stream/" in self.path:
                start, end = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
                data = endpoint.stream(start, end)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(endpoint.bytes)}")
                self.send_header("Content-Length", str(end + 1 - start))
                self.end_headers()
                self.wfile.write(data)
                self.close_connection = len(data) != end + 1 - start
            else:
                self._send(404, JSON, b"{}")

        def _send(self, status: int, kind: str, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # clients leave in the middle, as they should

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/chain"
        server.shutdown()


@pytest.fixture
def liar(package: Path) -> Endpoint:
    return Endpoint(package)


def nothing_runs(folder: Path) -> bool:
    """Whether no configuration is there for `run`."""
    try:
        with Model.open(folder) as model:
            return model.configuration is None
    except (ContentError, UnmeetableError, UsageError):
        return True


def test_the_honest_one_of_these_answers(liar: Endpoint, tmp_path: Path) -> None:
    with serving(liar) as url:
        assert fetch(url, tmp_path / "m").configuration == 5


def test_a_plan_for_another_version_than_the_digest_asked_for(liar: Endpoint, tmp_path: Path) -> None:
    asked, other = liar.version.digest, liar.layout.manifest("v2")
    liar.version, liar.bytes = other, b"".join(liar.layout.blob_path(layer.digest).read_bytes() for layer in other.layers)
    with serving(liar) as url, pytest.raises(ContentError, match="was asked for"):
        fetch(f"{url}@{asked}", tmp_path / "m")
    assert nothing_runs(tmp_path / "m")


@pytest.mark.parametrize(
    "request_, match",
    [
        (Request(max_bytes=60_000), "at most 60000 were asked for"),
        (Request(max_macs=20_000), "does not keep the limits"),
    ],
)
def test_a_plan_beyond_the_limits_asked_for(liar: Endpoint, tmp_path: Path, request_: Request, match: str) -> None:
    liar.plan = lambda request: (200, JSON, json.dumps(liar.planned({})).encode())
    with serving(liar) as url, pytest.raises(FormatError, match=match):
        fetch(url, tmp_path / "m", request_)
    assert nothing_runs(tmp_path / "m")


@pytest.mark.parametrize("more", [-1, 1])
def test_a_plan_that_ends_in_the_middle_of_a_layer(liar: Endpoint, tmp_path: Path, more: int) -> None:
    """In itself it is sound: ranges, layers and sums agree."""
    plan = liar.planned({"max_bytes": 60_000})
    ((start, end),) = plan["ranges"]
    plan["layers"][-1]["size"] += more
    plan |= {"ranges": [[start, end + more]], "bytes_to_send": plan["bytes_to_send"] + more}
    plan |= {"bytes_total": plan["bytes_total"] + more}
    liar.plan = lambda request: (200, JSON, json.dumps(plan).encode())
    with serving(liar) as url, pytest.raises(FormatError, match=f"is for {plan['bytes_total']} bytes, where no layer ends"):
        fetch(url, tmp_path / "m")
    assert nothing_runs(tmp_path / "m")


def test_a_plan_below_the_quality_asked_for(liar: Endpoint, tmp_path: Path) -> None:
    liar.plan = lambda request: (200, JSON, json.dumps(liar.planned({"max_bytes": 60_000})).encode())
    with serving(liar) as url, pytest.raises(FormatError, match="does not keep the limits"):
        fetch(url, tmp_path / "m", Request(min_quality=0.8))
    assert nothing_runs(tmp_path / "m")


@pytest.mark.parametrize(
    "plan",
    [
        (200, JSON, b"[1, 2"),
        (200, JSON, b"{}"),
        (200, "text/html", b"<html>"),
        (409, PROBLEM, b'{"limit": "max_bytes", "nearest": 7}'),
        (409, PROBLEM, b'{"detail": "no\\nno\\u001b[31m"}'),
        (409, PROBLEM, b"{"),
        (422, PROBLEM, b'{"detail": ["x"]}'),
        (500, JSON, b"oops"),
        (302, JSON, b""),
    ],
)
def test_an_answer_that_is_no_plan_is_one_clear_line(liar: Endpoint, tmp_path: Path, plan: Answer) -> None:
    liar.plan = lambda request: plan
    with serving(liar) as url, pytest.raises(AccordionError) as caught:
        fetch(url, tmp_path / "m", Request(max_bytes=60_000))
    assert caught.value.exit_code in (1, 2, 3, 4)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    assert not (tmp_path / "m").exists()


def test_a_plan_that_never_comes_ends_with_the_deadline(liar: Endpoint, tmp_path: Path) -> None:
    released = threading.Event()

    def stall(request: dict[str, Any]) -> Answer:
        released.wait(30)
        return 200, JSON, b"{}"

    liar.plan = stall
    with serving(liar) as url:
        began = time.monotonic()
        with pytest.raises(UnmeetableError, match="nothing was complete"):
            fetch(url, tmp_path / "m", Request(deadline_s=0.3))
        assert time.monotonic() - began < 25  # not the stall's end
        released.set()
    assert not (tmp_path / "m").exists()


def test_a_manifest_that_is_not_what_the_plan_names(liar: Endpoint, tmp_path: Path) -> None:
    other = liar.layout.manifest("v2").raw
    liar.manifest = lambda reference: (200, JSON, other)
    with serving(liar) as url, pytest.raises(ContentError):
        fetch(url, tmp_path / "m")
    assert nothing_runs(tmp_path / "m")


def test_a_manifest_without_end(liar: Endpoint, tmp_path: Path) -> None:
    liar.manifest = lambda reference: (200, JSON, b" " * (5 * 2**20))
    with serving(liar) as url, pytest.raises(FormatError, match="sent more than"):
        fetch(url, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_stream_that_always_breaks_off_is_given_up(liar: Endpoint, tmp_path: Path) -> None:
    liar.stream = lambda start, end: b""
    with serving(liar) as url, pytest.raises(TransferError):
        fetch(url, tmp_path / "m")
    assert nothing_runs(tmp_path / "m")


def test_a_stream_that_breaks_off_goes_on_where_it_stopped(liar: Endpoint, tmp_path: Path) -> None:
    asked: list[int] = []

    def broken(start: int, end: int) -> bytes:
        asked.append(start)
        return liar.bytes[start : min(end + 1, start + 90_000)]

    liar.stream = broken
    with serving(liar) as url:
        result = fetch(url, tmp_path / "m")
    assert result.configuration == 5
    assert asked == sorted(set(asked)) and len(asked) > 1
    assert result.bytes_received == liar.version.size + liar.ladder.configurations[5].bytes
