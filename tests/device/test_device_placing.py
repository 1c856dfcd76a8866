"""Verified layers are placed in their order, together when they wait, and never after the folder's lock is given back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from accordion.device.placing import Batch, Placing
from accordion.errors import FormatError

HERE = Path("a")


class Slow:
    """Places when it is let; remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()

    async def place(self, batch: Batch) -> None:
        await self.gate.wait()
        self.batches.append([index for index, _ in batch])


async def test_what_waits_is_placed_together_and_in_order() -> None:
    slow = Slow()
    placing = Placing(slow.place)
    placing.put(0, HERE)
    await asyncio.sleep(0)  # the first is on its way
    placing.put(1, HERE)
    placing.put(2, HERE)
    slow.gate.set()
    await placing.drain()
    placing.put(3, HERE)
    await placing.drain()
    assert slow.batches == [[0], [1, 2], [3]]


async def test_nothing_to_place_needs_no_waiting() -> None:
    await Placing(Slow().place).drain()


async def test_what_goes_wrong_is_raised_to_who_puts_or_drains() -> None:
    async def refuse(batch: Batch) -> None:
        raise FormatError("no")

    placing = Placing(refuse)
    placing.put(0, HERE)
    await asyncio.sleep(0.01)
    with pytest.raises(FormatError, match="no"):
        placing.put(1, HERE)
    placing.put(2, HERE)
    with pytest.raises(FormatError, match="no"):
        await placing.drain()
    await placing.drain()  # it is raised once


async def test_who_is_cancelled_waits_until_all_is_in_its_place() -> None:
    slow = Slow()
    placing = Placing(slow.place)
    placing.put(0, HERE)
    task = asyncio.create_task(placing.drain())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    slow.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slow.batches == [[0]]
