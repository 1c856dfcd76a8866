from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from accordion.endpoint import create_app
from accordion.endpoint.registry import Registry


def client(app: Any, **how: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app, **how), base_url="http://endpoint")


async def test_a_failure_of_the_registry_is_answered_and_goes_on_to_the_log(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*arguments: Any) -> None:
        raise ZeroDivisionError("secret")

    app = create_app([tmp_path / "packages"])
    monkeypatch.setattr(Registry, "_reply", fails)
    async with client(app, raise_app_exceptions=False) as asking:
        reply = await asking.get("/v2/")
        assert (reply.status_code, reply.headers["content-type"]) == (500, "application/problem+json")
        assert "secret" not in reply.text
        assert 'route="base",status="500"} 1.0' in (await asking.get("/metrics")).text
    async with client(app) as asking:
        with pytest.raises(ZeroDivisionError):
            await asking.get("/v2/")


async def test_a_failure_after_the_head_is_no_second_answer(package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def begins(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    async def reply(*arguments: Any) -> Any:
        return begins

    app, sent = create_app([tmp_path / "packages"]), []
    monkeypatch.setattr(Registry, "_reply", reply)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {"type": "http", "method": "GET", "path": "/v2/", "headers": []}
    with pytest.raises(ZeroDivisionError):
        await app(scope, None, send)  # type: ignore[arg-type]
    assert sent == ["http.response.start"]


async def test_the_application_can_be_mounted_below_a_path(package: Any, tmp_path: Path) -> None:
    async with client(Starlette(routes=[Mount("/models", create_app([tmp_path / "packages"]))])) as asking:
        assert (await asking.get("/models/v2/team/net/tags/list")).json()["tags"] == ["latest", "v2"]
        assert (await asking.get("/v2/team/net/tags/list")).status_code == 404


@pytest.mark.parametrize("path", ["/v2/team/net/tags%0a/list", "/v2"])
async def test_paths_that_are_left_to_the_router(package: Any, tmp_path: Path, path: str) -> None:
    async with client(create_app([tmp_path / "packages"])) as asking:
        assert (await asking.get(path)).status_code == (200 if path == "/v2" else 404)
