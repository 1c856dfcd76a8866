"""A training that is asked to stop does so after its step, with a checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["duration", "on_signals"]


@contextmanager
def on_signals(ask: Callable[[str], None]) -> Iterator[None]:
    """Calls `ask` with the signal's name on SIGINT and SIGTERM meanwhile; the handlers from before come back afterwards."""

    def handler(number: int, _: FrameType | None) -> None:
        ask(signal.Signals(number).name)

    try:
        before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are the caller's business
        yield
        return
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def duration(seconds: float) -> str:
    """Seconds in words that are exact enough for a plan."""
    minutes, hours = round(seconds / 60), seconds / 3600
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if hours < 2 else f"{int(hours)} h {minutes - 60 * int(hours)} min"
