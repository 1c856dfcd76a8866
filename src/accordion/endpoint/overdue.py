"""One timer for all who wait: a timer for each would cost a request more than its plan."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["Overdue"]


class Overdue:
    """Cancels tasks that have waited for longer than `seconds`.

    `begin` before the wait and `end` after it; in between, a CancelledError for which `struck` is true is this one's doing, and
    may be answered instead of passed on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: dict[asyncio.Task[Any], float] = {}  # the longest wait stands first
        self._struck: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None  # in which the timer runs

    def begin(self) -> asyncio.Task[Any]:
        """The running task begins to wait."""
        task = asyncio.current_task()
        assert task is not None
        loop = task.get_loop()
        self._since[task] = loop.time()
        if self._loop is not loop:
            self._loop = loop
            loop.call_later(self.seconds, self._look, loop)
        return task

    def end(self, task: asyncio.Task[Any]) -> None:
        """It waits no more."""
        self._since.pop(task, None)
        self._struck.discard(task)

    def struck(self, task: asyncio.Task[Any]) -> bool:
        """Whether the task was cancelled for its wait; then it counts as cancelled no more."""
        if task not in self._struck:
            return False
        task.uncancel()
        return True

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            return
        now = loop.time()
        for task, since in list(self._since.items()):
            if since + self.seconds > now:
                loop.call_at(since + self.seconds, self._look, loop)
                return
            del self._since[task]
            self._struck.add(task)
            task.cancel()
        self._loop = None  # nobody waits; who comes next starts the timer
