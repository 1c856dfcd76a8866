"""Verified layers on their way into their place, while the next ones are still arriving.

Checking content, writing files and the state take time that the link need not wait for. Whatever has been verified meanwhile is
placed together, so on a fast link the state is written once for several layers, and on a slow one for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from accordion.device.ending import wait_out

__all__ = ["Batch", "Placing"]

Batch = list[tuple[int, Path]]
"""Layers by index, each with the file that holds it."""


class Placing:
    """Hands verified layers to `place`, all that wait at once and in their order; one batch at a time."""

    def __init__(self, place: Callable[[Batch], Awaitable[None]]) -> None:
        self._place = place
        self._waiting: Batch = []
        self._task: asyncio.Task[None] | None = None

    def put(self, index: int, source: Path) -> None:
        """One more. Raises what went wrong with those before."""
        self.check()
        self._waiting.append((index, source))
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    def check(self) -> None:
        """Raises what went wrong, if something has."""
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            task.result()

    async def drain(self) -> None:
        """Returns when all that was put is in its place. Raises what went wrong.

        Who is cancelled meanwhile waits all the same, and is cancelled then, whatever went wrong: files must not move any more once
        the folder's lock is given back.
        """
        if (task := self._task) is None:
            return
        cancelled = await wait_out(task)
        self._task = None
        try:
            task.result()
        finally:
            if cancelled is not None:
                raise cancelled

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._place(batch)
        self._task = None
