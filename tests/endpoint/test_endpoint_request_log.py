from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from accordion.endpoint.request_log import RequestLog
from accordion.errors import UsageError
from accordion.planning import Held, Request

PATH = "/v2/team/net/_accordion/plan"
MOMENT = 1_790_000_000.123
FIELDS = {"hour", "name", "manifest", "configuration", "limit", "asked", "upgrade"}


def rows(*paths: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def wait_for_lines(path: Path, count: int) -> list[dict[str, Any]]:
    for _ in range(2000):
        if len(path.read_bytes().splitlines()) >= count:
            return rows(path)
        time.sleep(0.01)
    raise AssertionError(f"{path} has {path.read_bytes()!r}")


async def test_a_plan_is_a_line_that_tells_of_no_device(
    package: Any, connect: Callable[..., httpx.AsyncClient], tmp_path: Path
) -> None:
    log = tmp_path / "requests.jsonl"
    secret = "device-4711"
    headers = {"User-Agent": secret, "Authorization": f"Basic {secret}", "X-Forwarded-For": "203.0.113.9", "Cookie": secret}
    held = {"manifest": package.manifests["v2"].digest, "configuration": 0}
    asked = {
        "reference": "latest",
        "deadline_s": 0.300123456,
        "throughput_bps": 123456789.0,
        "min_quality": 0.123456,
        "max_bytes": 123456789,
        "held": held,
    }
    async with connect(tmp_path / "packages", request_log=log) as client:
        planned = (await client.post(PATH, json=asked, headers=headers)).json()["configuration"]
        assert (await client.post(PATH, json={"max_bytes": 1}, headers=headers)).status_code == 409
        first, second = wait_for_lines(log, 2)
    assert set(first) == set(second) == FIELDS
    assert (first["name"], first["manifest"], first["configuration"]) == ("team/net", package.manifest.digest, planned)
    assert first["asked"] == {"deadline_s": 0.3, "throughput_bps": 1.2e8, "min_quality": 0.123, "max_bytes": 120_000_000}
    assert (first["upgrade"], second["upgrade"]) == (True, False)
    assert (second["configuration"], second["limit"]) == (None, "max_bytes")
    text = log.read_text()
    for word in (secret, "203.0.113.9", held["manifest"], "127.0.0.1", "latest", "300123", "1234567"):
        assert word not in text
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\dZ", first["hour"])


async def test_no_request_writes_a_line_of_its_own_making(
    package: Any, connect: Callable[..., httpx.AsyncClient], tmp_path: Path
) -> None:
    log = tmp_path / "requests.jsonl"
    bad = '"}\n{"configuration": 99}\n'
    async with connect(tmp_path / "packages", request_log=log) as client:
        for asked in ({"reference": bad}, {bad: 1}, {"radio": bad}, {"deadline_s": bad}, {"held": {"manifest": bad}}):
            assert (await client.post(PATH, json=asked)).status_code == 422
        assert (await client.post(f"/v2/{quote(bad)}/_accordion/plan", json={})).status_code == 404
        assert (await client.post(PATH, content=bad)).status_code == 400
        assert (await client.post(PATH, json={"reference": "none"})).status_code == 404
        await client.post(PATH, json={})
        assert [row["configuration"] for row in wait_for_lines(log, 1)] != [99]
    assert len(rows(log)) == 1


def noted(log: RequestLog, count: int) -> None:
    for _ in range(count):
        log.note("net", "sha256:" + "0" * 64, Request(deadline_s=0.5, held=Held("sha256:" + "1" * 64, 3)), None, "deadline_s")


def test_the_file_is_turned_over_before_it_grows_too_long(tmp_path: Path) -> None:
    path, older = tmp_path / "log", tmp_path / "log.1"
    log = RequestLog(path, max_bytes=1000, clock=lambda: MOMENT)
    noted(log, 1)
    log.close()
    length = path.stat().st_size
    noted(log, 20)
    log.close()
    assert 0 < path.stat().st_size <= 1000
    assert 0 < older.stat().st_size <= 1000
    assert len(rows(path, older)) == 1000 // length + 21 % (1000 // length)
    assert {row["hour"] for row in rows(path, older)} == {"2026-09-21T14Z"}


def test_several_writers_lose_no_line_while_it_is_turned_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs = [RequestLog(path, max_bytes=10_000) for _ in range(3)]
    threads = [threading.Thread(target=noted, args=(log, 30)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for log in logs:
        log.close()
    assert len(rows(path, tmp_path / "log.1")) == 90


def test_what_does_not_fit_into_the_queue_is_counted_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accordion.endpoint.request_log.WAITING_LINES", 2)
    lost: list[int] = []
    log = RequestLog(tmp_path / "log", dropped=lambda: lost.append(1))
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)  # a disk that takes for ever
    noted(log, 5)
    assert len(lost) == 3


def test_a_disk_that_fails_is_said_once_and_costs_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lost: list[int] = []
    folder = tmp_path / "folder"
    folder.mkdir()
    log = RequestLog(folder / "log", dropped=lambda: lost.append(1))
    (folder / "log").unlink()
    folder.rmdir()
    for _ in range(2):
        noted(log, 1)
        log.close()
    assert len(lost) == 2
    assert [record.levelname for record in caplog.records if "can't be written" in record.message] == ["ERROR"]


def test_lines_that_were_written_before_the_disk_failed_are_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[int] = []
    log = RequestLog(tmp_path / "log", max_bytes=1000, dropped=lambda: lost.append(1))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda self: None)  # so that all lines wait
        noted(log, 10)

    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fails)  # the first file is full, and can't be turned over
    log._lines.put(None)
    log._work()
    written = len(rows(tmp_path / "log"))
    assert 0 < written < 10 and len(lost) == 10 - written
    assert "lines are lost" in caplog.text


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_leaves_no_half_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """What comes when there is room again stands in a line of its own."""
    lost: list[int] = []
    log = RequestLog(tmp_path / "log", dropped=lambda: lost.append(1))
    noted(log, 1)
    log.close()
    write, left = os.write, [room]

    def full(handle: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(28, "No space left on device")
        count = write(handle, data[: left[0]])
        left[0] -= count
        return count

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        noted(log, 1)
        log.close()
    assert (len(lost), len(rows(tmp_path / "log"))) == (1, 1)
    noted(log, 2)
    log.close()
    assert len(rows(tmp_path / "log")) == 3


@pytest.mark.parametrize("where", ["", "nowhere/log"])
def test_a_place_that_can_hold_no_log_is_refused(tmp_path: Path, where: str) -> None:
    with pytest.raises(UsageError, match="can't be the request log"):
        RequestLog(tmp_path / where)


def test_a_served_package_logs_and_writes_all_before_it_ends(package: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [
        sys.executable,
        "-m",
        "accordion.cli",
        "serve",
        str(package.path),
        "--port",
        "0",
        "--json",
        "--request-log",
        str(log),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        said = ""
        while "}" not in said:
            said += process.stdout.readline()
        for _ in range(5):
            httpx.post(f"{json.loads(said)['url']}/v2/net/_accordion/plan", json={"max_bytes": 10**9}).raise_for_status()
    finally:
        process.terminate()
        process.wait(30)
        process.communicate()
    assert [row["asked"] for row in rows(log)] == [{"max_bytes": 10**9}] * 5
