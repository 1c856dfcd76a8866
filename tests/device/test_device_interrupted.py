"""A delivery that is interrupted while a thread changes its folder: the lock stays until that has ended, and what is told is true."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accordion.device import Fetch, Observer, Request, delivery, exchange, fetch, upgrade, verify_model
from accordion.device.store import Store
from accordion.errors import StorageError, UsageError
from chain import K  # type: ignore[import-not-found]

LONG_S = 600.0  # a deadline that does not come by itself
TO_SEE_S = 0.3  # in which who gives up waiting is seen to, where he does


@pytest.fixture
def folder(endpoint: str, tmp_path: Path) -> Path:
    fetch(f"{endpoint}:latest", tmp_path / "m")
    return tmp_path / "m"


@pytest.fixture
def new(endpoint: str, folder: Path) -> str:
    """The digest of the version to come."""
    beside = folder.parent / "beside"
    found = fetch(f"{endpoint}:v2", beside).manifest
    shutil.rmtree(beside)
    return found


def is_locked(folder: Path) -> bool:
    with (folder / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class Moment:
    """In the middle of `what`, in its thread, `interrupt` is called; then there is time to give the lock back too early."""

    def __init__(self, patch: pytest.MonkeyPatch, where: Any, what: str, folder: Path) -> None:
        self.interrupt: Callable[[], None] = lambda: None
        self.locked: list[bool] = []
        real = getattr(where, what)

        def work(*arguments: Any) -> Any:
            self.interrupt()
            time.sleep(TO_SEE_S)
            self.locked.append(is_locked(folder))
            return real(*arguments)

        patch.setattr(where, what, work)


@pytest.fixture
def deciding(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Moment:
    """The moment in which the new version is written to the disk; next it is decided."""
    return Moment(monkeypatch, exchange, "sync_all", folder)


class Deadline:
    """The delivery's own one, which comes when it is told to."""

    def __init__(self, patch: pytest.MonkeyPatch, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timeouts: list[asyncio.Timeout] = []
        real = asyncio.timeout_at

        def timeout_at(when: float | None) -> asyncio.Timeout:
            self._timeouts.append(real(when))
            return self._timeouts[-1]

        patch.setattr(asyncio, "timeout_at", timeout_at)

    def strike(self) -> None:
        self._loop.call_soon_threadsafe(self._timeouts[0].reschedule, self._loop.time())


async def test_a_deadline_while_versions_are_exchanged(
    folder: Path, new: str, deciding: Moment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deciding.interrupt = Deadline(monkeypatch, asyncio.get_running_loop()).strike
    seen = []
    async with Fetch.upgrade(folder, Request(reference="v2", deadline_s=LONG_S)) as delivered:
        async for k, _ in delivered:
            seen.append(k)
    result = delivered.result
    assert deciding.locked == [True]
    assert (result.manifest, result.configuration, result.deadline_met) == (new, K - 1, False)
    assert [k for k, _ in result.ready] == [K - 1] and seen[-1] == K - 1
    assert Store.open(folder).manifest.digest == new
    assert verify_model(folder) == [] and not is_locked(folder)


async def test_an_exchange_that_fails_is_no_success_at_the_deadline(
    folder: Path, new: str, deciding: Moment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some files are in their place and some are not: who says that the old version is there would not tell the truth."""
    deciding.interrupt = Deadline(monkeypatch, asyncio.get_running_loop()).strike
    real, moved = os.replace, []

    def replace(source: Path, target: Path) -> None:
        if ".next" in str(source) and Path(target).parent == folder:
            moved.append(target)
            if len(moved) == 3:
                raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(StorageError, match="Input/output error"):
        async with Fetch.upgrade(folder, Request(reference="v2", deadline_s=LONG_S)) as delivered:
            async for _ in delivered:
                pass
    monkeypatch.setattr(os, "replace", real)
    assert deciding.locked == [True]
    assert Store.open(folder).manifest.digest == new  # the next one brings it to its end
    assert verify_model(folder) == []


def telling(moment: Moment) -> asyncio.Event:
    """What is set, in this event loop, once the moment has come."""
    loop, come = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        loop.call_soon_threadsafe(come.set)

    moment.interrupt = tell
    return come


async def test_the_block_is_left_while_versions_are_exchanged(folder: Path, new: str, deciding: Moment) -> None:
    come = telling(deciding)
    async with Fetch.upgrade(folder, Request(reference="v2")) as delivered:
        await come.wait()
    assert deciding.locked == [True]
    with pytest.raises(UsageError, match="was left"):
        _ = delivered.result
    assert Store.open(folder).manifest.digest == new
    assert verify_model(folder) == [] and not is_locked(folder)


async def test_the_block_is_left_while_an_exchange_fails(folder: Path, deciding: Moment, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise StorageError("Read-only file system")

    monkeypatch.setattr(exchange, "write_file", never)
    come = telling(deciding)
    with pytest.raises(StorageError, match="Read-only"):
        async with Fetch.upgrade(folder, Request(reference="v2")):
            await come.wait()
    assert deciding.locked == [True]
    assert verify_model(folder) == []


@pytest.mark.parametrize("times", [1, 3])
async def test_cancelled_while_versions_are_exchanged_however_often(folder: Path, new: str, deciding: Moment, times: int) -> None:
    come = telling(deciding)
    work = asyncio.create_task(delivery.deliver(Fetch.upgrade(folder, Request(reference="v2"))._job, Observer()))
    await come.wait()
    for _ in range(times):
        work.cancel()
        await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await work
    assert deciding.locked == [True]
    assert Store.open(folder).manifest.digest == new
    assert verify_model(folder) == []


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_while_versions_are_exchanged(folder: Path, new: str, deciding: Moment, times: int) -> None:
    def interrupt() -> None:
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(TO_SEE_S)

    deciding.interrupt = interrupt
    with pytest.raises(KeyboardInterrupt):
        upgrade(folder, Request(reference="v2"))
    assert deciding.locked == [True]
    assert Store.open(folder).manifest.digest == new
    assert verify_model(folder) == [] and not is_locked(folder)


async def test_the_block_is_left_while_what_is_there_is_looked_through(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = Moment(monkeypatch, Store, "repair", folder)
    come = telling(moment)
    async with Fetch.upgrade(folder):
        await come.wait()
    assert moment.locked == [True]
    assert not is_locked(folder)
