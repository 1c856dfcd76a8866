"""Ours, trained on: for its encoding by `accordion finish`, or as it is, like the plain network's control; as a compact package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from accordion.packaging import rounding
from accordion.profiling import count_macs
from accordion.training import Finishing, RunDirectory, TrainingConfig, finish, train
from experiments.comparisons.bases import Base, in_time, listed_run, scheme_of, trained, training_of
from experiments.comparisons.context import Context, Made, Method
from experiments.comparisons.fit import further
from experiments.comparisons.methods.common import example, share_of
from experiments.comparisons.methods.elastic import NEEDS, ORDERS, SOURCE, packaged

__all__ = ["FURTHER", "METHOD", "PRECISIONS"]

PRECISIONS = ("int4", "int4+4")
"""What a compact package sends first, and what it goes on to."""
FURTHER = "further"
"""What stands in a variant's name where other ones have the share that is pruned."""


def execute(context: Context) -> Made:
    variant, scheme = context.comparison.variant, scheme_of(context.comparison)
    assert scheme is not None
    how = variant.rpartition("-")[2]
    base = trained(context, listed_run(context.comparison, scheme))
    begun = base.training.weights[:8]  # what began with weights of another training is not gone on with
    run = context.folder / f"run-{begun}"
    source = (base.folder / "run").resolve()  # it stands in the run's settings
    with in_time(context):
        if how == FURTHER:
            _further(context, base, source, run)
        else:
            _finish(context, source, run, share_of(how))
    directory = RunDirectory(run)
    config = TrainingConfig.from_json(directory.read_settings()["config"])
    done = "trained further"
    if config.finishing is not None:
        done = "finished" + (f" with {config.finishing.prune:.0%} pruned" if config.finishing.prune else "")
    rows = packaged(
        context, run, context.folder / f"compact-{begun}", base.run.name, "compact", f"Accordion, {ORDERS[scheme]}, {done}, compact"
    )
    own = training_of(context, directory, config)
    if config.finishing is not None:  # the network as it was looks at every picture, too
        teacher = count_macs(base.module, example(context)[:1]) * config.recipe.epochs * len(context.splits[0])
        own = replace(own, macs=round(own.macs + teacher, 1))
    return Made(base.under(own), tuple(rows), {"trained on": str(config.finishing or done)}, config.recipe, base.config)


def _further(context: Context, base: Base, source: Path, run: Path) -> None:
    train(
        replace(base.config, recipe=further(base.config.recipe), initial=str(source)),
        run,
        accelerator=context.accelerator,
        progress=context.progress,
        dataset=context.dataset,
        max_seconds=context.seconds_left(),
    )


def _finish(context: Context, source: Path, run: Path, share: float) -> None:
    finish(
        source,
        run,
        Finishing(PRECISIONS, share),
        rounding=rounding,
        epochs=further(context.comparison.steps).epochs,
        accelerator=context.accelerator,
        progress=context.progress,
        dataset=context.dataset,
        max_seconds=context.seconds_left(),
    )


METHOD = Method(
    "finished",
    "Accordion, trained on",
    SOURCE,
    "ours, with as many epochs more as pruning has, on pictures of full size. `further`: as it was trained before, at a quarter of "
    "the rate, like the plain network's control. A number: what `accordion finish` makes of it when left to itself, with this "
    "share of the weights pruned; all configurations go on together, with the weights as a compact package holds them, each with "
    "its own batch-norm statistics, and learn from the network as it was",
    NEEDS,
    "everything",
    execute,
)
