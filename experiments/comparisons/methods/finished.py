"""Ours, trained on for its encoding: what `accordion finish` makes of an elastic network, as a compact package."""

from __future__ import annotations

from accordion.packaging import rounding
from accordion.profiling import count_macs
from accordion.training import Finishing, RunDirectory, TrainingConfig, finish
from experiments.comparisons.bases import PASSES, in_time, listed_run, scheme_of, trained
from experiments.comparisons.context import Context, Made, Method
from experiments.comparisons.fit import further
from experiments.comparisons.methods.common import example, share_of
from experiments.comparisons.methods.elastic import NEEDS, ORDERS, SOURCE, packaged
from experiments.comparisons.outcome import Training
from experiments.computation import TRAINING_PICTURES, training_macs
from experiments.execute import metrics_of

__all__ = ["METHOD", "PRECISIONS"]

PRECISIONS = ("int4", "int4+4")
"""What a compact package sends first, and what it goes on to."""


def execute(context: Context) -> Made:
    scheme = scheme_of(context.comparison)
    assert scheme is not None
    share = share_of(context.comparison.variant.rpartition("-")[2])
    base = trained(context, listed_run(context.comparison, scheme))
    epochs = further(context.comparison.steps).epochs
    begun = base.training.weights[:8]  # what began with weights of another training is not gone on with
    run = context.folder / f"run-{begun}"
    with in_time(context):
        finish(
            (base.folder / "run").resolve(),  # it stands in the run's settings
            run,
            Finishing(PRECISIONS, share),
            rounding=rounding,
            epochs=epochs,
            accelerator=context.accelerator,
            progress=context.progress,
            dataset=context.dataset,
            max_seconds=context.seconds_left(),
        )
    directory = RunDirectory(run)
    config, metrics = TrainingConfig.from_json(directory.read_settings()["config"]), metrics_of(directory)
    seen = len(context.splits[0])
    teacher = count_macs(base.module, example(context)[:1]) * epochs * seen
    own = Training(
        epochs=epochs,
        macs=round(PASSES * training_macs(config) * seen / TRAINING_PICTURES[config.dataset] + teacher, 1),
        seconds=round(float(metrics[-1]["seconds"]), 1),
        loss=tuple(round(float(row["loss"]), 4) for row in metrics),
        precision=config.precision,
        weights=directory.digest(),
    )
    cut = f"finished with {share:.0%} pruned" if share else "finished"
    rows = packaged(
        context, run, context.folder / f"compact-{begun}", base.run.name, "compact", f"Accordion, {ORDERS[scheme]}, {cut}, compact"
    )
    return Made(base.under(own), tuple(rows), {"finishing": str(config.finishing)}, config.recipe, base.config)


METHOD = Method(
    "finished",
    "Accordion, trained on for its encoding",
    SOURCE,
    "ours: all configurations go on together, with the weights as a compact package holds them, each with its own batch-norm "
    "statistics, and learn from the network as it was; as many epochs more as pruning has, on pictures of full size; "
    "`accordion finish` as it is when left to itself",
    NEEDS,
    "everything",
    execute,
)
