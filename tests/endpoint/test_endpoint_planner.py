from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from accordion.artifact.ladder import decode_ladder
from accordion.artifact.layout import Layout
from accordion.endpoint.limits import Limits
from accordion.endpoint.openapi import openapi
from accordion.planning import Plan, Request, make_plan

PATH = "/v2/team/net/_accordion/plan"
DIGEST = "sha256:" + "0" * 64


def schema(name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": openapi()["components"]})


def problem(reply: httpx.Response, status: int) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    value: dict[str, Any] = reply.json()
    schema("Problem").validate(value)
    assert value["status"] == status
    assert "\n" not in value["detail"]
    return value


async def test_the_device_would_plan_the_same(client: httpx.AsyncClient, package: Any) -> None:
    asked = {"deadline_s": 0.02, "throughput_bps": 5e6, "rtt_s": 0.001, "min_quality": 0.6}
    reply = await client.post(PATH, json=asked)
    assert reply.status_code == 200
    assert reply.headers["cache-control"] == "no-store"
    schema("Plan").validate(reply.json())
    manifest = package.manifest
    ladder = decode_ladder(manifest.layers[0], package.blob(manifest.layers[0].digest))
    assert reply.json() == make_plan("team/net", manifest, ladder, Request.from_json(asked)).to_json()


@pytest.mark.parametrize("body", [b"", b"{}", b"  ", b'{"deadline_s": null}'])
async def test_nothing_asked_is_everything_planned(client: httpx.AsyncClient, package: Any, body: bytes) -> None:
    reply = await client.post(PATH, content=body)
    assert reply.status_code == 200
    assert reply.json()["configuration"] == 2
    assert reply.json()["assumed_throughput_bps"] == 10e6
    assert Plan.from_json(reply.json()).manifest == package.manifest.digest


async def test_the_stated_default_is_an_option(connect: Callable[..., httpx.AsyncClient], package: Any, tmp_path: Path) -> None:
    async with connect(tmp_path / "packages", default_throughput_bps=1e6) as client:
        slow = (await client.post(PATH, json={})).json()
        assert slow["assumed_throughput_bps"] == 1e6
        assert slow["expected_s"] == pytest.approx((len(package.manifest.raw) + slow["bytes_to_send"]) * 8 / 1e6)
        assert "assumed_throughput_bps" not in (await client.post(PATH, json={"throughput_bps": 1e6})).json()


async def test_what_is_planned_can_be_fetched(client: httpx.AsyncClient, package: Any) -> None:
    """From configuration 0 of one version to the other, by the plan's ranges in one request."""
    old, new = package.manifests["latest"], package.manifests["v2"]
    held = {"manifest": old.digest, "configuration": 2}
    plan = (await client.post(PATH, json={"reference": "v2", "held": held})).json()
    have = {layer.digest for layer in old.layers[:4]}
    lacking = [layer for layer in new.layers[:5] if layer.digest not in have]
    assert [layer["digest"] for layer in plan["layers"]] == [layer.digest for layer in lacking]
    assert len(plan["ranges"]) == 2 or len(plan["ranges"]) == 3
    got = b""
    for start, end in plan["ranges"]:
        reply = await client.get(f"/v2/team/net/_accordion/stream/{new.digest}", headers={"Range": f"bytes={start}-{end}"})
        assert reply.status_code == 206
        got += reply.content
    assert got == b"".join(package.blob(layer.digest) for layer in lacking)


async def test_an_upgrade_of_a_version_that_no_tag_names_any_more(client: httpx.AsyncClient, package: Any) -> None:
    old = package.manifest
    layout = Layout.open(package.path)
    layout.add_version("latest", package.manifests["v2"])
    assert (await client.get("/v2/team/net/manifests/latest")).headers["docker-content-digest"] != old.digest
    plan = (await client.post(PATH, json={"held": {"manifest": old.digest, "configuration": 0}})).json()
    assert plan["bytes_to_send"] < plan["bytes_total"]
    # and its transfers can go on
    assert (await client.get(f"/v2/team/net/_accordion/stream/{old.digest}")).status_code == 200
    assert (await client.get(f"/v2/team/net/manifests/{old.digest}")).content == old.raw


async def test_the_only_tag_or_latest(connect: Any, build: Any, tmp_path: Path) -> None:
    build(tmp_path / "one", {"v7": [b"a" * 10]})
    build(tmp_path / "two", {"v7": [b"a" * 10], "v8": [b"b" * 10]})
    async with connect(tmp_path / "one", tmp_path / "two") as client:
        assert (await client.post("/v2/one/_accordion/plan")).status_code == 200
        value = problem(await client.post("/v2/two/_accordion/plan"), 422)
        assert value["field"] == "reference"
        assert "v7, v8" in value["detail"]


async def test_a_signature_is_no_tag_to_choose(connect: Any, build: Any, sign: Any, tmp_path: Path) -> None:
    sign(build(tmp_path / "one", {"v7": [b"a" * 10]}), "v7")
    async with connect(tmp_path / "one") as client:
        assert (await client.post("/v2/one/_accordion/plan")).status_code == 200


@pytest.mark.parametrize(
    ("asked", "limit", "nearest"),
    [
        ({"deadline_s": 0.001, "throughput_bps": 1e6}, "deadline_s", 0),
        ({"max_bytes": 100}, "max_bytes", 0),
        ({"max_macs": 10}, "max_macs", 0),
        ({"min_quality": 0.99}, "min_quality", 2),
    ],
)
async def test_what_cannot_be_met(client: httpx.AsyncClient, asked: dict[str, Any], limit: str, nearest: int) -> None:
    value = problem(await client.post(PATH, json=asked), 409)
    assert value["limit"] == limit
    assert value["nearest"]["configuration"] == nearest
    schema("Plan").validate(value["nearest"])


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"3",
        b'"x"',
        b"null",
        b'{"deadline_s": NaN}',
        b'{"deadline_s": Infinity}',
        b'{"deadline_s": 1e999}',
        b'{"deadline_s": 1, "deadline_s": 2}',
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"max_bytes": ' + b"9" * 5000 + b"}",
    ],
)
async def test_what_is_no_json_object(client: httpx.AsyncClient, body: bytes) -> None:
    problem(await client.post(PATH, content=body), 400)


