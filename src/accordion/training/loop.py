"""The training loop.

Everything random in it follows from (seed, epoch, position), so a checkpoint holds weights, optimizer and position and nothing
else, and a run that was killed goes on to the same weights, bit for bit on the CPU, as one that was not.
"""

from __future__ import annotations

import platform
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric

from accordion.data import Dataset, Split, batches_per_epoch, load, resize, training_batches
from accordion.elastic import CifarResNet, ElasticNetwork
from accordion.errors import TrainingError, UsageError
from accordion.training.config import TrainingConfig, build_network
from accordion.training.evaluation import correct
from accordion.training.finishing import Finisher, Rounding
from accordion.training.objectives import configurations, loss
from accordion.training.policies import Policy
from accordion.training.recipes import learning_rate, picture_size
from accordion.training.run_directory import RunDirectory

__all__ = ["TrainingResult", "load_run", "train"]

CHECKPOINT_SECONDS = 60.0  # what a kill can cost at most; writing one takes well under a second
PROGRESS_SECONDS = 10.0
GLANCE = 1000  # validation pictures looked at after each epoch; the last epoch sees them all


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """`errors[k]`: share of the validation pictures that configuration k gets wrong. `seconds` counts all sittings."""

    run: Path
    errors: tuple[float, ...]
    seconds: float


def train(
    config: TrainingConfig,
    run: Path,
    *,
    accelerator: str = "auto",
    progress: Callable[[str], None] = lambda line: None,
    dataset: Dataset | None = None,
    max_seconds: float | None = None,
    rounding: Rounding | None = None,
) -> TrainingResult:
    """Trains into the run directory `run`, or goes on with what was begun there.

    UsageError if `run` holds a training with other settings; TrainingError when stopped by a signal or by `max_seconds` (the
    checkpoint is written first, the same call goes on). `accelerator` is Lightning Fabric's. `rounding` says how packaging rounds
    weights, for a finishing that quantizes (see `finish`).
    """
    directory, settings = RunDirectory(run), config.to_json()
    if directory.settings_path.exists():
        _same_settings(run, directory.read_settings().get("config"), settings)
    # All that can be wrong with the settings shows before anything is written.
    dataset = dataset or load(config.dataset)
    torch.manual_seed(config.seed)
    network = build_network(config, dataset)
    if config.initial is not None:
        cast(CifarResNet, network.module).adopt(RunDirectory(Path(config.initial)).read_weights())
    finisher = None
    if config.finishing is not None:
        example = torch.from_numpy(dataset.train.x[:2]).float() / 255
        finisher = Finisher(network, config.finishing, rounding, example)
    policy = config.policy_for(len(network))
    probabilities = list(policy.probabilities)
    fabric = Fabric(accelerator=accelerator, devices=1, precision=config.precision)
    with directory.locked():
        before = directory.read_settings() if directory.settings_path.exists() else {}
        if before:
            _same_settings(run, before.get("config"), settings)
        if before.get("policy_probabilities", probabilities) != probabilities:
            raise UsageError(
                f"{run} holds a training with other settings ({config.policy} had other probabilities): name another run directory"
            )
        directory.write_settings(
            {
                "schema_version": 1,
                "config": settings,
                "configurations": len(network),
                "policy_probabilities": probabilities,
                "torch": torch.__version__,
                "device": str(fabric.device),
                "machine": platform.processor() or platform.machine(),
            }
        )
        return _Training(config, directory, dataset, network, policy, fabric, progress, max_seconds, finisher).run()


def load_run(run: Path) -> tuple[TrainingConfig, ElasticNetwork, Dataset]:
    """A finished training: its settings, the trained network in eval mode, and its data."""
    directory = RunDirectory(run)
    config = TrainingConfig.from_json(directory.read_settings().get("config", {}))
    weights = directory.read_weights()
    dataset = load(config.dataset)
    network = build_network(config, dataset)
    try:
        network.module.load_state_dict(weights)
    except RuntimeError as error:
        raise UsageError(f"{directory.weights_path} does not fit the network of run.json: {error}") from error
    return config, network.eval(), dataset


