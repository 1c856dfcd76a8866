from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from accordion.endpoint import logs
from accordion.errors import UsageError

Connect = Callable[..., httpx.AsyncClient]
SECRET = "c0ffee-of-a-device"


class Said:
    """What went to standard error so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys, self._text = capsys, ""

    def text(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Iterator[Said]:
    """The loggers are as before afterwards."""
    ours = logging.getLogger("accordion")
    before = ours.handlers, ours.propagate, ours.level
    yield Said(capsys)
    ours.handlers, ours.propagate, ours.level = before


async def ask(connect: Connect, folder: Path, form: str) -> list[httpx.Response]:
    attack = "/v2/team/net/manifests/%0a%7B%22event%22:%22forged%22%7D%1b[31m%E2%80%A8"
    headers = {"Authorization": f"Bearer {SECRET}", "User-Agent": SECRET, "X-Forwarded-For": "203.0.113.9", "X-Request-Id": SECRET}
    async with connect(folder, log=form) as client:
        return [
            await client.get("/v2/team/net/manifests/latest", headers=headers),
            await client.get(attack, headers=headers),
            await client.get(f"/v2/{SECRET}/tags/list?n=1&last={SECRET}", headers=headers),
            await client.post("/v2/team/net/_accordion/plan", json={"reference": f"{SECRET}\n\x1b"}, headers=headers),
            await client.request("FORGED", "/", headers=headers),
        ]


async def test_each_request_is_one_line_of_json(connect: Connect, package: Any, tmp_path: Path, said: Said) -> None:
    replies = await ask(connect, tmp_path / "packages", "json")
    lines = [json.loads(line) for line in said.text().splitlines()]
    assert [line["status"] for line in lines] == [reply.status_code for reply in replies]
    assert [line["request"] for line in lines] == [reply.headers["x-request-id"] for reply in replies]
    assert len({line["request"] for line in lines}) == len(lines)
    assert [line["route"] for line in lines] == ["manifest", "other", "tags", "plan", "other"]  # no path has a line's end in it
    assert [line.get("package") for line in lines] == ["team/net", None, None, "team/net", None]
    assert lines[0]["bytes"] == len(replies[0].content)
    assert lines[-1]["method"] == "other"
    known = {"time", "level", "event", "request", "method", "route", "package", "status", "bytes", "seconds"}
    assert all(set(line) <= known for line in lines)


@pytest.mark.parametrize("form", ["json", "text"])
async def test_nothing_of_a_client_is_in_it(connect: Connect, package: Any, tmp_path: Path, said: Said, form: str) -> None:
    await ask(connect, tmp_path / "packages", form)
    text = said.text()
    assert len(text.splitlines()) == 5
    for word in (SECRET, "forged", "FORGED", "203.0.113.9", "127.0.0.1", "Bearer", "\x1b", "\u2028"):
        assert word not in text


async def test_none_is_silent(connect: Connect, package: Any, tmp_path: Path, said: Said) -> None:
    replies = await ask(connect, tmp_path / "packages", "none")
    assert said.text() == ""
    assert "x-request-id" not in replies[0].headers


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_comes_from_elsewhere_stays_on_its_line(said: Said, form: logs.Form) -> None:
    """A package's index, which whoever publishes may write, and a failure's text end up in warnings."""
    logs.configure(form)
    log = logging.getLogger("accordion.endpoint")
    log.warning("%s: %s", "net", 'a tag\n{"event":"forged"}\r\x1b[2J\u2028' + "x" * 10_000)
    try:
        raise RuntimeError("first line\nsecond line")
    except RuntimeError:
        log.exception("failed")
    lines = said.text().splitlines()
    assert len(lines) == 2
    assert all(len(line) < 6000 and line.isprintable() for line in lines)
    if form == "json":
        assert "second line" in json.loads(lines[1])["failure"]


def test_the_servers_own_lines_have_the_same_form(said: Said) -> None:
    config = logs.server_config("json")
    name = config["formatters"]["form"]["()"]
    module, _, kind = name.rpartition(".")
    assert module == logs.__name__
    assert isinstance(getattr(logs, kind)(), logging.Formatter)
    with pytest.raises(UsageError):
        logs.configure("xml")  # type: ignore[arg-type]
