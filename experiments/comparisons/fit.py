"""A small training loop for methods whose loss is not one that `accordion.training.train` knows.

The steps are those of the recipe, the batches those of the project's loop. Everything random follows from (seed, epoch, step), so a
checkpoint holds weights, optimizer and position, and a training that was stopped goes on to the same weights.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from accordion.data import batches_per_epoch, resize, training_batches
from accordion.errors import FormatError, StoppedError, StorageError, TrainingError, UsageError
from accordion.training import Recipe
from accordion.training.parallel import make_fabric
from accordion.training.recipes import learning_rate, picture_size
from accordion.training.signals import duration, on_signals
from experiments.comparisons.context import Context, OutOfTimeError
from experiments.comparisons.outcome import Training

__all__ = ["CHECKPOINT", "Moment", "Task", "at_full_size", "begun_in", "check_recipe", "fit", "further"]

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 60.0
COUNT_EVERY = 25  # steps: computation is counted in one of so many, which for a network that is not drawn is the same in each
FURTHER_SHARE = 1 / 3
FURTHER_RATE = 0.25
FULL = 32  # pixels, of which a recipe's sizes are shares


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a training is: `done` of it in 0..1, the optimizer's step number, and the step's own source of randomness.

    `whole` are the step's pictures as large as they are in the data set, whatever size the recipe trains on now: a network that has
    been trained already is asked about these, since small ones are not what it knows.
    """

    done: float
    step: int
    rng: np.random.Generator
    whole: Tensor


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained and how. `loss` gets pictures [b, c, h, w] in 0..1 and labels [b]; `after` is called after each step.

    `module` holds everything that changes. `adam` gives the highest rates of Adam for parts of it, by the beginnings of parameters'
    names, where a method is not trained by the recipe's own optimizer; they follow the recipe's schedule. `channels_last` is a
    layout of weights that is faster and that some libraries can't handle. `beside` are networks that take part and do not learn.
    """

    module: nn.Module
    loss: Callable[[Tensor, Tensor, Moment], Tensor]
    after: Callable[[Moment], None] = lambda moment: None
    adam: tuple[tuple[str, float], ...] = ()
    channels_last: bool = True
    beside: tuple[nn.Module, ...] = ()


def further(recipe: Recipe) -> Recipe:
    """The recipe for going on with a trained network: a third of the epochs, a quarter of the rate, pictures of full size."""
    epochs = max(1, round(recipe.epochs * FURTHER_SHARE))
    return recipe.with_changes(
        name=f"{recipe.name}, further",
        epochs=epochs,
        learning_rate=recipe.learning_rate * FURTHER_RATE,
        milestones=tuple(round(milestone * FURTHER_SHARE) for milestone in recipe.milestones),
        sizes=((1.0, 1.0),),
    )


def at_full_size(recipe: Recipe) -> Recipe:
    """The recipe on pictures of full size alone, in as many epochs as cost the same: for what begins with a network that has been
    trained, which small pictures would lead astray."""
    area = sum(picture_size(recipe, epoch, FULL) ** 2 for epoch in range(recipe.epochs)) / FULL**2
    epochs = max(1, round(area))
    return recipe.with_changes(
        name=f"{recipe.name}, full size",
        epochs=epochs,
        milestones=tuple(round(milestone * epochs / recipe.epochs) for milestone in recipe.milestones),
        sizes=((1.0, 1.0),),
    )


def begun_in(folder: Path, part: str = "fit") -> str | None:
    """The precision of the training that was begun in a comparison's folder; None if there is none. FormatError for what is no
    checkpoint."""
    path = folder / part / CHECKPOINT
    return str(_read(path)["precision"]) if path.exists() else None


def check_recipe(recipe: Recipe) -> None:
    """UsageError for a recipe that needs more than this loop does."""
    if recipe.average or recipe.norms != "running":
        raise UsageError(f"recipe {recipe.name!r} averages weights or measures norms again, which the comparisons do not do")


def fit(task: Task, recipe: Recipe, context: Context, *, part: str = "fit") -> Training:
    """Trains `task.module` in place, or goes on with what was begun in the context's folder under the name `part`.

    OutOfTimeError if the deadline passes; TrainingError if a signal comes or the loss is no number. Both leave a checkpoint.
    UsageError for a recipe that needs more than this loop does.
    """
    check_recipe(recipe)
    training = _Fitting(task, recipe, context, context.folder / part)
    with on_signals(training.ask):
        return training.run()


class _Fitting:
    def __init__(self, task: Task, recipe: Recipe, context: Context, folder: Path) -> None:
        self.task, self.recipe, self.context = task, recipe, context
        self.path = folder / CHECKPOINT
        self.split = context.splits[0]
        self.steps_per_epoch = batches_per_epoch(len(self.split), recipe.batch)
        self.fabric: Fabric = make_fabric(context.accelerator, 1, context.comparison.precision)
        task.module.to(self.fabric.device)
        if task.channels_last:
            task.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = _optimizer(task, recipe)
        self.epoch = self.step = 0
        self.loss_sum = self.seconds = self.macs = 0.0
        self.counted = [0.0, 0.0]  # multiply-accumulates and steps of this epoch in which they were counted
        self.losses: list[float] = []
        self.stop: str | None = None
        self.size = int(context.dataset.train.x.shape[-1])
        self.begins = _digest((task.module, *task.beside))

    def ask(self, reason: str) -> None:
        """Stop after this step."""
        self.stop = reason

    def run(self) -> Training:
        self._restore()
        while self.epoch < self.recipe.epochs:
            self._one_epoch()
        self.task.module.eval().to("cpu")
        precision = self.context.comparison.precision
        return Training(self.recipe.epochs, round(self.macs, 1), round(self.seconds, 1), tuple(self.losses), precision=precision)

    def _one_epoch(self) -> None:
        began = saved = time.monotonic()
        before = self.seconds
        context = self.context
        size = picture_size(self.recipe, self.epoch, self.size)
        self.task.module.train()
        batches = training_batches(
            self.split,
            batch=self.recipe.batch,
            seed=context.comparison.seed,
            epoch=self.epoch,
            start=self.step,
            crop=self.recipe.crop,
            flip=self.recipe.flip and context.dataset.mirror,
        )
        for x, y in batches:
            value = self._one_step(x, resize(x, size), y)
            now = time.monotonic()
            self.seconds = before + now - began
            if not np.isfinite(value):
                raise TrainingError(f"the loss became {value} in epoch {self.epoch + 1}, step {self.step + 1}")
            self.loss_sum += value
            self.step += 1
            over = context.deadline is not None and now >= context.deadline
            if self.stop or over or now - saved >= CHECKPOINT_SECONDS:
                self._save()
                saved = now
            if self.stop:
                raise StoppedError(f"stopped ({self.stop}) in epoch {self.epoch + 1}; the same command goes on from there")
            if over:
                raise OutOfTimeError(f"stopped in epoch {self.epoch + 1} of {self.recipe.epochs}")
        self.losses.append(round(self.loss_sum / self.steps_per_epoch, 4))
        self.macs += self.counted[0] / max(self.counted[1], 1.0) * self.steps_per_epoch
        self.counted = [0.0, 0.0]
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
        self._save()
        left = self.seconds / self.epoch * (self.recipe.epochs - self.epoch)
        context.progress(f"epoch {self.epoch}/{self.recipe.epochs}  loss {self.losses[-1]:.3f}  about {duration(left)} left")

    def _one_step(self, whole: Tensor, x: Tensor, y: Tensor) -> float:
        total = self.recipe.epochs * self.steps_per_epoch
        number = self.epoch * self.steps_per_epoch + self.step
        rng = np.random.default_rng([self.context.comparison.seed, self.epoch, self.step, 3])
        x, whole = (pictures.to(self.fabric.device).contiguous(memory_format=torch.channels_last) for pictures in (x, whole))
        moment = Moment(number / total, number, rng, whole)
        y = y.to(self.fabric.device)
        rate = learning_rate(self.recipe, number, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = group["most"] * rate / self.recipe.learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        if self.step % COUNT_EVERY == 0:
            with FlopCounterMode(display=False) as counter:
                value = self._backward(x, y, moment)
            self.counted[0] += counter.get_total_flops() / 2
            self.counted[1] += 1
        else:
            value = self._backward(x, y, moment)
        self.optimizer.step()
        self.task.after(moment)
        return value

    def _backward(self, x: Tensor, y: Tensor, moment: Moment) -> float:
        with self.fabric.autocast():
            value = self.task.loss(x, y, moment)
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    def _save(self) -> None:
        state = {
            "module": self.task.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "position": [self.epoch, self.step],
            "sums": [self.loss_sum, self.seconds, self.macs, *self.counted],
            "losses": self.losses,
            **self._begun(),
        }
        partial = self.path.with_suffix(".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as stream:
                torch.save(state, stream)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(self.path)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise StorageError(f"can't write {self.path}: {error}") from error

    def _restore(self) -> None:
        if not self.path.exists():
            return
        state = _read(self.path)
        for what, asked in self._begun().items():
            if state[what] != asked:
                other = {"recipe": "by another recipe", "weights": "that began with other weights"}
                raise UsageError(f"{self.path.parent} holds a training {other.get(what, f'in {state[what]}')}: remove it")
        try:
            self.task.module.load_state_dict(state["module"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epoch, self.step = (int(value) for value in state["position"])
            self.loss_sum, self.seconds, self.macs, *self.counted = (float(value) for value in state["sums"])
            self.losses = [float(value) for value in state["losses"]]
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise FormatError(f"{self.path} can't be read: {error}") from error

    def _begun(self) -> dict[str, str]:
        """What must be the same to go on."""
        return {"recipe": repr(self.recipe), "weights": self.begins, "precision": self.context.comparison.precision}


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not all(isinstance(state[what], str) for what in ("recipe", "weights", "precision")):
            raise ValueError("it does not say how it began")
    except Exception as error:  # torch.load raises whatever damaged bytes provoke
        raise FormatError(f"{path} can't be read: {error}") from error
    return state


def _digest(modules: Sequence[nn.Module]) -> str:
    """Of all weights that a training begins with."""
    made = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            made.update(name.encode())
            made.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return made.hexdigest()


def _optimizer(task: Task, recipe: Recipe) -> torch.optim.Optimizer:
    named = [(name, parameter) for name, parameter in task.module.named_parameters() if parameter.requires_grad]
    if task.adam:
        rates = [
            {"params": [parameter for name, parameter in named if name.startswith(beginning)], "most": rate}
            for beginning, rate in task.adam
        ]
        return torch.optim.Adam([group for group in rates if group["params"]])
    decayed = [parameter for _, parameter in named if parameter.ndim > 1 or recipe.decay_norms]
    others = [parameter for _, parameter in named if not (parameter.ndim > 1 or recipe.decay_norms)]
    most = recipe.learning_rate
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": recipe.weight_decay, "most": most}]
    if others:
        groups.append({"params": others, "weight_decay": 0.0, "most": most})
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov)
