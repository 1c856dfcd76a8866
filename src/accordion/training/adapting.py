"""Adapting: with the weights as they are, each configuration learns what it has of its own.

A small configuration shares its weights with all larger ones, and its head reads features that they were trained for more than it
was. Three things may differ between configurations at little cost in bytes: the factor and the shift of each channel after a
convolution (where statistics differ they travel anyway), and the linear layer at the end. Here these, and nothing else, go on
learning for each configuration by itself, as in the switchable batch norms of Yu et al., Slimmable Neural Networks (2019), but
after the training instead of in it. The complete configuration, and all weights that are shared, stay bit for bit what they were.

A factor and a shift are kept as the statistics that have them: with scale γ and bias β common to all, mean and variance say both.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from accordion.data import Dataset, Split, batches_per_epoch, load, training_batches
from accordion.elastic import CifarResNet, ElasticNetwork
from accordion.errors import FormatError, StoppedError, StorageError, UsageError
from accordion.training.config import TrainingConfig, build_network
from accordion.training.evaluation import correct
from accordion.training.norms import Norms
from accordion.training.parallel import make_fabric
from accordion.training.run_directory import RunDirectory
from accordion.training.runs import load_weights
from accordion.training.signals import duration, on_signals
from accordion.units import whole_number

__all__ = ["Adaptation", "adapt"]

EPOCHS = 2
LEARNING_RATE = 0.05
MOMENTUM = 0.9
BATCH = 128
EPOCH = 2_000_000  # so that pictures are cropped and mirrored otherwise than in the training
PRECISIONS = ("32-true", "bf16-mixed")
HEAD = "head.linear"  # in every configuration, whichever of the network's heads stands there
HEAD_SHARE = 0.01  # of the complete network's parameters: what all heads of single configurations may take together
TIMED = 4  # steps from which the cost is told
PROGRESS_SECONDS = 10.0
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Adaptation:
    """Validation errors of the adapted `configurations` before and after; `kept` are those where the error fell, the others are as
    they were. `heads` have a head of their own now. `changed_values` are the numbers that some configuration has different from the
    complete one, each counted once: what a package has to carry on top."""

    configurations: tuple[int, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    kept: tuple[int, ...]
    heads: tuple[int, ...]
    changed_values: int


def adapt(
    run: Path | str,
    *,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    heads: int | None = None,
    smallest: int | None = None,
    precision: str | None = None,
    accelerator: str = "auto",
    progress: Progress = lambda line: None,
    dataset: Dataset | None = None,
    max_seconds: float | None = None,
) -> Adaptation:
    """Adapts every configuration of the finished training in `run` but the complete one, the smallest first.

    With `smallest`, so many of them only: they gain most, and a step of theirs costs least.

    Factors and shifts learn where a configuration has batch-norm statistics of its own (see `calibrate`); heads, from labels alone,
    in the `heads` smallest configurations (left out: in as many as take 1 % of the complete network's parameters together). What
    does not lower a configuration's validation error is dropped. Profiling and packaging see the result; profile again after it.
    `precision` is that of the arithmetic (`32-true` or `bf16-mixed`), the training's if left out; `accelerator` is Fabric's.

    A configuration is written as soon as it is done, and the same call goes on with the others after a stop, also the one after
    `max_seconds`; only what the configuration that was under way had learned is lost. After its end it goes
    on from what it has brought; `calibrate` takes all of it back.

    Raises:
        UsageError: the training has not finished; no configuration has anything of its own to adapt; numbers that make no sense;
            an accelerator that is not there.
        StoppedError: a signal asked for it, or the time is over.
    """
    deadline = None if max_seconds is None else time.monotonic() + max_seconds
    epochs = whole_number(epochs, "the epochs for each configuration", least=1)
    heads = None if heads is None else whole_number(heads, "the number of heads", least=0)
    smallest = None if smallest is None else whole_number(smallest, "the number of configurations to adapt", least=1)
    if not 0 < learning_rate <= 1:
        raise UsageError(f"a learning rate of {learning_rate:g} makes no sense: name one above 0, up to 1")
    if precision not in (None, *PRECISIONS):
        raise UsageError(f"the precision can be {' or '.join(PRECISIONS)}, not {precision!r:.60}")
    directory = RunDirectory(run)
    config = TrainingConfig.from_json(directory.read_settings().get("config", {}))
    if config.explores:
        raise UsageError(f"{run} was trained over a grid of configurations: choose an order and train on it first")
    dataset = dataset or load(config.dataset)
    network = load_weights(directory, build_network(config, dataset)).eval()
    training, validation = dataset.hold_out()
    if not len(training) or not len(validation):
        raise UsageError(f"{dataset.name} has too few pictures to learn from some and measure on others")
    if precision is not None:
        config = replace(config, precision=precision)
    fabric = make_fabric(accelerator, 1, config.precision)
    count = _heads(network) if heads is None else min(heads, len(network) - 1)
    most = len(network) - 1 if smallest is None else min(smallest, len(network) - 1)
    asked = {"epochs": epochs, "learning_rate": learning_rate, "heads": count, "smallest": most, "precision": config.precision}
    with directory.locked():
        state = _State.begin(directory, asked, len(network) - 1)
        whose = [k for k in range(most) if _own_norms(state.norms.values.get(k, {})) or k < count]
        if not whose:
            if most == 0:
                raise UsageError(f"{run} has one configuration, the complete one: there is nothing to adapt")
            if directory.out_of_package:
                raise UsageError(
                    f"{_these(smallest)} of {run} has batch norms of its own, and a run out of a package gets none: give heads"
                )
            raise UsageError(
                f"{_these(smallest)} of {run} has batch-norm statistics of its own: calibrate it, or give heads; where every norm "
                "sees the same in all configurations (right-to-left), only heads can adapt"
            )
        work = _Work(config, fabric, network, training, validation, dataset.mirror, epochs, learning_rate, progress, deadline)
        with on_signals(work.ask):
            for index, k in enumerate(whose):
                if k in state.done:
                    continue
                work.tell(index, whose)
                before, after, values = work.adapted(state.norms, k, head=k < count)
                state.take(k, before, after, values)
                progress(f"configuration {k}: validation error {before:.2%} before, {after:.2%} after")
        return state.end(whose)


def _these(smallest: int | None) -> str:
    return "no configuration" if smallest is None else f"none of the {smallest} smallest configurations"


def _heads(network: ElasticNetwork) -> int:
    """How many of the smallest configurations get a head of their own."""
    own = sum(p.numel() for p in network.module.get_submodule(HEAD).parameters())
    complete = sum(p.numel() for p in network.module.parameters())
    return min(len(network) - 1, int(HEAD_SHARE * complete // own))


def _own_norms(values: Mapping[str, Tensor]) -> list[str]:
    """Paths of the norms of which a configuration has statistics of its own."""
    return [name.removesuffix(".running_mean") for name in values if name.endswith(".running_mean")]


class _State:
    """What has been adapted so far: in the run's statistics, and in a file beside them that the last step takes away."""

    def __init__(self, directory: RunDirectory, norms: Norms, done: dict[int, dict[str, Any]], asked: dict[str, Any]) -> None:
        self._directory, self.norms, self.done, self._asked = directory, norms, done, asked

    @classmethod
    def begin(cls, directory: RunDirectory, asked: dict[str, Any], most: int) -> _State:
        """What was begun with the same settings, or a beginning. Where they do not say how many were to adapt, all `most` were."""
        norms = directory.read_norms() or Norms({}, {})
        found = _read(directory.adapting_path)
        done = found["done"] if found is not None and {"smallest": most, **found["asked"]} == asked else {}
        return cls(directory, norms, {int(k): row for k, row in done.items()}, asked)

    def take(self, k: int, before: float, after: float, values: dict[str, Tensor] | None) -> None:
        """Writes what configuration `k` has now; None: as it was."""
        if values is not None:
            self.norms = Norms(self.norms.shared, {**self.norms.values, k: {**self.norms.values.get(k, {}), **values}})
            self._directory.write_norms(self.norms)
        self.done[k] = {"before": before, "after": after, "kept": values is not None}
        self._directory.write_adapting(json.dumps({"asked": self._asked, "done": self.done}).encode())

    def end(self, whose: list[int]) -> Adaptation:
        self._directory.write_adapting(None)
        rows = [self.done[k] for k in whose]
        return Adaptation(
            tuple(whose),
            tuple(row["before"] for row in rows),
            tuple(row["after"] for row in rows),
            tuple(k for k, row in zip(whose, rows, strict=True) if row["kept"]),
            tuple(k for k in sorted(self.norms.values) if any(".linear." in name for name in self.norms.values[k])),
            self.norms.changed_values,
        )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        rows = found["done"]
        if isinstance(found["asked"], dict) and all(
            k.isdecimal() and isinstance(row["before"] - row["after"], float) and "kept" in row for k, row in rows.items()
        ):
            return found
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror or error}") from error
    raise FormatError(f"{path} is damaged: remove it, and calibrate the run again")


