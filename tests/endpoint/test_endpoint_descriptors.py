"""How many connections there is room for, and what is answered when no descriptor is left."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from small_packages import segment  # type: ignore[import-not-found]

from accordion.artifact.layout import Layout
from accordion.endpoint import create_app, server
from accordion.endpoint.descriptors import CONNECTIONS, lacking, most_open, needed, places, raise_limit
from accordion.endpoint.limits import UNBOUNDED
from accordion.endpoint.package import Package
from accordion.errors import StorageError, UsageError

Connect = Callable[..., httpx.AsyncClient]
Build = Callable[..., Any]
WAIT_S = 60.0  # a bound for busy machines
LARGE = 300_000  # bytes: too many to be kept in memory


@pytest.fixture(autouse=True)
def limit_as_before() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def none_left() -> Iterator[None]:
    """Meanwhile, this process can open nothing. What it has open stays so."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)  # the least number that is free
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_room_for_connections() -> None:
    for far in (False, True):
        for count in (1, 480, CONNECTIONS):
            assert places(needed(count, far=far), far=far) == count
            assert places(needed(count, far=far) - 1, far=far) == count - 1
        assert places(10, far=far) == 0
    assert places(1024, far=True) < places(1024) < 1024 / 2


def test_the_limit_is_raised_as_far_as_it_may_be() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    assert raise_limit() == most_open()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_what_an_endpoint_says_of_a_low_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connections(limit: int, *more: str) -> tuple[int, str | None]:
        monkeypatch.setattr(server, "raise_limit", lambda: limit)
        return server._connections([tmp_path, *more], 2048)

    assert connections(2**20) == (2048, None)
    count, said = connections(1024)
    assert count == places(1024) and said is not None
    for part in (f"at most {count} connections", "1024 files", "for 2048", str(needed(2048)), "ulimit -n"):
        assert part in said
    assert connections(1024, "oci://host.invalid/net")[0] < count
    with pytest.raises(UsageError, match="ulimit -n"):
        connections(needed(1) - 1)


def test_errors_that_mean_that_none_is_left() -> None:
    assert lacking(OSError(errno.EMFILE, "Too many open files"))
    assert not lacking(OSError(errno.EIO, "Input/output error"))
    try:
        try:
            raise OSError(errno.ENFILE, "Too many open files in system")
        except OSError as error:
            raise StorageError("can't read it") from error
    except StorageError as error:
        assert lacking(error)
    assert not lacking(StorageError("can't read it")) and not lacking(None)


async def test_a_large_blob_that_can_not_be_opened_is_no_missing_one(tmp_path: Path, build: Build) -> None:
    """The server would open the file itself, and answer 404 where it can't."""
    built = build(tmp_path / "net", {"latest": [segment(0, size=LARGE)]})
    app = create_app([tmp_path / "net"], limits=UNBOUNDED)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask() -> list[Any]:
        sent.clear()
        scope = {
            "type": "http", "method": "GET", "path": f"/v2/net/blobs/{built.manifest.layers[1].digest}", "root_path": "",
            "query_string": b"", "headers": [], "scheme": "http", "client": ("198.51.100.7", 1), "server": None, "http_version": "1.1",
            "extensions": {"http.response.pathsend": {}},
        }  # fmt: skip
        await app(scope, None, send)  # type: ignore[arg-type]
        return [sent[0]["status"], dict(sent[0]["headers"]).get(b"retry-after"), sent[1]["type"]]

    with none_left():
        assert await ask() == [503, b"1", "http.response.body"]
    assert await ask() == [200, None, "http.response.pathsend"]


