"""The operations of `growth.py`: each a function that makes itself ready, and returns what is timed.

`Stage` is where they work: a package, a scratch folder, an endpoint that serves the package. What is made ready is not timed.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accordion.artifact.ladder import Ladder
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import Manifest
from accordion.artifact.verify import verify_package
from accordion.device import Model, Request, fetch, shed, upgrade
from accordion.endpoint import export
from accordion.endpoint.package import Package
from accordion.planning import PlanTable
from accordion.planning import Request as PlanRequest
from accordion.registry import RegistryClient, parse_reference, pull, push

__all__ = ["OPERATIONS", "Measured", "Stage", "in_a_fork", "read_package"]

Work = Callable[[], object]
PLANS = 200  # at once, since one takes microseconds


@dataclass(frozen=True, slots=True)
class Stage:
    """`url` is the endpoint's, `registry` that of a stock registry, where there is one; `where` is an empty folder."""

    package: Path
    where: Path
    url: str
    registry: str | None

    @property
    def source(self) -> str:
        return f"{self.url}/{self.package.name}"


@dataclass(frozen=True, slots=True)
class Measured:
    """`seconds` of one operation, and of the process's processor time; `peak_bytes` more memory than before it had at most."""

    seconds: float
    peak_bytes: int
    processor_s: float


def in_a_fork(warm: tuple[Callable[[Stage], Work], Stage], work: tuple[Callable[[Stage], Work], Stage]) -> Measured:
    """Measured in a process of its own, after the same operation on something small, so that nothing is done for the first time."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that other threads don't come along: none is needed there
        child = os.fork()
    if not child:
        try:
            made, stage = warm
            made(stage)()
            made, stage = work
            run = made(stage)
            times = PLANS if made is plan else 1
            before = _status("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now on
            began, used = time.perf_counter(), time.process_time()
            run()
            took, used = (time.perf_counter() - began) / times, (time.process_time() - used) / times
            os.write(writer, json.dumps([took, max(0, _status("VmHWM") - before), used]).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit("an operation failed; what it said stands above")
    return Measured(*json.loads(said))


def _status(key: str) -> int:
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) * 1024 for row in rows if row.startswith(key))


def read_package(path: Path) -> tuple[Manifest, Ladder]:
    """As every program begins with a package."""
    layout = Layout.open(path)
    manifest = layout.manifest()
    return manifest, layout.ladder(manifest)


# On the package's disk ------------------------------------------------------------------------------------------------------


def opened(stage: Stage) -> Work:
    return lambda: read_package(stage.package)


def verified(stage: Stage) -> Work:
    def work() -> None:
        if problems := verify_package(stage.package):
            raise ValueError(problems[0])

    return work


def loaded(stage: Stage) -> Work:
    """As the endpoint takes a package in."""

    def work() -> None:
        if Package("net", stage.package).snapshot() is None:
            raise ValueError("not served")

    return work


def exported(stage: Stage) -> Work:
    return lambda: export(stage.package, stage.where / "export")


def plan(stage: Stage) -> Work:
    """`PLANS` plans of several kinds over a prepared table."""
    table = PlanTable(*read_package(stage.package))
    wishes = [PlanRequest(), PlanRequest(deadline_s=0.3, throughput_bps=2e7, rtt_s=0.05), PlanRequest(min_quality=0.5)]

    def work() -> None:
        for turn in range(PLANS):
            table.plan("net", wishes[turn % len(wishes)])

    return work


# On the device --------------------------------------------------------------------------------------------------------------


def first_answer(stage: Stage) -> Work:
    """Configuration 0 is fetched, and answers."""
    _, ladder = read_package(stage.package)
    x = np.zeros((1, 64), np.float32)

    def work() -> None:
        fetch(stage.source, stage.where / "model", Request(max_bytes=ladder.configurations[0].bytes))
        with Model.open(stage.where / "model", threads=1) as model:
            model.run(x, 0)

    return work


def whole(stage: Stage) -> Work:
    return lambda: fetch(stage.source, stage.where / "model")


def upgraded(stage: Stage) -> Work:
    """From configuration 0 to the complete one."""
    _, ladder = read_package(stage.package)
    fetch(stage.source, stage.where / "model", Request(max_bytes=ladder.configurations[0].bytes))
    return lambda: upgrade(stage.where / "model")


def last_step(stage: Stage) -> Work:
    """The last configuration, which is small, to all the others, which are there."""
    fetch(stage.source, stage.where / "model")
    shed(stage.where / "model", len(read_package(stage.package)[1]) - 2)
    return lambda: upgrade(stage.where / "model")


def shed_all(stage: Stage) -> Work:
    fetch(stage.source, stage.where / "model")
    return lambda: shed(stage.where / "model", 0)


# Between machines -----------------------------------------------------------------------------------------------------------


def pulled(stage: Stage) -> Work:
    async def work() -> None:
        async with RegistryClient(parse_reference(stage.source)) as client:
            await pull(client, stage.where / "pulled")

    return lambda: asyncio.run(work())


def pushed(stage: Stage) -> Work:
    """To a stock registry that has nothing of it."""

    async def work() -> None:
        async with RegistryClient(parse_reference(f"{stage.registry}/{stage.where.name}:latest")) as client:
            await push(stage.package, client)

    return lambda: asyncio.run(work())


def streamed(stage: Stage) -> Work:
    """The whole stream, read and thrown away: it is the endpoint's memory that counts here, which `growth.py` reads."""
    manifest, _ = read_package(stage.package)

    def work() -> None:
        link = http.client.HTTPConnection(stage.url.removeprefix("http://"))
        link.request("GET", f"/v2/{stage.package.name}/_accordion/stream/{manifest.digest}")
        answer, count, piece = link.getresponse(), 0, bytearray(2**18)
        while got := answer.readinto(piece):
            count += got
        link.close()
        if count != manifest.offsets[-1]:
            raise ValueError(f"{count} bytes came of {manifest.offsets[-1]}")

    return work


def asked_plans(stage: Stage) -> list[float]:
    """Seconds of each of `PLANS` plans over one connection."""
    link, times = http.client.HTTPConnection(stage.url.removeprefix("http://")), []
    body = json.dumps({"deadline_s": 0.3, "throughput_bps": 2e7, "rtt_s": 0.05})
    for _ in range(PLANS):
        began = time.perf_counter()
        link.request("POST", f"/v2/{stage.package.name}/_accordion/plan", body, {"Content-Type": "application/json"})
        answer = link.getresponse()
        data: Any = answer.read()
        times.append(time.perf_counter() - began)
        if answer.status not in (200, 409):
            raise ValueError(f"a plan was answered {answer.status}: {data[:200]!r}")
    link.close()
    return times


OPERATIONS: dict[str, Callable[[Stage], Work]] = {
    "open": opened,
    "verify": verified,
    "load at the endpoint": loaded,
    "plan": plan,
    "first answer": first_answer,
    "whole fetch": whole,
    "upgrade from the smallest": upgraded,
    "last small step": last_step,
    "shed": shed_all,
    "stream": streamed,
    "export": exported,
    "pull": pulled,
    "push": pushed,
}


def empty(folder: Path) -> Path:
    """An empty folder at this place."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
