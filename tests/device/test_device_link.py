from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from accordion.device.link import Link, Shaper
from accordion.errors import UsageError
from accordion.planning.links import Trace


async def _pieces(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(size)


async def test_bytes_take_the_time_that_the_rate_says() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    got = [len(piece) async for piece in Shaper(Link(rate_bps=8e5)).shape(_pieces(4, 10_000))]
    assert sum(got) == 40_000
    assert loop.time() - began >= 0.4 - 0.03  # the burst that an idle link has gathered


async def test_no_piece_is_longer_than_a_moment_of_the_link() -> None:
    sizes = [len(piece) async for piece in Shaper(Link(rate_bps=8e6)).shape(_pieces(1, 60_000))]
    assert max(sizes) <= 5000 and sum(sizes) == 60_000


async def test_without_a_rate_pieces_pass_unchanged() -> None:
    assert [piece async for piece in Shaper(Link()).shape(_pieces(2, 7))] == [bytes(7), bytes(7)]


@pytest.mark.parametrize("rate, rtt", [(0.0, 0.0), (-1.0, 0.0), (1.0, -1.0), (1.0, float("inf"))])
def test_links_that_make_no_sense(rate: float, rtt: float) -> None:
    with pytest.raises(UsageError):
        Link(rate, rtt)


class _Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


TRACE = Trace("t", 0.5, np.array([8e5, 0.0, 1.6e6]), (0.1, 0.2))  # 50 kB, an outage of half a second, 100 kB


async def test_a_trace_is_replayed_with_its_outages() -> None:
    clock = _Clock()
    shaper = Shaper(Link(trace=TRACE), clock=clock, sleep=clock.sleep)
    moments = [(sum_, clock.now - 100) async for sum_ in _sums(shaper.shape(_pieces(5, 40_000)))]
    for count, seconds in moments:  # never more than the trace had brought until then
        assert count <= TRACE.between(0, seconds) + 1
    assert moments[-1][0] == 200_000
    assert clock.now - 100 == pytest.approx(1.5 + 0.5, abs=0.02)  # the last 50 kB are those of the trace begun again
    assert not any(0.51 < seconds < 0.99 for _, seconds in moments)


async def test_a_replay_may_begin_anywhere_and_has_the_round_trips_of_its_moments() -> None:
    clock = _Clock()
    shaper = Shaper(Link(trace=TRACE, start_s=1.0), clock=clock, sleep=clock.sleep)
    await shaper.round_trip()
    assert clock.now - 100 == pytest.approx(0.2)
    await shaper.carry(60_000)
    assert clock.now - 100 == pytest.approx(0.2 + 60_000 / 200_000, abs=0.03)
    shaper = Shaper(Link(trace=TRACE, rtt_s=0.0), clock=clock, sleep=clock.sleep)
    before = clock.now
    await shaper.round_trip()
    assert clock.now == before


async def test_a_replay_brings_what_the_model_of_the_link_says() -> None:
    clock = _Clock()
    rng = np.random.default_rng(3)
    trace = Trace("random", 0.1, rng.choice([0.0, 4e5, 3e6, 2e7], 40))
    for start in (0.0, 1.23, 3.9):
        shaper = Shaper(Link(trace=trace, start_s=start), clock=clock, sleep=clock.sleep)
        began, total = clock.now, 0
        async for piece in shaper.shape(_pieces(40, 5_000)):
            total += len(piece)
        assert clock.now - began == pytest.approx(trace.when(start, total), abs=0.05)


async def _sums(pieces: AsyncIterator[bytes]) -> AsyncIterator[int]:
    total = 0
    async for piece in pieces:
        total += len(piece)
        yield total


def test_replays_that_make_no_sense() -> None:
    for make in (
        lambda: Link(1e6, trace=TRACE),
        lambda: Link(trace=TRACE, start_s=-1.0),
        lambda: Link(trace=TRACE, start_s=float("nan")),
        lambda: Link(trace=Trace("dead", 1.0, np.zeros(3))),
    ):
        with pytest.raises(UsageError):
            make()
