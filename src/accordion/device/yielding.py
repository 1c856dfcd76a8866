"""Work beside threads that answer: they get the interpreter and the processor back soon.

Python lets one thread work at a time, and takes the turn from it after 5 ms. An inference that ends meanwhile waits so long for the
interpreter, while a graph is checked or a layer is placed: often longer than it took itself. The same goes for processors, where
there are no more of them than threads that work: there a turn is some milliseconds too.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

__all__ = ["TURN_S", "lowered", "yielding"]

T = TypeVar("T")

TURN_S = 0.0002  # for which one thread may keep the interpreter from another; a switch takes some microseconds


GRAIN_S = 1e-6  # in which Python counts it, cutting off what is left over
LOWER = 10  # of 19: where others want every processor, it still gets a tenth of what they do


class _Turns:
    """Who is at work, and what the process had set before."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.at_work = 0
        self.before = TURN_S


_turns = _Turns()


@contextmanager
def yielding() -> Iterator[None]:
    """While any thread is within, no thread of this process waits much longer than `TURN_S` for another one's turn to end.

    What the process had set counts again when the last one leaves, unless somebody has set something else meanwhile.
    """
    with _turns.lock:
        if _turns.at_work == 0:
            _turns.before = sys.getswitchinterval()
            sys.setswitchinterval(min(TURN_S, _turns.before) + GRAIN_S / 2)
        _turns.at_work += 1
    try:
        yield
    finally:
        with _turns.lock:
            _turns.at_work -= 1
            if _turns.at_work == 0 and abs(sys.getswitchinterval() - TURN_S) < GRAIN_S:
                sys.setswitchinterval(_turns.before + GRAIN_S / 2)


def lowered(work: Callable[[], T]) -> T:
    """What `work` returns or raises, done by a thread of a lower priority, where threads have one (Linux).

    For work outside of the interpreter: who holds that must not wait long for a processor.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        if sys.platform == "linux":
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWER)
        try:
            result.append(work())
        except BaseException as error:
            failure.append(error)

    # It ends with the work: a thread may give its priority away, and not take it back.
    thread = threading.Thread(target=run, name="accordion-lowered")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]
