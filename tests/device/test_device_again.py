"""Deliveries that look at their plan again while the link shows what it carries."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest

from accordion.artifact.ladder import Ladder
from accordion.artifact.layout import Layout
from accordion.device import Fetch, Link, Model, Observer, Request, fetch, upgrade, verify_model
from accordion.device.pace import Pace
from accordion.device.store import Store
from accordion.errors import FormatError, StorageError
from accordion.link_files import estimate_errors
from accordion.planning.links import RateLink, Trace
from chain import K, answers  # type: ignore[import-not-found]
from serving import serving

STEADY = Link(trace=Trace("steady", 0.1, np.full(100, 1.5e6)), rtt_s=0.005)
LONG_S = 60.0  # a deadline that leaves time on any machine


def test_a_fetch_goes_on_when_the_deadline_leaves_time(endpoint: str, tmp_path: Path) -> None:
    said: list[str] = []
    # By what it believes, nothing but the smallest arrives; the link is better than that.
    slow = Request(deadline_s=LONG_S, throughput_bps=70e3 * 8 / LONG_S)
    result = fetch(endpoint, tmp_path / "m", slow, link=STEADY, observer=Observer(say=said.append))
    assert any("going on to configuration" in line for line in said)
    assert result.configuration == K - 1
    assert result.deadline_met


def test_other_limits_hold_on(endpoint: str, tmp_path: Path) -> None:
    request = Request(deadline_s=LONG_S, throughput_bps=70e3 * 8 / LONG_S, max_bytes=150_000)
    result = fetch(endpoint, tmp_path / "m", request, link=STEADY)
    assert result.configuration < K - 1
    assert result.bytes_received <= 155_000


def test_without_a_deadline_nothing_is_added(endpoint: str, tmp_path: Path) -> None:
    assert fetch(endpoint, tmp_path / "m", Request(min_quality=0.5), link=STEADY).configuration == 0


def test_of_a_new_version_that_would_come_too_late_what_is_whole_is_taken(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m", Request(max_bytes=100_000))
    with Model.open(tmp_path / "m") as model:
        old, held = model.manifest.digest, model.configuration
    said: list[str] = []
    # Two of six segments are shared; the other four take eight seconds.
    request = Request(reference="v2", deadline_s=6.0, throughput_bps=1e9)
    result = upgrade(tmp_path / "m", request, link=Link(rate_bps=1.6e5), observer=Observer(say=said.append))
    assert result.manifest != old
    assert held is not None and held <= result.configuration < K - 1
    assert not result.deadline_met
    assert any("takes its place" in line for line in said)
    assert verify_model(tmp_path / "m") == []


def test_a_new_version_that_is_worse_so_far_is_not_taken(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m")
    request = Request(reference="v2", deadline_s=2.0, throughput_bps=1e9)
    result = upgrade(tmp_path / "m", request, link=Link(rate_bps=1.6e5))
    assert (result.configuration, result.deadline_met) == (K - 1, False)
    with Model.open(tmp_path / "m") as model:
        assert model.manifest.digest == result.manifest
    assert upgrade(tmp_path / "m", Request(reference="v2")).manifest != result.manifest


def test_what_is_believed_of_the_link_is_planned_with(endpoint: str, tmp_path: Path) -> None:
    narrow = RateLink((1e3, 2e3, 1e9), (0.001,))  # one chance in three that anything arrives
    said: list[str] = []
    request = Request(deadline_s=LONG_S, confidence=0.3)
    assert fetch(endpoint, tmp_path / "a", request, believed=narrow).configuration == K - 1
    fetch(endpoint, tmp_path / "b", Request(deadline_s=LONG_S, confidence=0.9), believed=narrow, observer=Observer(say=said.append))
    assert any(line.startswith("deadline_s: ") and "0.9 confidence" in line for line in said)
    # What the request says itself comes first.
    assert fetch(endpoint, tmp_path / "c", Request(throughput_bps=1e9, deadline_s=LONG_S), believed=narrow).configuration == K - 1


async def test_step_by_step_too(endpoint: str, tmp_path: Path) -> None:
    seen = []
    request = Request(deadline_s=LONG_S, throughput_bps=70e3 * 8 / LONG_S)
    async with Fetch(endpoint, tmp_path / "m", request, link=STEADY) as delivery:
        async for k, _seconds in delivery:
            seen.append(k)
    assert seen == list(range(K))


def test_the_pace_is_that_of_the_stream_and_not_of_the_waiting() -> None:
    pace = Pace(estimate_errors)
    assert pace.link() is None
    now = 50.0
    for _ in range(3):  # three streams with a second of waiting before each
        now += 1.0
        pace.begin()
        for _ in range(30):
            now += 0.01
            pace.received(10_000, now)
    pace.round_trip(0.08)
    pace.round_trip(0.05)
    pace.round_trip(-1.0)  # the clock went back
    link = pace.link()
    assert link is not None
    assert link.rate_bps == pytest.approx(8e6, rel=0.01)
    assert link.rtt_s == 0.05


def test_a_clock_that_jumps_does_not_spoil_the_pace() -> None:
    pace = Pace(estimate_errors)
    now = 0.0
    for step in range(60):
        now += 0.01 if step != 30 else -3600.0
        pace.received(10_000, now)
    link = pace.link()
    assert link is not None
    assert link.rate_bps == pytest.approx(8e6, rel=0.01)


def broken_at_the_end(package: Path, folder: Path) -> Path:
    """A copy of the package whose last segment is not what its manifest promises."""
    shutil.copytree(package, folder)
    layout = Layout.open(folder)
    blob = layout.blob_path(layout.manifest("latest").layers[-1].digest)
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    return folder


def test_what_fails_beyond_the_plan_leaves_what_was_planned(package: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with serving(broken_at_the_end(package, tmp_path / "chain")) as url:
        slow = Request(deadline_s=LONG_S, throughput_bps=70e3 * 8 / LONG_S)
        result = fetch(f"{url}/chain:latest", tmp_path / "m", slow, link=STEADY, observer=Observer(say=said.append))
    assert "is corrupt" in said[-1] and said[-1].endswith("; what was planned is there")
    assert result.deadline_met and result.configuration == K - 2
    answers(tmp_path / "m", K - 2)
    assert verify_model(tmp_path / "m") == []


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_beyond_the_plan_leaves_what_was_planned(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real, said = Store.save, []

    def save(store: Store, configuration: int | None = None) -> None:
        if said and configuration is not None and configuration > 2:
            raise StorageError("the disk failed") from OSError(number, "no")
        real(store, configuration)

    monkeypatch.setattr(Store, "save", save)
    slow = Request(deadline_s=LONG_S, throughput_bps=70e3 * 8 / LONG_S)
    result = fetch(endpoint, tmp_path / "m", slow, link=STEADY, observer=Observer(say=said.append))
    assert said[-1] == "the disk failed; what was planned is there"
    with Model.open(tmp_path / "m") as model:
        assert (result.configuration, result.ready[-1][0]) == (model.configuration, model.configuration)
    assert result.deadline_met and result.configuration in (1, 2)
    assert verify_model(tmp_path / "m") == []


def test_a_graph_that_breaks_a_rule_is_not_kept_as_the_best_that_is_there(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, said = Store.check_graph, []

    def check(store: Store, ladder: Ladder, k: int) -> None:
        if k == 3:
            raise FormatError("the graph computes too much")
        real(store, ladder, k)

    monkeypatch.setattr(Store, "check_graph", check)
    slow = Request(deadline_s=LONG_S, throughput_bps=70e3 * 8 / LONG_S)
    result = fetch(endpoint, tmp_path / "m", slow, link=STEADY, observer=Observer(say=said.append))
    assert said[-1] == "the graph computes too much; what was planned is there"
    assert result.deadline_met and result.configuration == 2 and result.ready[-1][0] == 2
    answers(tmp_path / "m", 2)
    with Model.open(tmp_path / "m") as model:
        assert model.configuration == 2
