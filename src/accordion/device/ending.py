"""Work on a model folder goes on to its end, whoever is cancelled meanwhile.

A thread can't be stopped. If who waits for it went on at once, the folder's lock would be given back while files still move.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["in_thread", "wait_out"]

T = TypeVar("T")


async def wait_out(work: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Returns when `work` has ended, however often this task is cancelled meanwhile: with that, for the caller to raise."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


async def in_thread(work: Callable[[], T]) -> T:
    """What `work` returns, from a thread. Who is cancelled meanwhile is so at its end.

    What it raises counts more: whoever is cancelled by a deadline goes on to report what is there, and would not know.
    """
    # Not as a task: at a second Ctrl-C, asyncio cancels each of those, and so would end the waiting.
    ended = asyncio.get_running_loop().run_in_executor(None, work)
    cancelled = await wait_out(ended)
    result = ended.result()
    if cancelled is not None:
        raise cancelled
    return result
