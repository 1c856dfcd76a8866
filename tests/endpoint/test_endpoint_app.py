from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from accordion.artifact.layout import Layout
from accordion.endpoint import create_app
from accordion.endpoint.content import BLOCK_BYTES
from accordion.endpoint.limits import UNBOUNDED
from accordion.endpoint.openapi import openapi


def sample(text: str, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            if one.name == name and labels.items() <= one.labels.items():
                return float(one.value)
    return 0.0


async def test_what_is_counted(client: httpx.AsyncClient, package: Any) -> None:
    layer = package.manifest.layers[1]
    await client.get(f"/v2/team/net/blobs/{layer.digest}")
    await client.get(f"/v2/team/net/blobs/{layer.digest}", headers={"Range": "bytes=0-9"})
    await client.post("/v2/team/net/_accordion/plan", json={})
    await client.post("/v2/team/net/_accordion/plan", json={"max_bytes": 1})
    await client.get("/some/" + "x" * 100)
    reply = await client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = reply.text
    assert sample(text, "accordion_http_requests_total", route="blob", status="200") == 1
    assert sample(text, "accordion_http_requests_total", route="blob", status="206") == 1
    assert sample(text, "accordion_http_sent_bytes_total", route="blob") == layer.size + 10
    assert sample(text, "accordion_plans_total", outcome="planned") == 1
    assert sample(text, "accordion_plans_total", outcome="unmeetable") == 1
    assert sample(text, "accordion_packages") == 1
    assert sample(text, "accordion_http_requests_total", route="other", status="404") == 1
    assert "xxx" not in text  # nothing of a request becomes a label


async def test_applications_count_for_themselves(connect: Callable[..., httpx.AsyncClient], package: Any, tmp_path: Path) -> None:
    async with connect(tmp_path / "packages") as one, connect(tmp_path / "packages") as other:
        await one.get("/v2/")
        assert sample((await other.get("/metrics")).text, "accordion_http_requests_total", route="base") == 0


def concrete(path: str, package: Any) -> str:
    values = {"name": "team/net", "reference": "latest", "digest": package.manifest.digest, "file": "timestamp.json"}
    if "/blobs/" in path:
        values["digest"] = package.manifest.layers[1].digest
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], path)


async def test_the_description_is_true(
    connect: Callable[..., httpx.AsyncClient], package: Any, sign: Callable[..., str], tmp_path: Path
) -> None:
    sign(package)
    (tmp_path / "tuf").mkdir()
    (tmp_path / "tuf" / "timestamp.json").write_bytes(b"{}")
    async with connect(tmp_path / "packages", tuf=tmp_path / "tuf") as client:
        await _hold_against_its_description(client, package)


async def _hold_against_its_description(client: httpx.AsyncClient, package: Any) -> None:
    described = (await client.get("/openapi.json")).json()
    assert described == openapi()
    assert described["openapi"].startswith("3.1")
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            reply = await client.request(method.upper(), concrete(path, package))
            assert str(reply.status_code) == "200", path
            answer = operation["responses"]["200"]
            if method == "head":
                continue
            ((media_type, content),) = answer["content"].items()
            assert reply.headers["content-type"].partition(";")[0] == media_type, path
            if content["schema"]:
                validator = Draft202012Validator({**content["schema"], "components": described["components"]})
                validator.validate(reply.json())
    for name, schema in described["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema), name


async def test_the_description_names_every_error(client: httpx.AsyncClient, package: Any) -> None:
    plan = openapi()["paths"]["/v2/{name}/_accordion/plan"]["post"]["responses"]
    for body, status in [(b"{", 400), (b'{"x": 1}', 422), (b'{"max_bytes": 1}', 409), (b'{"reference": "x"}', 404)]:
        reply = await client.post("/v2/team/net/_accordion/plan", content=body)
        assert reply.status_code == status
        assert list(plan[str(status)]["content"]) == [reply.headers["content-type"]]


async def test_a_whole_file_goes_by_its_path_where_the_server_can(build: Callable[..., Any], tmp_path: Path) -> None:
    """If it is no small one, of which the bytes are at hand."""
    package = build(tmp_path / "packages" / "team" / "net", {"latest": [bytes(BLOCK_BYTES + 1)]})
    app = create_app([tmp_path / "packages"], limits=UNBOUNDED)
    digest = package.manifest.layers[1].digest

    async def ask(path: str, method: str = "GET", **headers: str) -> list[Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "extensions": {"http.response.pathsend": {}},
            "http_version": "1.1",
            "scheme": "http",
        }
        await app(scope, receive, send)
        return sent

    blob = f"/v2/team/net/blobs/{digest}"
    by_path = {"type": "http.response.pathsend", "path": str(Layout(package.path).blob_path(digest).resolve())}
    assert (await ask(blob))[1:] == [by_path]
    assert (await ask(blob, range="bytes=0-"))[1:] == [by_path]
    assert (await ask(blob, method="HEAD"))[1]["type"] == "http.response.body"
    # a part is read; this client has gone already, so nothing is sent after the head
    part = await ask(blob, range="bytes=1-9")
    assert part[0]["status"] == 206
    assert all(message["type"] != "http.response.pathsend" for message in part)
    small = package.manifest.layers[0].digest
    assert (await ask(f"/v2/team/net/blobs/{small}"))[1]["body"] == package.blob(small)


async def test_nothing_more_is_read_for_a_client_that_has_gone(tmp_path: Path, build: Callable[..., Any]) -> None:
    built = build(tmp_path / "net", {"latest": [bytes(3_000_000)]})
    app = create_app([tmp_path / "net"])
    sent = 0

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal sent
        sent += len(message.get("body", b""))

    path = f"/v2/net/_accordion/stream/{built.manifest.digest}"
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "query_string": b"", "headers": [], "scheme": "http"}
    await app(scope, receive, send)
    assert sent < 1_000_000


async def test_a_failure_is_a_problem_without_details(package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr("accordion.endpoint.registry.parse_target", broken)
    transport = httpx.ASGITransport(app=create_app([tmp_path / "packages"]), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client:
        reply = await client.get("/v2/")
    assert reply.status_code == 500
    assert reply.headers["content-type"] == "application/problem+json"
    assert "secret" not in reply.text
