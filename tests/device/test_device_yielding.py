"""Who works beside threads that answer gives way, and leaves no trace when done."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from accordion.device import Observer, fetch
from accordion.device.yielding import GRAIN_S, LOWER, TURN_S, lowered, yielding
from accordion.errors import FormatError


@pytest.fixture(autouse=True)
def interval() -> Iterator[float]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.004)
    yield 0.004
    sys.setswitchinterval(before)


def test_turns_are_short_within_and_as_before_after(interval: float) -> None:
    with yielding():
        assert sys.getswitchinterval() == pytest.approx(TURN_S, abs=GRAIN_S)
    assert sys.getswitchinterval() == pytest.approx(interval, abs=GRAIN_S)


def test_it_does_not_wander() -> None:
    before = sys.getswitchinterval()
    for _ in range(100):
        with yielding():
            pass
    assert sys.getswitchinterval() == before


def test_the_last_one_out_puts_it_back(interval: float) -> None:
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with yielding():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=work)
    with yielding():
        thread.start()
        inside.wait()
    assert sys.getswitchinterval() == pytest.approx(TURN_S, abs=GRAIN_S)
    leave.set()
    thread.join()
    assert sys.getswitchinterval() == pytest.approx(interval, abs=GRAIN_S)


def test_what_somebody_else_has_set_meanwhile_stays() -> None:
    with yielding():
        sys.setswitchinterval(0.002)
    assert sys.getswitchinterval() == pytest.approx(0.002, abs=GRAIN_S)


def test_a_process_with_shorter_turns_keeps_them() -> None:
    sys.setswitchinterval(TURN_S / 4)
    with yielding():
        assert sys.getswitchinterval() == pytest.approx(TURN_S / 4, abs=GRAIN_S)
    assert sys.getswitchinterval() == pytest.approx(TURN_S / 4, abs=GRAIN_S)


def test_a_failure_within_puts_it_back(interval: float) -> None:
    with pytest.raises(FormatError), yielding():
        raise FormatError("no")
    assert sys.getswitchinterval() == pytest.approx(interval, abs=GRAIN_S)


def test_a_delivery_gives_way(endpoint: str, tmp_path: Path, interval: float) -> None:
    seen = []

    async def ready(_k: int, _seconds: float) -> None:
        seen.append(sys.getswitchinterval())

    fetch(endpoint, tmp_path / "m", observer=Observer(ready=ready))
    assert seen and all(one == pytest.approx(TURN_S, abs=GRAIN_S) for one in seen)
    assert sys.getswitchinterval() == pytest.approx(interval, abs=GRAIN_S)


def test_lowered_work_returns_and_raises_as_it_would_here() -> None:
    assert lowered(lambda: 7) == 7

    def fails() -> None:
        raise FormatError("no")

    with pytest.raises(FormatError, match="no"):
        lowered(fails)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own elsewhere")
def test_only_the_working_thread_has_the_lower_priority() -> None:
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert lowered(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())) == max(before, LOWER)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
