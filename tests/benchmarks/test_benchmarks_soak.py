from __future__ import annotations

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import soak  # type: ignore[import-not-found]
from soak_clients import Tally, Unexpected  # type: ignore[import-not-found]
from soak_hostile import Hostile  # type: ignore[import-not-found]

HOUR = 3600.0


def observed(*, leak_mib_an_hour: float = 0.0, fds_after: int = 30) -> dict[str, Any]:
    """An hour of a process of 60 MiB that warms up by 5 MiB in its first minutes, with noise, and one that idles."""
    rng, samples = Random(1), []
    for at in range(0, 3720, 5):
        size = 60 + min(5.0, at / 60) + leak_mib_an_hour * at / HOUR + rng.gauss(0, 0.2)
        fds = fds_after if at > HOUR else 30 + rng.randrange(20) * (at > 15)
        rows = {"7": [int(size * 2**20), int(size * 2**19), fds, 8], "6": [40 * 2**20, 20 * 2**20, 10, 3]}
        samples.append({"at": float(at), "processes": rows, "connections": 0})
    return {
        "samples": samples,
        "marks": {"load_began": 15.0, "load_ended": HOUR},
        "actions": {"plan": {"planned": 1000}},
        "statuses_seen": {"200": 1000, "404": 3},
        "statuses_logged": {"200": 1000, "404": 3},
    }


def test_warming_up_and_noise_are_no_growth() -> None:
    found = soak.verdict(observed())
    assert found["holds"]
    low, high = found["memory"]["process 0, RSS"]["mib_an_hour"]["interval"]
    assert low <= 0 <= high < 1
    assert found["descriptors"]["before"] == found["descriptors"]["after"] == 40


def test_a_leak_of_two_mib_an_hour_is_found() -> None:
    found = soak.verdict(observed(leak_mib_an_hour=2.0))
    assert found["memory_grows"] == ["all, PSS", "process 0, RSS"]
    assert found["memory"]["process 0, RSS"]["mib_an_hour"]["slope"] == pytest.approx(2.0, abs=0.4)
    assert not found["holds"]


def test_descriptors_that_stay_are_found() -> None:
    found = soak.verdict(observed(fds_after=37))
    assert found["descriptors"] == {"before": 40, "after": 47, "most": found["descriptors"]["most"]}
    assert not found["holds"]


@pytest.mark.parametrize(
    "change",
    [
        {"actions": {"plan": {"planned": 999, "failed": 1}}},
        {"statuses_seen": {"200": 999, "503": 1}},
        {"statuses_logged": {"200": 999, "500": 1}},
    ],
)
def test_one_failure_is_enough(change: dict[str, Any]) -> None:
    assert not soak.verdict(observed() | change)["holds"]


def test_a_worker_that_was_replaced_is_found() -> None:
    value = observed()
    for row in value["samples"][400:]:
        row["processes"]["8"] = row["processes"].pop("7")
    found = soak.verdict(value)
    assert not found["same_processes"]
    assert not found["holds"]


def test_two_minutes_say_nothing_of_growth() -> None:
    value = observed()
    value["samples"] = [row for row in value["samples"] if not 40 < row["at"] < 3600]
    found = soak.verdict(value)
    assert found["memory"] == {}
    assert not found["holds"]


@pytest.mark.parametrize("status", [200, 404])
def test_a_bad_path_has_to_be_refused(status: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status)
        await writer.drain()
        writer.close()

    async def asked() -> str:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            publisher = SimpleNamespace(names=[])
            hostile = Hostile(f"http://127.0.0.1:{port}", publisher, ["zoo"], Random(0), Tally())
            said: str = await hostile.bad_path()
            return said

    if status == 200:  # a file of the machine, say
        with pytest.raises(Unexpected, match="answered 200"):
            asyncio.run(asked())
    else:
        assert asyncio.run(asked()) == "refused with 404"