async def test_nothing_is_missing_and_nothing_fails_when_no_descriptor_is_left(
    tmp_path: Path, package: Any, build: Build, connect: Connect
) -> None:
    Layout.open(package.path).remove(["v2"])
    unnamed = package.manifests["v2"].digest
    (tmp_path / "tuf").mkdir()
    (tmp_path / "tuf" / "timestamp.json").write_text("{}")
    named = tmp_path / "named" / "net"
    build(named)
    busy = [
        f"/v2/team/net/manifests/{unnamed}",
        f"/v2/team/net/_accordion/stream/{unnamed}",
        "/tuf/timestamp.json",
        "/v2/new/manifests/latest",
    ]
    async with connect(tmp_path / "packages", named, rescan_s=0, tuf=tmp_path / "tuf", limits=UNBOUNDED) as client:
        build(tmp_path / "packages" / "new")
        with none_left():
            for path in busy:
                answer = await client.get(path)
                assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1"), path
            plan = await client.post("/v2/team/net/_accordion/plan", json={"reference": unnamed})
            assert (plan.status_code, plan.json()["type"]) == (503, "urn:accordion:problem:busy")
            health = await client.get("/healthz")
            assert (health.status_code, health.json()["packages"]) == (200, 2)
            assert (await client.get("/metrics")).status_code == 200
            assert (await client.get("/v2/_catalog")).json() == {"repositories": ["net", "team/net"]}
            assert (await client.get("/v2/team/net/manifests/latest")).status_code == 200
        for path in busy:
            assert (await client.get(path)).status_code == 200, path
        assert (await client.get("/v2/newer/manifests/latest")).status_code == 404


def test_a_version_that_could_not_be_read_leaves_what_is_served(package: Any, build: Build) -> None:
    served = Package("net", package.path)
    before = served.snapshot()
    assert before is not None
    layout = Layout.open(package.path)
    layout.add_version("new", package.manifests["v2"])
    layout.remove(["latest", "v2"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("accordion.endpoint.package._read_document", fails)
        before._by_digest.clear()
        assert served.snapshot() is before
    fresh = Package("net", package.path)
    with none_left():
        assert fresh.known() is None
        with pytest.raises(StorageError, match="Too many open files"):
            fresh.snapshot()
    assert fresh.snapshot() is not None  # at once


def fails(*_: Any) -> Any:
    raise OSError(errno.EMFILE, "Too many open files")


async def test_a_failure_for_want_of_descriptors_is_no_failure_of_the_endpoint(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app([tmp_path / "packages"])
    monkeypatch.setattr("accordion.endpoint.catalog.Catalog.refresh", fails)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app, raise_app_exceptions=False), base_url="http://endpoint"
    ) as client:
        for path in ("/healthz", "/v2/_catalog"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1"), path


def test_what_threads_need_is_there_before_descriptors_run_out() -> None:
    code = "import sys; from accordion.endpoint import create_app; print('concurrent.futures.thread' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert done.stdout.strip() == "True"


def test_more_idle_connections_than_descriptors(tmp_path: Path, build: Build) -> None:
    """Who comes beyond waits for a place, and gets what is there: no 404, and no failure."""
    built = build(tmp_path / "net", {"latest": [segment(0, size=LARGE)]})
    under = ["sh", "-c", 'ulimit -n 256 && exec "$@"', "sh", sys.executable, "-m", "accordion.cli"]
    options = ["--port", "0", "--json", "--header-time", "1s"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*under, "serve", str(tmp_path / "net"), *options], stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    try:
        lines = b""
        while not lines.strip().endswith(b"}"):
            piece = process.stdout.readline()
            assert piece, (tmp_path / "log").read_text()
            lines += piece
        url = str(json.loads(lines)["url"])
        with ExitStack() as held:
            for _ in range(300):
                held.enter_context(socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=WAIT_S))
            end = time.monotonic() + 3  # while one silent connection after the other is closed for its silence
            while time.monotonic() < end:
                for path in ("/healthz", f"/v2/net/blobs/{built.manifest.layers[1].digest}"):
                    assert httpx.get(url + path, timeout=WAIT_S).status_code == 200
    finally:
        process.terminate()
        process.wait(WAIT_S)
        process.stdout.close()
    said = (tmp_path / "log").read_text()
    assert f"at most {places(256)} connections" in said
    assert "Too many open files" not in said
