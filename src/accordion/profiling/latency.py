"""How long one inference takes on this machine, in ONNX Runtime as a device would run it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from accordion.errors import FormatError

__all__ = ["Latency", "load_session", "machine_name", "measure", "measure_in_turns"]


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds of one inference: the median of `runs`, and the 10th and 90th percentile."""

    median: float
    low: float
    high: float
    runs: int
    threads: int
    machine: str
    runtime: str

    def to_json(self) -> dict[str, Any]:
        """The ladder's field `latency_s`."""
        return {
            "median": float(f"{self.median:.4g}"),
            "low": float(f"{self.low:.4g}"),
            "high": float(f"{self.high:.4g}"),
            "runs": self.runs,
            "threads": self.threads,
            "machine": self.machine,
            "runtime": self.runtime,
        }


def measure(
    model: Path | bytes,
    feeds: Mapping[str, NDArray[Any]],
    *,
    runs: int = 30,
    warmup: int = 3,
    budget_s: float = 0.5,
    threads: int = 1,
) -> Latency:
    """Times `model` (a path, or the bytes of a model with its weights inside) on `feeds`.

    Stops after `runs` inferences, or once `budget_s` has passed and at least five are done. One thread by default: figures of
    several threads depend on what else the machine does.
    """
    (found,) = measure_in_turns([model], feeds, runs=runs, warmup=warmup, budget_s=budget_s, threads=threads)
    return found


def measure_in_turns(
    models: Sequence[Path | bytes],
    feeds: Mapping[str, NDArray[Any]],
    *,
    runs: int = 30,
    warmup: int = 3,
    budget_s: float = 0.5,
    threads: int = 1,
) -> list[Latency]:
    """The same for several models on the same `feeds`, one inference of each in turn: whatever else the machine does meanwhile
    slows all of them alike, so their ratio holds. `budget_s` is for each.
    """
    sessions = [load_session(model, threads) for model in models]
    for session in sessions:
        for _ in range(warmup):
            session.run(None, dict(feeds))
    seconds: list[list[float]] = [[] for _ in sessions]
    begin = time.perf_counter()
    while len(seconds[0]) < runs and (len(seconds[0]) < 5 or time.perf_counter() - begin < budget_s * len(sessions)):
        for session, taken in zip(sessions, seconds, strict=True):
            start = time.perf_counter()
            session.run(None, dict(feeds))
            taken.append(time.perf_counter() - start)
    found = []
    for taken in seconds:
        low, median, high = (float(value) for value in np.quantile(taken, (0.1, 0.5, 0.9)))
        runtime = f"onnxruntime {onnxruntime.__version__} CPU"
        found.append(Latency(median, low, high, len(taken), threads, machine_name(), runtime))
    return found


def load_session(model: Path | bytes, threads: int) -> onnxruntime.InferenceSession:
    """`model` (a path, or bytes with the weights inside) in ONNX Runtime on the CPU. FormatError if it can't be loaded."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise FormatError(f"ONNX Runtime can't load the model: {str(error).splitlines()[0]}") from error


def machine_name() -> str:
    """The processor in words, and how many of its cores this process may use."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux: the platform's own word must do
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{model}, {cores} cores"
