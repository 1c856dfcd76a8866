from __future__ import annotations

import asyncio

import pytest

from accordion.endpoint.overdue import Overdue

SHORT, LONG = 0.05, 60.0


async def wait(waiting: Overdue, event: asyncio.Event) -> str:
    task = waiting.begin()
    try:
        await event.wait()
        return "came"
    except asyncio.CancelledError:
        if not waiting.struck(task):
            raise
        return "late"
    finally:
        waiting.end(task)


async def test_who_waits_too_long_is_struck_and_nobody_else() -> None:
    waiting, never, soon = Overdue(SHORT), asyncio.Event(), asyncio.Event()
    late, came = asyncio.create_task(wait(waiting, never)), asyncio.create_task(wait(waiting, soon))
    await asyncio.sleep(0)
    soon.set()
    assert await came == "came"
    assert await late == "late"
    assert late.cancelling() == 0  # it goes on as if nothing had been
    again = asyncio.create_task(wait(waiting, never))  # the timer had stopped, and starts anew
    assert await again == "late"


async def test_one_that_comes_later_has_its_own_time() -> None:
    waiting, never, moments = Overdue(SHORT), asyncio.Event(), []

    async def timed() -> None:
        begin = asyncio.get_running_loop().time()
        assert await wait(waiting, never) == "late"
        moments.append(asyncio.get_running_loop().time() - begin)

    first = asyncio.create_task(timed())
    await asyncio.sleep(SHORT / 2)
    await asyncio.gather(first, timed())
    assert min(moments) >= SHORT * 0.99  # the clock that timers go by is not finer


async def test_a_cancellation_by_somebody_else_is_passed_on() -> None:
    task = asyncio.create_task(wait(Overdue(LONG), asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_it_works_in_one_loop_after_another() -> None:
    waiting = Overdue(SHORT)

    async def once() -> str:
        return await wait(waiting, asyncio.Event())

    assert [asyncio.run(once()) for _ in range(2)] == ["late", "late"]
    event = asyncio.Event()
    event.set()
    assert asyncio.run(wait(waiting, event)) == "came"  # its timer goes with its loop
    assert asyncio.run(once()) == "late"