async def test_energy_is_planned_and_said(client: httpx.AsyncClient) -> None:
    reply = await client.post(PATH, json={"max_energy_j": 1e-6, "radio": "none"})
    schema("Plan").validate(reply.json())
    assert 0 < reply.json()["expected_j"] <= 1e-6
    value = problem(await client.post(PATH, json={"max_energy_j": 1e-6, "radio": "5g-mmwave", "throughput_bps": 1e6}), 409)
    assert value["limit"] == "max_energy_j"
    schema("Plan").validate(value["nearest"])


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"deadline_s": -1}, "deadline_s"),
        ({"deadline_s": "banana"}, "deadline_s"),
        ({"throughput_bps": 0}, "throughput_bps"),
        ({"max_bytes": 1.5}, "max_bytes"),
        ({"max_energy_j": 0}, "max_energy_j"),
        ({"max_energy_j": 1, "radio": "lte\n"}, "radio"),
        ({"inferences": 0}, "inferences"),
        ({"min_quality": -1}, "min_quality"),
        ({"confidence": 1}, "confidence"),
        ({"deadline": 1}, "deadline"),
        ({"reference": "../x"}, "reference"),
        ({"held": {"manifest": "x", "configuration": 0}}, "held.manifest"),
    ],
)
async def test_a_wrong_field_is_named(client: httpx.AsyncClient, asked: dict[str, Any], field: str) -> None:
    value = problem(await client.post(PATH, json=asked), 422)
    assert value["field"] == field
    assert value["detail"].startswith(f"{field}: ")


async def test_a_configuration_that_the_held_version_lacks(client: httpx.AsyncClient, package: Any) -> None:
    held = {"manifest": package.manifest.digest, "configuration": 3}
    assert problem(await client.post(PATH, json={"held": held}), 422)["field"] == "held.configuration"


async def test_unknown_names(client: httpx.AsyncClient) -> None:
    problem(await client.post("/v2/none/_accordion/plan", json={}), 404)
    assert problem(await client.post(PATH, json={"reference": "none"}), 404)["field"] == "reference"
    assert problem(await client.post(PATH, json={"reference": DIGEST}), 404)["field"] == "reference"
    held = {"manifest": DIGEST, "configuration": 0}
    assert problem(await client.post(PATH, json={"held": held}), 404)["field"] == "held.manifest"


async def test_plans_are_asked_for_by_post(client: httpx.AsyncClient) -> None:
    for method in ("GET", "PUT", "DELETE"):
        reply = await client.request(method, PATH)
        problem(reply, 405)
        assert reply.headers["allow"] == "POST"


async def test_a_large_body_is_refused_before_it_is_read(client: httpx.AsyncClient) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b" " * 1000
            assert read < 200

    problem(await client.post(PATH, content=endless()), 413)
    assert read < 80
    padded = json.dumps({"deadline_s": 10}).encode().ljust(64 * 1024)
    assert (await client.post(PATH, content=padded)).status_code == 200
    problem(await client.post(PATH, content=padded + b" "), 413)


async def test_a_slow_body_is_not_waited_for(connect: Callable[..., httpx.AsyncClient], package: Any, tmp_path: Path) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)
        yield b"}"

    async with connect(tmp_path / "packages", limits=Limits(body_s=0.05)) as client:
        problem(await client.post(PATH, content=slow()), 408)
