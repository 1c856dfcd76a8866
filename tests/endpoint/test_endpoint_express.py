"""Plans that are answered at once are those that the long way makes, and everything else takes the long way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from accordion.endpoint import create_app
from accordion.endpoint.express import Express
from accordion.endpoint.limits import Limits

PATH = "/v2/team/net/_accordion/plan"
LONG_WAY = Limits(client_transfers=1000)  # clients are told apart, so everything goes by the gate
DIGEST = "sha256:" + "0" * 64

BODIES: list[Any] = [
    {}, None, [], 1, "x", "{", '{"a":1,"a":2}', "  ", '{"deadline_s": NaN}', '{"deadline_s": 1e999}', "[" * 5000,
    *({name: value} for name in ("deadline_s", "throughput_bps", "rtt_s", "max_bytes", "max_macs", "min_quality", "confidence")
      for value in (None, True, "1", 0, -1, 0.5, 1, 1e3, 1e6, 1e18, 1e19, 10**30, [], 8193, 9192, 10193)),
    *({"throughput_bps": rate, "deadline_s": deadline, "rtt_s": 0.001, **more}
      for rate in (1, 1e6, 20_000_000) for deadline in (1e-9, 0.01, 0.02, 1)
      for more in ({}, {"max_bytes": 10_000}, {"rtt_s": None}, {"rtt_s": 1e18}, {"x": 1}, {"max_bytes": 2**60}, {"max_bytes": 1e4})),
    {"throughput_bps": 1e6, "reference": "v2"}, {"throughput_bps": 1e6, "reference": "nowhere"}, {"reference": DIGEST},
    {"throughput_bps": 1e6, "prefer": "bytes"}, {"radio": "5g"}, {"radio": 1}, {"max_energy_j": 1, "throughput_bps": 1e6},
    {"held": {"manifest": DIGEST, "configuration": 0}}, {"held": 1}, {"link": 1},
    {"link": {"levels": [0.5], "seconds": [1.0, 2.0], "bytes": [[5000, 10000]]}, "deadline_s": 1.5},
]  # fmt: skip


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://endpoint")


def told(reply: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    return reply.status_code, reply.content, dict(reply.headers)


async def test_both_ways_come_to_the_same(package: Any, tmp_path: Path) -> None:
    quick, slow = create_app([tmp_path / "packages"]), create_app([tmp_path / "packages"], limits=LONG_WAY)
    assert isinstance(quick, Express)
    assert not isinstance(slow, Express)
    held = [
        {"held": {"manifest": package.manifests[tag].digest, "configuration": k}, "throughput_bps": 1e6, **more}
        for tag in ("latest", "v2")
        for k in range(5)
        for more in ({}, {"deadline_s": 0.001}, {"deadline_s": 1}, {"reference": "v2"})
    ]
    async with client(quick) as one, client(slow) as other:
        for again in range(2):  # the first request has the choice among versions worked out
            for asked in [*BODIES, *held]:
                body = asked if isinstance(asked, str) else json.dumps(asked)
                assert told(await one.post(PATH, content=body)) == told(await other.post(PATH, content=body)), (again, body)
        counted = [(await each.get("/metrics")).text.splitlines() for each in (one, other)]
    for name in ("accordion_plans_total", "accordion_http_requests_total", "accordion_http_sent_bytes_total"):
        ours, theirs = ([line for line in lines if line.startswith(name)] for lines in counted)
        assert sorted(ours) == sorted(theirs)
        assert ours


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", PATH),
        ("POST", "/v2/team/other/_accordion/plan"),
        ("POST", "/v2/_accordion/plan"),
        ("POST", "/v2//_accordion/plan"),
        ("POST", "/v2/team/net/_accordion/plan/"),
        ("POST", "/v2/team/net%0a/_accordion/plan"),
        ("POST", "/v2/team/../team/net/_accordion/plan"),
        ("POST", "/v2/team/net/tags/list"),
        ("POST", "/healthz"),
    ],
)
async def test_other_requests_are_left_alone(package: Any, tmp_path: Path, method: str, path: str) -> None:
    quick, slow = create_app([tmp_path / "packages"]), create_app([tmp_path / "packages"], limits=LONG_WAY)
    async with client(quick) as one, client(slow) as other:
        assert told(await one.request(method, path)) == told(await other.request(method, path))


async def test_a_body_that_does_not_arrive_is_waited_for_once(package: Any, tmp_path: Path) -> None:
    app = create_app([tmp_path / "packages"], limits=Limits(body_s=0.05))
    asked, sent = 0, []

    async def receive() -> Any:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": PATH, "headers": []}
    await app(scope, receive, send)
    assert sent[0]["status"] == 408
    assert asked == 1


async def test_a_body_in_pieces_is_put_together(package: Any, tmp_path: Path) -> None:
    async def pieces() -> Any:
        for piece in (b'{"throughput_', b'bps": 1e6, ', b'"deadline_s": 1}'):
            yield piece

    async with client(create_app([tmp_path / "packages"])) as one:
        whole = await one.post(PATH, content=b'{"throughput_bps": 1e6, "deadline_s": 1}')
        assert (await one.post(PATH, content=pieces())).content == whole.content
        assert (await one.post(PATH, content=b" " * 70_000)).status_code == 413


async def test_a_new_index_is_seen_by_the_next_request(package: Any, tmp_path: Path, build: Callable[..., Any]) -> None:
    async with client(create_app([tmp_path / "packages"])) as one:
        before = [(await one.post(PATH, json={"throughput_bps": 1e6})).json() for _ in range(2)]
        assert before[0] == before[1]
        other = build(tmp_path / "else", {"latest": [b"another"]})
        for file in (other.path / "blobs" / "sha256").iterdir():
            (package.path / "blobs" / "sha256" / file.name).write_bytes(file.read_bytes())
        (other.path / "index.json").replace(package.path / "index.json")
        assert (await one.post(PATH, json={"throughput_bps": 1e6})).json()["manifest"] == other.manifest.digest


def test_what_has_to_be_known_of_a_request_bars_the_short_way(package: Any, tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text('{"tokens": []}')
    for how in ({"tokens": tmp_path / "tokens.json"}, {"limits": Limits(requests_per_s=1)}, {"limits": LONG_WAY}):
        assert not isinstance(create_app([tmp_path / "packages"], **how), Express)  # type: ignore[arg-type]
