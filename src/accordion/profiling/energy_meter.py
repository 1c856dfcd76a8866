"""Joules as the processor itself counts them (RAPL), through the library zeus; an optional part, since few machines have them.

Intel's and AMD's processors count the energy of a package, and many that of the memory beside it. Virtual machines rarely show the
counters, and Linux keeps them for root. Where there are none, `open_meter` says why, and the model of `accordion.planning.energy`
holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from accordion.errors import AccordionError
from accordion.extras import how_to_install
from accordion.profiling.latency import load_session, machine_name

__all__ = ["Meter", "NoMeterError", "open_meter", "per_inference"]

SECONDS = 2.0  # of inferences: counters move about a thousand times a second
FEWEST_RUNS = 10


class NoMeterError(AccordionError):
    """This machine shows no energy counters; the text says why."""


class Meter(Protocol):
    """Something that counts joules."""

    def joules(self) -> float:
        """Since some moment in the past; never less than before."""


class _Rapl:
    def __init__(self, cpus: Any) -> None:
        self._cpus = cpus

    def joules(self) -> float:
        total = 0.0
        for index in range(len(self._cpus)):
            found = self._cpus.get_total_energy_consumption(index)
            total += (found.cpu_mj + (found.dram_mj or 0.0)) / 1e3
        return total


def open_meter() -> Meter:
    """The processors' own counters, all packages and memories together.

    Raises:
        NoMeterError: the library is missing, or the machine has no counters or keeps them to itself.
    """
    try:
        from zeus.device.cpu import get_cpus
        from zeus.device.exception import ZeusBaseCPUError
    except ImportError as error:
        raise NoMeterError(f"zeus is not installed: {how_to_install('energy')}") from error
    try:
        meter = _Rapl(get_cpus())
        meter.joules()
    except (ZeusBaseCPUError, OSError) as error:
        raise NoMeterError(f"this machine shows no energy counters (RAPL): {str(error).splitlines()[0]}") from error
    return meter


def per_inference(
    model: Path | bytes,
    feeds: Mapping[str, NDArray[Any]],
    meter: Meter,
    *,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """The ladder's field `energy_j`: joules of one inference of `model` in ONNX Runtime on one thread.

    `value` and `high` are all that the processor used meanwhile, by the number of inferences; `low` leaves out what it uses at
    rest, measured for as long just before.
    """
    session = load_session(model, threads=1)
    session.run(None, dict(feeds))
    began, before = clock(), meter.joules()
    sleep(seconds)
    rest_w = (meter.joules() - before) / max(clock() - began, 1e-9)
    runs, began, before = 0, clock(), meter.joules()
    while runs < FEWEST_RUNS or clock() - began < seconds:
        session.run(None, dict(feeds))
        runs += 1
    used, passed = meter.joules() - before, clock() - began
    low = max(0.0, used - rest_w * passed) / runs
    return {
        "value": _digits(used / runs),
        "low": min(_digits(low), _digits(used / runs)),
        "high": _digits(used / runs),
        "runs": runs,
        "machine": machine_name(),
        "runtime": f"onnxruntime {onnxruntime.__version__} CPU",
        "method": "RAPL through zeus, packages and memories",
    }


def _digits(value: float) -> float:
    return float(np.format_float_positional(value, precision=4, fractional=False)) if value else 0.0
