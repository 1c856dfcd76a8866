"""The training loop.

Everything random in it follows from (seed, epoch, position), so a checkpoint holds weights, optimizer and position and nothing
else, and a run that was killed goes on to the same weights, bit for bit on the CPU, as one that was not.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from accordion.data import Dataset, Split, batches_per_epoch, load, name_of, training_batches
from accordion.elastic import ElasticNetwork
from accordion.errors import StoppedError, TrainingError, UsageError
from accordion.training.config import TrainingConfig, build_network
from accordion.training.evaluation import correct
from accordion.training.finishing import Finisher, Rounding
from accordion.training.guarantee import Chooser, Guarantee
from accordion.training.initial import adopt
from accordion.training.norms import Norms, recalibrated
from accordion.training.norms_file import decode_norms, encode_norms
from accordion.training.parallel import launch, make_fabric
from accordion.training.policies import Policy
from accordion.training.recipes import learning_rate, picture_size
from accordion.training.report import report
from accordion.training.run_directory import NORMS, PACKAGED, RunDirectory
from accordion.training.runs import check_same_settings
from accordion.training.signals import duration, on_signals
from accordion.training.stepping import Stepper, copied

__all__ = ["TrainingResult", "train"]

CHECKPOINT_SECONDS = 60.0  # what a kill can cost at most; writing one takes well under a second
PROGRESS_SECONDS = 10.0
TIMED = 4  # steps, of each size of pictures, from which the cost is told
GLANCE = 1000  # validation pictures looked at after each epoch; the last epoch sees them all


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """`errors[i]`: share of the validation pictures that configuration `configurations[i]` gets wrong: all of an order, a few of
    the `trained` ones of a grid. `seconds` counts all sittings.

    `report`: what became of the guarantee that was asked for (see `accordion.training.report`).
    """

    run: Path
    errors: tuple[float, ...]
    seconds: float
    configurations: tuple[int, ...]
    trained: int
    report: dict[str, Any] | None = None


def _silent(line: str) -> None:
    """The default of `progress`: a function of this module, so that other processes can be given it."""


def train(
    config: TrainingConfig,
    run: Path | str,
    *,
    accelerator: str = "auto",
    progress: Callable[[str], None] = _silent,
    dataset: Dataset | None = None,
    max_seconds: float | None = None,
    rounding: Rounding | None = None,
) -> TrainingResult:
    """Trains into the run directory `run`, or goes on with what was begun there.

    UsageError if `run` holds a training with other settings; TrainingError when stopped by a signal or by `max_seconds` (the
    checkpoint is written first, the same call goes on). `accelerator` is Lightning Fabric's. With `config.devices` above 1,
    `progress` must be picklable, and a script that calls this must be importable (`if __name__ == "__main__"`). `rounding` says
    how packaging rounds weights, for a finishing that quantizes (see `finish`).
    """
    deadline = None if max_seconds is None else time.monotonic() + max_seconds
    run = Path(run)
    directory, settings = RunDirectory(run), config.to_json()
    if directory.begun:
        check_same_settings(run, directory.read_settings().get("config"), settings)
    # All that can be wrong with the settings shows before anything is written.
    dataset = dataset or load(config.dataset)
    if dataset.name != name_of(config.dataset):
        raise UsageError(f"the settings are for the data set {config.dataset!r}, these data are {dataset.name!r}")
    if not len(dataset.hold_out()[1]):
        raise UsageError(f"{dataset.name} has too few pictures: a tenth of each class is held out, which is none")
    torch.manual_seed(config.seed)
    network = build_network(config, dataset)
    policy = config.policy_for(len(network))
    probabilities = list(policy.probabilities)
    guarantee = config.guarantee_for(len(network))
    promised = None if guarantee is None else guarantee.to_json()
    if guarantee is not None and guarantee.certify == "validation" and not len(dataset.hold_out()[1].halves()[1]):
        raise UsageError(
            f"{dataset.name} has too few pictures for a guarantee: of each class a tenth is held out, half of that to adapt to and "
            "half to certify with, which is none; certify on the test split, or give 20 pictures of some class or more"
        )
    fabric = make_fabric(accelerator, config.devices, config.precision)
    # A finishing learns from the weights that it begins with, so it needs them again when it goes on.
    if config.initial is not None and (config.finishing is not None or not directory.checkpoint_path.exists()):
        learn = config.finishing is None
        adopt(network, config.initial, dataset, seed=config.seed, norms_learn=learn, progress=progress)
    finisher, norms = None, None
    if config.finishing is not None:
        if config.initial is not None and (norms := RunDirectory(Path(config.initial)).read_norms()) is not None:
            network = network.with_values(norms.values)
        example = torch.from_numpy(dataset.train.x[:2]).float() / 255
        finisher = Finisher(network, config.finishing, rounding, example)
    packaged = config.finishing is not None and config.initial is not None and RunDirectory(config.initial).out_of_package
    with directory.locked():
        before = directory.read_settings() if directory.begun else {}
        if before:
            check_same_settings(run, before.get("config"), settings)
        if before.get("policy_probabilities", probabilities) != probabilities:
            raise UsageError(
                f"{run} holds a training with other settings ({config.policy} had other probabilities): name another run directory"
            )
        if before and before.get("guarantee") != promised:
            raise UsageError(
                f"{run} holds a training with another guarantee ({config.policy} was another): name another run directory"
            )
        directory.write_settings(
            {
                "schema_version": 1,
                "config": settings,
                "configurations": len(network),
                "policy_probabilities": probabilities,
                **({} if promised is None else {"guarantee": promised}),
                **({NORMS: PACKAGED} if packaged else {}),
                "torch": torch.__version__,
                "device": str(fabric.device),
                "machine": platform.processor() or platform.machine(),
            }
        )
        task = _Task(config, directory, dataset, network, policy, guarantee, progress, deadline, finisher, norms)
        return launch(fabric, config.devices, _train_here, task)


@dataclass(frozen=True, slots=True)
class _Task:
    """What each process of a training is given. `deadline` is of `time.monotonic`; `norms` are statistics that it leaves as they
    are."""

    config: TrainingConfig
    directory: RunDirectory
    dataset: Dataset
    network: ElasticNetwork
    policy: Policy
    guarantee: Guarantee | None
    progress: Callable[[str], None]
    deadline: float | None
    finisher: Finisher | None
    norms: Norms | None


def _train_here(fabric: Fabric, task: _Task) -> TrainingResult:
    return _Training(fabric, task).run()


class _Training:
    """Epochs and steps, as far as they have come; what is said and written about them."""

    def __init__(self, fabric: Fabric, task: _Task) -> None:
        self.fabric, self.directory, self.deadline = fabric, task.directory, task.deadline
        self.config, self.recipe, dataset = task.config, task.config.recipe, task.dataset
        self.train_split, self.validation = dataset.hold_out()
        self.mirror, self.side = dataset.mirror, dataset.train.x.shape[-1]
        self.steps_per_epoch = batches_per_epoch(len(self.train_split), self.recipe.batch)
        self.chooser: Chooser | None = None
        if task.guarantee is not None:
            self.chooser = Chooser(task.guarantee, self.recipe.epochs * self.steps_per_epoch)
            self.validation, unseen = self.validation.halves()
            self.dataset_name, self.unseen = dataset.name, dataset.test if task.guarantee.certify == "test" else unseen
        self.finisher = task.finisher
        self.stepper = Stepper(
            fabric,
            task.config,
            task.network,
            task.policy,
            steps_per_epoch=self.steps_per_epoch,
            side=self.side,
            chooser=self.chooser,
            finisher=task.finisher,
        )
        self.team, self.network = self.stepper.team, self.stepper.network
        self.progress = task.progress if self.team.first else _silent
        self.watched = self.network.order.watched()
        self.norms = task.norms
        self.epoch = self.step = 0
        self.loss_sum = self.seconds = 0.0
        self.rows: list[dict[str, Any]] = []
        self.stop: str | None = None

    def run(self) -> TrainingResult:
        if state := self.directory.read_checkpoint():
            self._restore(state)
        if self.epoch < self.recipe.epochs:
            self._announce()
            with on_signals(self._ask_to_stop):
                while self.epoch < self.recipe.epochs:
                    self._one_epoch()
        errors = tuple(self.rows[-1]["validation_errors"])
        if self.team.first:
            self.directory.write_metrics(self.rows)  # again: a kill may have come between the last checkpoint and its row
        if self.team.first and not self.directory.weights_path.exists():  # else `calibrate` may have been there meanwhile
            self.directory.write_norms(self.norms)
            self.directory.write_weights({name: tensor.cpu() for name, tensor in self.stepper.kept().module.state_dict().items()})
        return TrainingResult(self.directory.path, errors, self.seconds, self.watched, len(self.network), self._report())

    def _report(self) -> dict[str, Any] | None:
        """Of a guarantee: measured on pictures that were used neither for training nor for choosing, and written."""
        if self.chooser is None or not self.team.first:
            return None
        network = self.stepper.kept()
        if self.norms is not None and self.finisher is None:  # a finishing's network has them already
            network = self.norms.applied(network)
        hits = correct(network, self.unseen, range(len(network)), device=self.fabric.device)
        right = np.stack([hit.numpy() for hit in hits.values()])
        guarantee = self.chooser.guarantee
        split = "test" if guarantee.certify == "test" else "validation (the half not adapted to)"
        found = report(guarantee, right, self.chooser.draws.tolist(), dataset=self.dataset_name, split=split)
        self.directory.write_report(found)
        return found

    def _ask_to_stop(self, reason: str) -> None:
        self.stop = reason

    def _one_epoch(self) -> None:
        began = saved = told = time.monotonic()
        before = self.seconds
        self.stepper.model.train()
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
            value = self.stepper.take(x, y, self.epoch, self.step)
            now = time.monotonic()
            self.seconds = before + now - began
            if self.deadline is not None and now >= self.deadline:
                self.stop = "its time is over"
            value, stop = self.team.agree(value, self.stop is not None)
            if not np.isfinite(value):
                raise TrainingError(
                    f"the loss became {value} in epoch {self.epoch + 1}, step {self.step + 1}: lower the learning rate"
                    + (", in another run directory" if self.directory.checkpoint_path.exists() else "")
                )
            if stop and self.stop is None:
                self.stop = "another process was asked to stop"
            self.loss_sum += value
            self.step += 1
            if self.stop or now - saved >= CHECKPOINT_SECONDS:
                self._save()
                saved = now
            if self.stop:
                raise StoppedError(
                    f"stopped ({self.stop}) in epoch {self.epoch + 1} of {self.recipe.epochs}; the same command goes on from there"
                )
            if now - told >= PROGRESS_SECONDS:
                told = now
                left = (now - began) / (self.step - first) * (self.steps_per_epoch - self.step)
                self.progress(
                    f"epoch {self.epoch + 1}/{self.recipe.epochs}  step {self.step}/{self.steps_per_epoch}  "
                    f"loss {self.loss_sum / self.step:.3f}  {duration(left)} left in this epoch"
                )
        self.team.check_equal(self.network.module)
        if self.team.first:
            self._look(before, began)
        self.rows = self.fabric.broadcast(self.rows)
        row = self.rows[-1]
        errors = row["validation_errors"]
        if self.chooser is not None:
            self.chooser.compare(dict(zip(self.watched, errors, strict=True)))
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
        if self.team.first:
            self._save()
            self.directory.write_metrics(self.rows)
            self.progress(
                f"epoch {self.epoch}/{self.recipe.epochs}  loss {row['loss']:.3f}  validation error: complete "
                f"{errors[-1]:.2%}, half of the configurations {errors[len(errors) // 2]:.2%}, smallest {errors[0]:.2%}"
            )

    def _look(self, before: float, began: float) -> None:
        """Adds the epoch's row; after the last epoch, of the network that comes out, on all validation pictures."""
        last = self.epoch + 1 == self.recipe.epochs
        if last and self.finisher is not None:
            self.finisher.settle(self._global_step())
        network, seen = self.stepper.kept(), self.validation if last else self._glance()
        if last and self.recipe.norms != "running":
            self.progress(f"batch-norm statistics on {min(self.recipe.norm_pictures, len(self.train_split))} training pictures")
            self.norms = recalibrated(
                network,
                self.recipe,
                self.train_split,
                self.stepper.policy.probabilities,
                seed=self.config.seed,
                mirror=self.mirror,
                device=self.fabric.device,
            )
            network = self.norms.applied(network)
        hits = correct(network, seen, self.watched, device=self.fabric.device)
        self.seconds = before + time.monotonic() - began
        row = {
            "epoch": self.epoch + 1,
            "loss": round(self.loss_sum / self.steps_per_epoch, 6),
            "learning_rate": learning_rate(self.recipe, self._global_step() - 1, self.steps_per_epoch),
            "picture_size": picture_size(self.recipe, self.epoch, self.side),
            "seconds": round(self.seconds, 1),
            "validation_pictures": len(seen),
            "validation_errors": [round(1 - float(h.float().mean()), 6) for h in hits.values()],
        }
        if len(self.watched) < len(self.network):
            row["configurations"] = [list(self.network.order.by_stage(k)) for k in self.watched]
        self.rows.append(row)

    def _global_step(self) -> int:
        return self.epoch * self.steps_per_epoch + self.step

    def _glance(self) -> Split:
        # Evenly spaced, since the rows stand in the published order; which is not mixed by any rule of ours.
        count = min(GLANCE, len(self.validation))
        return self.validation.take(np.linspace(0, len(self.validation) - 1, count).astype(np.int64))

    def _announce(self) -> None:
        """Says what the rest will cost, from a few timed steps on a copy that is thrown away."""
        costs: dict[int, float] = {}
        before = copied(self.stepper.state())
        ahead = [picture_size(self.recipe, epoch, self.side) for epoch in range(self.epoch, self.recipe.epochs)]
        self.stepper.model.train()
        for size in sorted(set(ahead)):
            epoch = next(e for e in range(self.recipe.epochs) if picture_size(self.recipe, e, self.side) == size)
            times = []
            for step, (x, y) in enumerate(training_batches(self.train_split, batch=self.recipe.batch, seed=1, epoch=0)):
                began = time.perf_counter()
                self.stepper.take(x, y, epoch, step)
                times.append(time.perf_counter() - began)
                if len(times) > TIMED:
                    break
            # Not the least: steps over few blocks are short. The first one also makes room for what all of them need.
            costs[size] = statistics.fmean(times[1:] or times)
        self.stepper.restore(before)
        share = 1 - self.step / self.steps_per_epoch
        seconds = sum(costs[size] * self.steps_per_epoch * (share if index == 0 else 1) for index, size in enumerate(ahead))
        what = self.recipe.name if self.finisher is None else f"{self.recipe.name}, {self.finisher.settings}"
        self.progress(
            f"{self.config.network} on {name_of(self.config.dataset)}, {len(self.network)} configurations, "
            f"{self.config.order_name}, policy {self.stepper.policy.name}, recipe {what}: "
            f"epochs {self.epoch + 1} to {self.recipe.epochs} will take about "
            f"{duration(seconds)} on {self.fabric.device}"
        )

    def _save(self) -> None:
        if not self.team.first:
            return
        norms = None if self.norms is None else torch.frombuffer(bytearray(encode_norms(self.norms)), dtype=torch.uint8)
        self.directory.write_checkpoint(
            {
                **self.stepper.state(),
                "norms": norms,
                "epoch": self.epoch,
                "step": self.step,
                "loss_sum": self.loss_sum,
                "seconds": self.seconds,
                "rows": self.rows,
            }
        )

    def _restore(self, state: dict[str, Any]) -> None:
        norms = None if state.get("norms") is None else state["norms"].numpy().tobytes()
        if self.finisher is not None and norms != (None if self.norms is None else encode_norms(self.norms)):
            raise UsageError(
                f"{self.directory.path} was begun with other batch-norm statistics than {self.config.initial} has now: "
                "name another run directory"
            )
        self.stepper.restore(state)
        if norms is not None:
            self.norms = decode_norms(norms)
        self.epoch, self.step, self.rows = state["epoch"], state["step"], state["rows"]
        self.loss_sum, self.seconds = state["loss_sum"], state["seconds"]
