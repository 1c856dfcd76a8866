"""Networks that `accordion.training.train` trains: the plain one, smaller ones alone, and elastic ones.

They lie where the experiments' own list puts the same trainings, so that neither trains what the other has.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from accordion.elastic import CifarResNet, ElasticNetwork
from accordion.errors import TrainingError, UsageError
from accordion.training import RunDirectory, TrainingConfig, build_network, train
from accordion.training.runs import load_weights
from experiments import catalogue
from experiments.comparisons.catalogue import Comparison
from experiments.comparisons.context import Context, OutOfTimeError
from experiments.comparisons.outcome import OURS, Result, Training
from experiments.computation import TRAINING_PICTURES, norms_macs, training_macs
from experiments.execute import alone, begun_in, metrics_of, set_aside
from experiments.recipes import BRIEF
from experiments.run import Run

__all__ = [
    "PASSES",
    "Base",
    "begins_with",
    "in_time",
    "listed_run",
    "plain",
    "plain_run",
    "scheme_of",
    "shape_of",
    "trained",
    "training_of",
]

PASSES = 3
"""A backward pass computes about twice what the forward pass does (gradients of inputs and of weights)."""


@dataclass(frozen=True, slots=True)
class Base:
    """A finished training of the project's own loop."""

    run: Run
    folder: Path
    config: TrainingConfig
    network: ElasticNetwork
    training: Training

    @property
    def module(self) -> CifarResNet:
        """The complete network, a copy with parameters of its own, in eval mode."""
        module: nn.Module = self.network.extract(len(self.network) - 1)
        assert isinstance(module, CifarResNet)
        return module.eval()

    def under(self, own: Training) -> Training:
        """`own` with this as what it began with."""
        whole = self.training
        return replace(
            own,
            base=self.run.name,
            base_macs=whole.total_macs,
            base_seconds=whole.total_seconds,
            base_precision=whole.precision,
            base_weights=whole.weights,
        )


def shape_of(text: str, width: int) -> tuple[str, int]:
    """`resnet20/2` → the network `resnet20` with half of `width`."""
    network, _, divisor = text.partition("/")
    try:
        return network, width // int(divisor or 1)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{text!r} is no network: a name such as resnet20, or resnet20/2 for half of its channels") from None


def plain_run(comparison: Comparison, shape: str | None = None) -> Run:
    """The training of a network in which nothing is elastic: the comparison's own, or one of another shape.

    By the recipe of delivered accuracy the experiments' list has the comparison's own as that scheme `ResNet`, and some other
    shapes, too.
    """
    network, width = shape_of(shape or comparison.network, comparison.width)
    if comparison.recipe == BRIEF.name and width == comparison.width:
        listed = listed_run(replace(comparison, network=network), "ResNet")
        if shape is None or listed.name in catalogue.by_name():
            return listed
    scheme = "alone" if width == comparison.width else f"alone width {width}"
    return Run(
        "reference",
        scheme,
        comparison.dataset,
        network,
        "blockwise",
        "full",
        comparison.recipe,
        comparison.seed,
        {"objective": "sampled", **comparison.changes},
        {} if width == 16 else {"width": width},
        precision=comparison.precision,
    )


def listed_run(comparison: Comparison, scheme: str) -> Run:
    """A training of the experiments' list (see `experiments.catalogue.delivered`), with the comparison's changes."""
    run = catalogue.delivered(scheme, comparison.network, comparison.dataset, comparison.recipe, comparison.seed)
    width = {} if comparison.width == 16 else {"width": comparison.width}
    return replace(
        run,
        changes={**run.changes, **comparison.changes},
        settings={**run.settings, **width},
        precision=comparison.precision,
    )


def begins_with(comparison: Comparison) -> Run | None:
    """The training of the project's loop whose network the method's own training goes on with; None for those that have none."""
    if comparison.method in ("alone", "exits", "elastic"):
        return None
    scheme = scheme_of(comparison)
    return plain_run(comparison) if scheme is None else listed_run(comparison, scheme)


def scheme_of(comparison: Comparison | Result) -> str | None:
    """The scheme of the experiments' list that an elastic network of a comparison is trained by (`balanced-75`: `balanced`, which
    is then trained on); None where there is none."""
    if comparison.method not in OURS:
        return None
    return comparison.variant if comparison.method == "elastic" else comparison.variant.rpartition("-")[0]


def plain(context: Context, shape: str | None = None) -> Base:
    """Trained, here or before. OutOfTimeError if the deadline comes first."""
    return trained(context, plain_run(context.comparison, shape))


@contextmanager
def in_time(context: Context) -> Iterator[None]:
    """Around a training of the project's loop: OutOfTimeError where it stops because the deadline has come."""
    try:
        yield
    except TrainingError as error:
        if context.deadline is not None and time.monotonic() >= context.deadline:
            raise OutOfTimeError(str(error)) from error
        raise


def trained(context: Context, run: Run) -> Base:
    """Takes `run` to its end, or finds it done; where another process is at it, it waits for that if the context says so.

    OutOfTimeError if the deadline comes first; BusyError if another process is at it, still then or at all.
    """
    folder = context.runs / run.name
    with alone(folder, waits=context.patience()):
        config = run.at(begun_in(folder)).config()
        set_aside(folder, config)
        with in_time(context):
            train(
                config,
                folder / "run",
                accelerator=context.accelerator,
                progress=context.progress,
                dataset=context.dataset,
                max_seconds=context.seconds_left(),
            )
    directory = RunDirectory(folder / "run")
    network = load_weights(directory, build_network(config, context.dataset))
    if (norms := directory.read_norms()) is not None:
        network = norms.applied(network)
    return Base(run, folder, config, network.eval(), training_of(context, directory, config))


def training_of(context: Context, directory: RunDirectory, config: TrainingConfig) -> Training:
    """What a finished training of the project's loop took by itself."""
    rows = metrics_of(directory)
    pictures = len(context.splits[0]) / TRAINING_PICTURES[config.dataset]
    return Training(
        epochs=config.recipe.epochs,
        macs=round((PASSES * training_macs(config) + norms_macs(config)) * pictures, 1),
        seconds=round(float(rows[-1]["seconds"]), 1),
        loss=tuple(round(float(row["loss"]), 4) for row in rows),
        precision=config.precision,
        weights=directory.digest(),
    )
