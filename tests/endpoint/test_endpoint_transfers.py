"""Limits of requests and transfers, in memory; `test_endpoint_hostile.py` tries them on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from accordion.endpoint import create_app
from accordion.endpoint.limits import UNBOUNDED, Limits

Connect = Callable[..., httpx.AsyncClient]
SIZE = 3_000_000


def request(path: str, method: str = "GET") -> dict[str, Any]:
    return {
        "type": "http", "method": method, "path": path, "root_path": "", "query_string": b"", "headers": [], "scheme": "http",
        "client": ("198.51.100.7", 1), "server": None, "http_version": "1.1", "extensions": {"http.response.pathsend": {}},
    }  # fmt: skip


class Reader:
    """A client that takes `most` bytes and then nothing until `go_on` is set."""

    def __init__(self, most: int) -> None:
        self.most, self.bytes, self.status, self.headers = most, 0, 0, {}
        self.go_on, self.stuck = asyncio.Event(), asyncio.Event()

    async def receive(self) -> Any:
        await asyncio.Event().wait()

    async def send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.headers.update(message.get("headers", []))
        self.bytes += len(message.get("body", b""))
        if self.bytes > self.most:
            self.stuck.set()
            await self.go_on.wait()


@pytest.fixture
def large(tmp_path: Path, build: Callable[..., Any]) -> str:
    """The path of a stream of more than 3 MB in the package net."""
    return f"/v2/net/_accordion/stream/{build(tmp_path / 'net', {'latest': [bytes(SIZE)]}).manifest.digest}"


async def counted(app: Any, name: str) -> float:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://endpoint") as client:
        lines = (await client.get("/metrics")).text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(name + " "))


async def test_who_takes_nothing_is_cut_off(large: str, tmp_path: Path) -> None:
    app = create_app([tmp_path / "net"], limits=Limits(patience_s=0.05, min_rate_bps=1e9))
    reader = Reader(500_000)
    await app(request(large), reader.receive, reader.send)
    assert reader.status == 200
    assert reader.bytes < SIZE  # and the connection ends short of what was promised
    assert await counted(app, 'accordion_transfers_cut_total{reason="slow"}') == 1
    assert await counted(app, "accordion_transfers_underway") == 0


async def test_a_transfer_that_takes_too_long_is_cut_off(large: str, tmp_path: Path) -> None:
    app = create_app([tmp_path / "net"], limits=Limits(transfer_s=0.05, min_rate_bps=None))
    reader = Reader(500_000)
    await app(request(large), reader.receive, reader.send)
    assert reader.bytes < SIZE
    assert await counted(app, 'accordion_transfers_cut_total{reason="time"}') == 1


async def test_without_limits_a_client_may_take_its_time(large: str, tmp_path: Path) -> None:
    app = create_app([tmp_path / "net"], limits=UNBOUNDED)
    reader = Reader(500_000)
    task = asyncio.create_task(app(request(large), reader.receive, reader.send))
    await reader.stuck.wait()
    reader.go_on.set()
    await task
    assert reader.bytes > SIZE


async def test_bytes_that_are_gone_are_said_to_be(
    tmp_path: Path, build: Callable[..., Any], connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accordion.endpoint.package.DOUBT_S", 0.0)
    built = build(tmp_path / "net", {"latest": [bytes(300_000), bytes(100)], "other": [bytes(10)]})
    path = f"/v2/net/_accordion/stream/{built.manifests['latest'].digest}"
    async with connect(tmp_path / "net") as client:
        assert (await client.get(path)).status_code == 200
        lost = built.manifests["latest"].layers[1]
        (tmp_path / "net" / "blobs" / "sha256" / lost.digest.removeprefix("sha256:")).unlink()
        late = await client.get(path, headers={"Range": f"bytes={built.manifests['latest'].offsets[1]}-"})
        assert (late.status_code, late.headers["retry-after"]) == (503, "1")
        assert (await client.get(path)).status_code == 404  # it was looked at again, and the other version is still there
        assert (await client.get("/v2/net/manifests/other")).status_code == 200
        assert lost.digest in str((await client.get("/healthz")).json())
        metrics = (await client.get("/metrics")).text
    assert 'route="stream",status="503"} 1.0' in metrics, metrics


@pytest.mark.parametrize("damage", ["gone", "short"])
async def test_a_blob_that_was_promised_and_is_not_there_is_said_to_be(
    tmp_path: Path, build: Callable[..., Any], connect: Connect, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr("accordion.endpoint.package.DOUBT_S", 0.0)
    built = build(tmp_path / "net", {"latest": [bytes(300_000), bytes(100)], "other": [bytes(10)]})
    lost = built.manifests["latest"].layers[1]
    file = tmp_path / "net" / "blobs" / "sha256" / lost.digest.removeprefix("sha256:")
    async with connect(tmp_path / "net") as client:
        assert (await client.get(f"/v2/net/blobs/{lost.digest}")).status_code == 200
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:-1])
        late = await client.get(f"/v2/net/blobs/{lost.digest}")
        assert (late.status_code, late.headers["retry-after"]) == (503, "1")
        assert (await client.get("/v2/net/manifests/other")).status_code == 200  # this looks at the package again
        assert lost.digest in str((await client.get("/healthz")).json())


@pytest.mark.parametrize(("limits", "status"), [({"transfers": 1}, 503), ({"client_transfers": 1}, 429)])
async def test_no_more_transfers_than_allowed(large: str, tmp_path: Path, limits: dict[str, int], status: int) -> None:
    app = create_app([tmp_path / "net"], limits=Limits(**limits))  # type: ignore[arg-type]
    first = Reader(500_000)
    task = asyncio.create_task(app(request(large), first.receive, first.send))
    await first.stuck.wait()
    second = Reader(SIZE * 2)
    await app(request(large), second.receive, second.send)
    assert second.status == status
    assert second.headers[b"retry-after"] == b"1"
    head = Reader(SIZE)
    await app(request(large, "HEAD"), head.receive, head.send)  # sends nothing, so it takes no place
    assert head.status == 200
    elsewhere = Reader(SIZE * 2)
    await app({**request(large), "client": ("198.51.100.8", 1)}, elsewhere.receive, elsewhere.send)
    assert elsewhere.status == (503 if "transfers" in limits else 200)
    first.go_on.set()
    await task
    third = Reader(SIZE * 2)
    await app(request(large), third.receive, third.send)
    assert (third.status, third.bytes) == (200, first.bytes)
    assert await counted(app, f'accordion_refused_total{{reason="{next(iter(limits))}"}}') >= 1


async def test_a_client_that_breaks_off_gives_its_place_back(large: str, tmp_path: Path) -> None:
    app = create_app([tmp_path / "net"], limits=Limits(transfers=1))
    first = Reader(500_000)
    task = asyncio.create_task(app(request(large), first.receive, first.send))
    await first.stuck.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    second = Reader(SIZE * 2)
    await app(request(large), second.receive, second.send)
    assert second.status == 200


async def test_requests_a_second(connect: Connect, package: Any, tmp_path: Path) -> None:
    limits = Limits(requests_per_s=0.5, burst=2)
    async with connect(tmp_path / "packages", limits=limits) as client:
        replies = [await client.get("/v2/team/net/manifests/latest") for _ in range(3)]
        assert [reply.status_code for reply in replies] == [200, 200, 429]
        refused = replies[-1]
        assert refused.headers["retry-after"] == "2"
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["errors"][0]["code"] == "TOOMANYREQUESTS"
        assert (await client.get("/healthz")).status_code == 200  # a probe is no client
        plan = await client.post("/v2/team/net/_accordion/plan", json={})
        assert plan.status_code == 429


async def test_ranges(connect: Connect, package: Any, tmp_path: Path) -> None:
    path = f"/v2/team/net/_accordion/stream/{package.manifest.digest}"
    async with connect(tmp_path / "packages", limits=Limits(ranges=2)) as client:
        assert (await client.get(path, headers={"Range": "bytes=0-1,5-6"})).status_code == 206
        assert (await client.get(path, headers={"Range": "bytes=0-1,5-6,9-9"})).status_code == 200


async def test_a_body_has_a_size(connect: Connect, package: Any, tmp_path: Path) -> None:
    async with connect(tmp_path / "packages", limits=Limits(body_bytes=10)) as client:
        assert (await client.post("/v2/team/net/_accordion/plan", content=b" " * 11)).status_code == 413
        assert (await client.post("/v2/team/net/_accordion/plan", content=b" " * 10)).status_code == 200
