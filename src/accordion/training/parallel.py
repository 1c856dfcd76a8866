"""Several processes that train one network: each takes its part of every batch.

All processes draw the same configurations, so a block that is skipped has no gradient in any of them. Gradients and batch-norm
statistics of what did run are averaged by one collective call a step. PyTorch's DistributedDataParallel is not used: it expects
every parameter in every step, or searches the graph for those that are missing.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessException

import accordion.errors
from accordion.errors import AccordionError, TrainingError, UsageError

__all__ = ["Team", "launch", "make_fabric"]

T = TypeVar("T")


class _Replicas(DDPStrategy):  # type: ignore[misc]  # Fabric has no types
    """Processes and their connection as in data parallel, the network left as it is."""

    def setup_module(self, module: nn.Module) -> nn.Module:
        return module


def make_fabric(accelerator: str, devices: int, precision: str) -> Fabric:
    """Fabric on one device, or on several processes of this machine. UsageError if the machine has no such thing."""
    strategy: Any = "auto" if devices == 1 else _Replicas(start_method="spawn")
    try:
        return Fabric(accelerator=accelerator, devices=devices, precision=precision, strategy=strategy)
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise UsageError(f"can't train on {devices} × {accelerator} at precision {precision}: {first[0]}") from error


def launch(fabric: Fabric, devices: int, function: Callable[..., T], *arguments: Any) -> T:
    """`function(fabric, *arguments)` in each of `devices` processes; the answer is the first one's. With one it is a plain call.

    With several, function and arguments must be picklable. An AccordionError of any process is raised here; anything else that
    ends a process is a TrainingError. SIGINT and SIGTERM are passed on to the processes.
    """
    if devices == 1:
        return function(fabric, *arguments)
    with tempfile.TemporaryDirectory(prefix="accordion-train-") as reports, _signals_passed_on():
        try:
            answer = fabric.launch(_in_process, reports, pickle.dumps((function, arguments)))
        except (ProcessException, OSError, RuntimeError) as error:
            _raise_reported(Path(reports))
            lines = str(error).strip().splitlines()
            raise TrainingError(f"a process of the training ended: {lines[-1] if lines else type(error).__name__}") from error
        _raise_reported(Path(reports))
        result: T = pickle.loads(answer)
        return result


def _in_process(fabric: Fabric, reports: str, call: bytes) -> bytes | None:
    # As bytes there and back, since the launcher takes every argument and answer apart in search of tensors to move.
    try:
        function, arguments = pickle.loads(call)
        return pickle.dumps(function(fabric, *arguments))
    except AccordionError as error:
        # Through a file, since the launcher only carries answers of the first process, and only if none failed.
        report = {"type": type(error).__name__, "text": str(error)}
        Path(reports, f"{fabric.global_rank:04d}").write_text(json.dumps(report))
        return None
    finally:
        # Together and by name: a process that ends with its connections open now and then aborts in their threads.
        with suppress(RuntimeError):  # the others may be gone
            torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _raise_reported(reports: Path) -> None:
    for path in sorted(reports.iterdir()):
        report = json.loads(path.read_text())
        raise getattr(accordion.errors, report["type"])(report["text"])


@contextmanager
def _signals_passed_on() -> Iterator[None]:
    def pass_on(number: int, _: FrameType | None) -> None:
        for child in multiprocessing.active_children():
            if child.pid is not None:
                os.kill(child.pid, number)

    try:
        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are the caller's business
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Team:
    """The processes of one training, as one of them sees them. Alone, everything here is a no-operation."""

    def __init__(self, fabric: Fabric) -> None:
        self.size, self.rank = int(fabric.world_size), int(fabric.global_rank)
        self.device: torch.device = fabric.device

    @property
    def first(self) -> bool:
        """Whether this process writes the files and speaks."""
        return self.rank == 0

    def part(self, x: Tensor) -> Tensor:
        """This process's rows of a batch."""
        return x if self.size == 1 else x[self.rank :: self.size]

    @torch.no_grad()
    def average(self, module: nn.Module) -> None:
        """Averages the gradients that are there, and the running statistics of the norms that ran."""
        if self.size == 1:
            return
        tensors: list[Tensor] = []
        for part in module.modules():
            own = [p for p in part.parameters(recurse=False) if p.grad is not None]
            tensors += [p.grad for p in own if p.grad is not None]
            if own and isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
                tensors += [b for b in part.buffers(recurse=False) if b.is_floating_point()]
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, parts, strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def agree(self, loss: float, stop: bool) -> tuple[float, bool]:
        """The mean loss, and whether any process wants to stop: the same for all, so that all stop after the same step."""
        if self.size == 1:
            return loss, stop
        both = torch.tensor([loss, float(stop)], dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(both)
        return float(both[0]) / self.size, bool(both[1] > 0)

    @torch.no_grad()
    def check_equal(self, module: nn.Module) -> None:
        """TrainingError unless every process has the same weights, to the last bit."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1).double() for tensor in module.state_dict().values()])
        low, high = flat.clone(), flat.clone()
        torch.distributed.all_reduce(low, torch.distributed.ReduceOp.MIN)
        torch.distributed.all_reduce(high, torch.distributed.ReduceOp.MAX)
        if not torch.equal(low, high):
            raise TrainingError("the processes of the training have come to different weights: its results can't be trusted")
