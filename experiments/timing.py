"""What a training step costs on this machine, and so what each run of the list will take."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from accordion.artifact.atomic import write_file
from accordion.data import batches_per_epoch
from accordion.elastic import CifarResNet
from accordion.errors import FormatError, StorageError
from accordion.profiling.latency import machine_name
from accordion.training import TrainingConfig
from accordion.training.recipes import picture_size
from experiments.computation import SHAPES, TRAINING_PICTURES, expected_work
from experiments.data_files import parse

__all__ = ["PRECISIONS", "TABLE", "StepTimes", "estimate_s", "faster", "measure", "read_table", "write_table"]

TABLE = Path(__file__).parent / "timing.json"
PRECISIONS = ("bf16-mixed", "32-true")  # what the list asks for, and what a processor without bfloat16 arithmetic is faster in
BATCH, SIDE = 128, 32
SHAPES_TIMED = ((1, 1, 1), (7, 1, 1), (1, 7, 1), (1, 1, 7))
MORE = 6  # blocks that the latter three have more in one stage


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds of a training step on `BATCH` pictures of 32×32: all that is not a block, and one block of each stage."""

    machine: str
    precision: str
    torch: str
    rest_s: float
    block_s: tuple[float, float, float]
    load: float = 0.0  # processes that wanted the cores beforehand: above 0, what else ran made it slower

    def step_s(self, stems: float, blocks: tuple[float, float, float]) -> float:
        """A step that passes so often through the input layer and the blocks of each stage."""
        return stems * self.rest_s + sum(count * one for count, one in zip(blocks, self.block_s, strict=True))


def measure(
    precision: str, *, accelerator: str = "auto", rounds: int = 7, progress: Callable[[str], None] = lambda line: None
) -> StepTimes:
    """Times steps of four networks that differ by the blocks of one stage, in turn, and takes medians."""
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0
    fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(BATCH, 3, SIDE, SIDE, generator=generator)  # what is in the pictures does not change the time
    y = torch.randint(0, 10, (BATCH,), generator=generator)
    steps = [_step(fabric, shape, x.to(fabric.device), y.to(fabric.device)) for shape in SHAPES_TIMED]
    seconds: list[list[float]] = [[] for _ in steps]
    for step in steps:
        step()  # memory, kernels
    for number in range(rounds):
        for index, step in enumerate(steps):
            began = time.perf_counter()
            step()
            seconds[index].append(time.perf_counter() - began)
        progress(f"round {number + 1} of {rounds}: " + ", ".join(f"{row[-1] * 1e3:.0f} ms" for row in seconds))
    base, *longer = (statistics.median(row) for row in seconds)
    one, two, three = (max(total - base, 0.0) / MORE for total in longer)
    machine = torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else machine_name()
    return StepTimes(machine, precision, torch.__version__, max(base - one - two - three, 0.0), (one, two, three), load)


def estimate_s(config: TrainingConfig, times: StepTimes) -> float:
    """Seconds of the training that `config` asks for, by its steps alone."""
    work = expected_work(config)
    _, side, _ = SHAPES[config.dataset]
    step = times.step_s(work.stems, work.blocks) * config.recipe.batch / BATCH * (config.width / 16) ** 2
    sizes = np.array([picture_size(config.recipe, epoch, side) for epoch in range(config.recipe.epochs)])
    return float(batches_per_epoch(TRAINING_PICTURES[config.dataset], config.recipe.batch) * step * np.sum((sizes / SIDE) ** 2))


def faster(times: Sequence[StepTimes], machine: str) -> str | None:
    """A line for the list where `machine` trains faster in another precision than the list asks for; None if not or not known."""
    steps = {row.precision: row.step_s(1, (3, 3, 3)) for row in times if row.machine == machine}
    asked, other = (steps.get(precision) for precision in PRECISIONS)
    if not asked or not other or other >= asked:
        return None
    return f"a step in {PRECISIONS[1]} takes {other / asked:.0%} of one in {PRECISIONS[0]} here: run … --precision {PRECISIONS[1]}"


def read_table(path: Path = TABLE) -> list[StepTimes]:
    """What has been measured; empty if nothing was."""
    try:
        rows = parse(path.read_bytes())
        return [
            StepTimes(
                str(row["machine"]),
                str(row["precision"]),
                str(row["torch"]),
                float(row["rest_s"]),
                _three(row["block_s"]),
                float(row["load"]),
            )
            for row in rows["measured"]
        ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is no table of step times: {error}") from error


def write_table(rows: list[StepTimes], path: Path = TABLE) -> None:
    """Writes it; one row for each machine and precision, the last one given counts."""
    latest = {(row.machine, row.precision): row for row in rows}
    measured = [
        {
            "machine": row.machine,
            "precision": row.precision,
            "torch": row.torch,
            "batch": BATCH,
            "rest_s": float(f"{row.rest_s:.4g}"),
            "block_s": [float(f"{one:.4g}") for one in row.block_s],
            "load": row.load,
        }
        for row in latest.values()
    ]
    write_file(path, json.dumps({"measured": measured}, indent=1).encode() + b"\n")


def _step(fabric: Fabric, shape: tuple[int, int, int], x: torch.Tensor, y: torch.Tensor) -> Callable[[], None]:
    network = CifarResNet(20, 10, blocks_by_stage=shape).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model, optimizer = fabric.setup(network, torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9))
    x = x.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        fabric.backward(loss)
        optimizer.step()
        loss.item()  # waits for the device

    return step


def _three(values: Any) -> tuple[float, float, float]:
    one, two, three = (float(value) for value in values)
    return one, two, three
