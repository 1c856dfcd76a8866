"""Clocks that jump, machines that sleep, files from the future: nothing hangs on the time of day."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from pathlib import Path

import pytest
from kills import Scene  # type: ignore[import-not-found]
from scene import LAST, Prepared, answers, make_package  # type: ignore[import-not-found]

from accordion.device import Link, Request, fetch, upgrade
from accordion.device.pace import Pace
from accordion.link_files import estimate_errors

YEAR_S = 3.2e7


def test_a_time_of_day_that_jumps(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = itertools.cycle((YEAR_S, -YEAR_S, 0.0, -2 * YEAR_S))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    result = fetch(f"{scene.endpoint.url}:latest", tmp_path / "m", Request(deadline_s=60.0, throughput_bps=1e8), link=Link(8e6))
    assert result.configuration == LAST and result.deadline_met
    assert 0 < result.seconds < 60
    assert answers(tmp_path / "m", scene.package) == ("latest", LAST)


def test_a_machine_that_sleeps_through_the_deadline(scene: Scene, tmp_path: Path) -> None:
    """What was complete counts, late as it is; what had come is kept."""
    folder = tmp_path / "m"
    late = ["--deadline", "1.5s", "--throughput", "100Mbps", "--limit-rate", "400kbps"]
    process = Prepared("fetch", f"{scene.endpoint.url}:latest", "-o", folder, *late)
    while not (folder / "state.json").exists() and process.poll() is None:
        time.sleep(0.005)
    process.send(signal.SIGSTOP)
    time.sleep(2.0)
    process.send(signal.SIGCONT)
    code, answer, said = process.wait()
    held = answers(folder, scene.package)
    if code == 0:
        assert held == ("latest", json.loads(answer)["configuration"]) and not json.loads(answer)["deadline_met"]
    else:
        assert code == 3 and held is None and "are kept" in said
    assert fetch(f"{scene.endpoint.url}:latest", folder).configuration == LAST


@pytest.mark.parametrize("jump", [-1e6, -0.1, 1e6])
def test_a_clock_that_jumps_does_not_make_a_link_faster(jump: float) -> None:
    """1 Mbit/s, seen by a clock that jumps in the middle."""
    pace = Pace(estimate_errors)
    pace.begin()
    for step in range(400):
        pace.received(1250, step * 0.01 + (jump if step >= 200 else 0.0))
    link = pace.link()
    assert link is None or link.rate_bps <= 1.1e6


@pytest.mark.parametrize("when", [0.0, 4e9])
def test_files_of_another_time(scene: Scene, tmp_path: Path, when: float) -> None:
    """1970 and 2096: what is there counts, not since when."""
    folder = tmp_path / "m"
    fetch(f"{scene.endpoint.url}:latest", folder, Request(max_bytes=60_000))
    for path in folder.rglob("*"):
        os.utime(path, (when, when))
    result = upgrade(folder)
    assert result.configuration == LAST and result.bytes_reused > 0
    assert answers(folder, scene.package) == ("latest", LAST)


def test_an_endpoint_sees_a_new_version_whatever_its_files_say_of_time(tmp_path: Path) -> None:
    """A package that is copied keeps the times of its files: a new index may be older than the one before."""
    from accordion.artifact.layout import Layout
    from accordion.endpoint.package import Package

    path = make_package(tmp_path)
    os.utime(path / "index.json", (4e9, 4e9))
    package = Package("chain", path)
    first = package.snapshot()
    assert first is not None and set(first.tags) == {"latest", "v2"}
    layout = Layout.open(path)
    layout.add_version("third", layout.manifest("v2"))
    os.utime(path / "index.json", (1.0, 1.0))
    second = package.snapshot()
    assert second is not None and "third" in second.tags