class _Norm(nn.Module):
    """A batch norm whose factor and shift by channel learn: `stretch` [c] is the logarithm of how much larger the factor is than it
    was, `move` [c] how many deviations the mean has moved."""

    scale: Tensor
    bias: Tensor
    mean: Tensor
    deviation: Tensor
    most: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None and norm.running_var is not None
        deviation = (norm.running_var + norm.eps).sqrt()
        # A variance below zero could not be said; what the norm's epsilon alone holds back can't grow.
        most = (deviation.square() / norm.eps).log() / 2
        fixed = {
            "scale": norm.weight.detach(),
            "bias": norm.bias.detach(),
            "mean": norm.running_mean,
            "deviation": deviation,
            "most": most,
        }
        for name, values in fixed.items():
            self.register_buffer(name, values)  # so that they go to the device with what learns
        self.epsilon = norm.eps
        self.stretch = nn.Parameter(torch.zeros_like(self.mean))
        self.move = nn.Parameter(torch.zeros_like(self.mean))

    def _bounded(self) -> Tensor:
        return torch.minimum(self.stretch, self.most)

    def forward(self, x_bchw: Tensor) -> Tensor:
        factor = self.scale / self.deviation * self._bounded().exp()
        shift = self.bias - (self.mean + self.move * self.deviation) * factor
        return x_bchw * factor.view(1, -1, 1, 1).to(x_bchw.dtype) + shift.view(1, -1, 1, 1).to(x_bchw.dtype)

    @torch.no_grad()
    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and variance with which the norm that this was made of does the same."""
        variance = (self.deviation.square() * (-2 * self._bounded()).exp() - self.epsilon).clamp_min(0)
        return (self.mean + self.move * self.deviation).clone(), variance


@dataclass
class _Work:
    config: TrainingConfig
    fabric: Fabric
    network: ElasticNetwork
    training: Split
    validation: Split
    mirror: bool
    epochs: int
    learning_rate: float
    progress: Progress
    deadline: float | None = None
    asked: str | None = None
    seconds_per_block: float | None = None

    def ask(self, signal: str) -> None:
        self.asked = signal

    def tell(self, index: int, whose: list[int]) -> None:
        """What is still to do, as far as that is known."""
        blocks = [sum(self.network.order.by_stage(k)) for k in whose[index:]]
        cost = "" if self.seconds_per_block is None else f"; about {duration(self.seconds_per_block * sum(blocks))} for those left"
        self.progress(f"configuration {whose[index]} ({index + 1} of {len(whose)}), {blocks[0]} blocks{cost}")

    def adapted(self, norms: Norms, k: int, *, head: bool) -> tuple[float, float, dict[str, Tensor] | None]:
        """Validation error of configuration `k` before and after, and its new values; None where they are no better."""
        network = norms.applied(self.network)
        before = self._error(network, k)
        view = copy.deepcopy(network.at(k)).eval().requires_grad_(False)
        norms_of = {path: _Norm(_norm(view, path)) for path in _own_norms(norms.values.get(k, {}))}
        for path, made in norms_of.items():
            parent, _, name = path.rpartition(".")
            view.get_submodule(parent).register_module(name, made)
        linear = view.get_submodule(HEAD) if head else None
        if linear is not None:
            linear.requires_grad_(True)
        self._train(view.to(self.fabric.device), k)
        view.to("cpu")
        values: dict[str, Tensor] = {}
        for path, made in norms_of.items():
            values[f"{path}.running_mean"], values[f"{path}.running_var"] = made.statistics()
        if linear is not None:
            place = f"{self._head_of(k)}.linear"
            values |= {f"{place}.{name}": parameter.detach().clone() for name, parameter in linear.named_parameters()}
        now = Norms(norms.shared, {**norms.values, k: {**norms.values.get(k, {}), **values}})
        after = self._error(now.applied(self.network), k)
        return (before, after, values) if after < before else (before, before, None)

    def _head_of(self, k: int) -> str:
        """The module that is configuration `k`'s head: that of its last stage, where stages have their own."""
        assert isinstance(self.network.module, CifarResNet)
        return self.network.module.swaps(self.network.order).get(k, {}).get("head", "head")

    def _error(self, network: ElasticNetwork, k: int) -> float:
        return 1 - float(correct(network, self.validation, [k])[k].float().mean())

    def _train(self, view: nn.Module, k: int) -> None:
        learning = [p for p in view.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(learning, lr=self.learning_rate, momentum=MOMENTUM, nesterov=True)
        batch, device = min(BATCH, len(self.training)), self.fabric.device
        total = self.epochs * batches_per_epoch(len(self.training), batch)
        began = said = time.monotonic()
        for step, (x, y) in enumerate(self._pictures(batch)):
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * (1 + math.cos(math.pi * step / total)) / 2
            x, y = x.to(device).contiguous(memory_format=torch.channels_last), y.to(device)
            with self.fabric.autocast():
                logits = view(x)
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(logits.float(), y))
            optimizer.step()
            now = time.monotonic()
            left = (now - began) / (step + 1) * (total - step - 1)
            if step + 1 == TIMED:
                self.seconds_per_block = (now - began) / TIMED * total / max(1, sum(self.network.order.by_stage(k)))
            if step + 1 == TIMED or now - said >= PROGRESS_SECONDS:
                said = now
                self.progress(f"  step {step + 1}/{total}  {duration(left)} left for this configuration")
            if self.asked or (self.deadline is not None and now >= self.deadline):
                why = f"stopped by {self.asked}" if self.asked else "the time is over"
                raise StoppedError(f"{why}; the same command goes on with configuration {k}")

    def _pictures(self, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        recipe, flip = self.config.recipe, self.config.recipe.flip and self.mirror
        for epoch in range(EPOCH, EPOCH + self.epochs):
            yield from training_batches(self.training, batch=batch, seed=self.config.seed, epoch=epoch, crop=recipe.crop, flip=flip)


def _norm(view: nn.Module, path: str) -> nn.BatchNorm2d:
    norm = view.get_submodule(path)
    assert isinstance(norm, nn.BatchNorm2d)
    return norm
