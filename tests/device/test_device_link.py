from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from accordion.device.link import Link, Shaper
from accordion.errors import UsageError


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