def _same_settings(run: Path, before: object, now: dict[str, Any]) -> None:
    def flat(value: object, path: str = "") -> Iterator[tuple[str, object]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from flat(inner, f"{path}.{key}" if path else str(key))
        else:
            yield (
                path,
                [list(v) if isinstance(v, tuple) else v for v in value] if isinstance(value, list | tuple) else value,
            )

    old, new = dict(flat(before)), dict(flat(now))
    if changed := [f"{key} {old.get(key)!r} → {new.get(key)!r}" for key in {**old, **new} if old.get(key) != new.get(key)]:
        raise UsageError(f"{run} holds a training with other settings ({'; '.join(changed)}): name another run directory")


class _Training:
    def __init__(
        self,
        config: TrainingConfig,
        directory: RunDirectory,
        dataset: Dataset,
        network: ElasticNetwork,
        policy: Policy,
        fabric: Fabric,
        progress: Callable[[str], None],
        max_seconds: float | None,
        finisher: Finisher | None,
    ) -> None:
        self.finisher = finisher
        self.config, self.recipe, self.policy = config, config.recipe, policy
        self.directory, self.progress, self.fabric = directory, progress, fabric
        self.train_split, self.validation = dataset.hold_out()
        self.mirror, self.size = dataset.mirror, dataset.train.x.shape[-1]
        self.steps_per_epoch = batches_per_epoch(len(self.train_split), self.recipe.batch)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        decayed = [p for p in network.parameters() if p.ndim > 1 or self.recipe.decay_norms]
        others = [p for p in network.parameters() if not (p.ndim > 1 or self.recipe.decay_norms)]
        groups = [{"params": decayed, "weight_decay": self.recipe.weight_decay}]
        if others:
            groups.append({"params": others, "weight_decay": 0.0})
        optimizer = torch.optim.SGD(
            groups, lr=self.recipe.learning_rate, momentum=self.recipe.momentum, nesterov=self.recipe.nesterov
        )
        self.model, self.optimizer = fabric.setup(self.network, optimizer)
        self.model.mark_forward_method("outputs")
        self.epoch = self.step = 0
        self.loss_sum = self.seconds = 0.0
        self.rows: list[dict[str, Any]] = []
        self.deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self.stop: str | None = None

    def run(self) -> TrainingResult:
        if state := self.directory.read_checkpoint():
            self._restore(state)
        if self.epoch < self.recipe.epochs:
            self._announce()
            with self._signals():
                while self.epoch < self.recipe.epochs:
                    self._one_epoch()
        errors = tuple(self.rows[-1]["validation_errors"])
        self.directory.write_metrics(self.rows)  # again: a kill may have come between the last checkpoint and its row
        self.directory.write_weights({name: tensor.cpu() for name, tensor in self.network.module.state_dict().items()})
        return TrainingResult(self.directory.path, errors, self.seconds)

    def _one_epoch(self) -> None:
        began = saved = told = time.monotonic()
        before = self.seconds
        self.model.train()
        batches = training_batches(
            self.train_split,
            batch=self.recipe.batch,
            seed=self.config.seed,
            epoch=self.epoch,
            start=self.step,
            crop=self.recipe.crop,
            flip=self.recipe.flip and self.mirror,
        )
        first = self.step
        for x, y in batches:
            self.loss_sum += self._one_step(x, y)
            self.step += 1
            now = time.monotonic()
            self.seconds = before + now - began
            if self.deadline is not None and now >= self.deadline:
                self.stop = "its time is over"
            if self.stop or now - saved >= CHECKPOINT_SECONDS:
                self._save()
                saved = now
            if self.stop:
                raise TrainingError(
                    f"stopped ({self.stop}) in epoch {self.epoch + 1} of {self.recipe.epochs}; the same command goes on from there"
                )
            if now - told >= PROGRESS_SECONDS:
                told = now
                left = (now - began) / (self.step - first) * (self.steps_per_epoch - self.step)
                self.progress(
                    f"epoch {self.epoch + 1}/{self.recipe.epochs}  step {self.step}/{self.steps_per_epoch}  "
                    f"loss {self.loss_sum / self.step:.3f}  {_duration(left)} left in this epoch"
                )
        last = self.epoch + 1 == self.recipe.epochs
        if last and self.finisher is not None:
            self.finisher.settle(self._global_step())
        seen = self.validation if last else self._glance()
        hits = correct(self.network, seen, range(len(self.network)), device=self.fabric.device)
        errors = [round(1 - float(h.float().mean()), 6) for h in hits.values()]
        self.seconds = before + time.monotonic() - began
        self.rows.append(
            {
                "epoch": self.epoch + 1,
                "loss": round(self.loss_sum / self.steps_per_epoch, 6),
                "learning_rate": learning_rate(self.recipe, self._global_step() - 1, self.steps_per_epoch),
                "picture_size": picture_size(self.recipe, self.epoch, self.size),
                "seconds": round(self.seconds, 1),
                "validation_pictures": len(seen),
                "validation_errors": errors,
            }
        )
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
        self._save()
        self.directory.write_metrics(self.rows)
        self.progress(
            f"epoch {self.epoch}/{self.recipe.epochs}  loss {self.rows[-1]['loss']:.3f}  validation error: complete "
            f"{errors[-1]:.2%}, half of the configurations {errors[len(errors) // 2]:.2%}, smallest {errors[0]:.2%}"
        )

    def _one_step(self, x: torch.Tensor, y: torch.Tensor) -> float:
        rng = np.random.default_rng([self.config.seed, self.epoch, self.step, 1])
        weights = configurations(self.recipe, self.policy, rng)
        x = resize(x, picture_size(self.recipe, self.epoch, self.size))
        x = x.to(self.fabric.device).contiguous(memory_format=torch.channels_last)
        y = y.to(self.fabric.device)
        rate = learning_rate(self.recipe, self._global_step(), self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.finisher is not None:
            draws = np.random.default_rng([self.config.seed, self.epoch, self.step, 2])
            self.finisher.begin_step(self._global_step(), self.recipe.epochs * self.steps_per_epoch, draws)
        outputs = self.model.outputs(x, weights)
        value = loss(self.network, outputs, y, weights, self.recipe)
        if self.finisher is not None:
            value = self.finisher.loss(x, outputs, weights, value)
        # None, not zero: the optimizer passes over what has no gradient, so momentum and decay leave skipped blocks alone.
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(value)
        self.optimizer.step()
        if self.finisher is not None:
            self.finisher.end_step()
        number = float(value.detach())
        if not np.isfinite(number):
            raise TrainingError(
                f"the loss became {number} in epoch {self.epoch + 1}, step {self.step + 1}: lower the learning rate"
            )
        return number

    def _global_step(self) -> int:
        return self.epoch * self.steps_per_epoch + self.step

    def _glance(self) -> Split:
        # Evenly spaced, since the rows stand in the published order; which is not mixed by any rule of ours.
        count = min(GLANCE, len(self.validation))
        return self.validation.take(np.linspace(0, len(self.validation) - 1, count).astype(np.int64))

    def _announce(self) -> None:
        """Says what the rest will cost, from a few timed steps on a copy that is thrown away."""
        costs: dict[int, float] = {}
        state = _copied({"module": self.network.module.state_dict()})
        optimizer_state = _copied(self.optimizer.state_dict())
        ahead = [picture_size(self.recipe, epoch, self.size) for epoch in range(self.epoch, self.recipe.epochs)]
        position = self.epoch, self.step
        finishing = self.finisher.state() if self.finisher is not None else {}
        self.model.train()
        for size in sorted(set(ahead)):
            self.epoch = next(e for e in range(self.recipe.epochs) if picture_size(self.recipe, e, self.size) == size)
            times = []
            trial = training_batches(self.train_split, batch=self.recipe.batch, seed=1, epoch=0)
            for self.step in range(3):
                if (pair := next(trial, None)) is None:
                    break
                began = time.perf_counter()
                self._one_step(*pair)
                times.append(time.perf_counter() - began)
            costs[size] = min(times)
        self.epoch, self.step = position
        self.network.module.load_state_dict(state["module"])
        if self.finisher is not None:
            self.finisher.restore(finishing)
        self.optimizer.load_state_dict(optimizer_state)
        if not optimizer_state["state"]:
            self.optimizer.optimizer.state.clear()
        share = 1 - self.step / self.steps_per_epoch
        seconds = sum(costs[size] * self.steps_per_epoch * (share if index == 0 else 1) for index, size in enumerate(ahead))
        what = self.recipe.name if self.finisher is None else f"{self.recipe.name}, {self.finisher.settings}"
        self.progress(
            f"{self.config.network} on {self.config.dataset}, {len(self.network)} configurations, {self.config.order}, policy "
            f"{self.policy.name}, recipe {what}: epochs {self.epoch + 1} to {self.recipe.epochs} will take about "
            f"{_duration(seconds)} on {self.fabric.device}"
        )

    def _save(self) -> None:
        self.directory.write_checkpoint(
            {
                "module": self.network.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "epoch": self.epoch,
                "step": self.step,
                "loss_sum": self.loss_sum,
                "seconds": self.seconds,
                "rows": self.rows,
                "finishing": self.finisher.state() if self.finisher is not None else {},
            }
        )

    def _restore(self, state: dict[str, Any]) -> None:
        self.network.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step, self.rows = state["epoch"], state["step"], state["rows"]
        self.loss_sum, self.seconds = state["loss_sum"], state["seconds"]
        if self.finisher is not None:
            self.finisher.restore(state["finishing"])

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def ask(number: int, _: FrameType | None) -> None:
            self.stop = signal.Signals(number).name

        try:
            before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: signals are the caller's business
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _copied(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_copied(value) for value in state]
    return state


def _duration(seconds: float) -> str:
    minutes, hours = round(seconds / 60), seconds / 3600
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if hours < 2 else f"{int(hours)} h {minutes - 60 * int(hours)} min"
