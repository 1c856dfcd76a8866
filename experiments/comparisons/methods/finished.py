"""Ours, trained on: for its encoding by `accordion finish`, or as it is, like the plain network's control, after which each
configuration may learn what it has of its own; as a compact package."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from accordion.artifact.atomic import write_file
from accordion.errors import FormatError
from accordion.packaging import rounding
from accordion.profiling import count_macs
from accordion.training import Finishing, RunDirectory, TrainingConfig, adapt, finish, train
from accordion.training.adapting import EPOCHS
from experiments.comparisons.bases import Base, in_time, listed_run, scheme_of, trained, training_of
from experiments.comparisons.context import Context, Made, Method
from experiments.comparisons.fit import further
from experiments.comparisons.methods.common import example, share_of
from experiments.comparisons.methods.elastic import NEEDS, ORDERS, SOURCE, packaged
from experiments.computation import adapting_macs
from experiments.execute import alone

__all__ = ["ADAPTED", "FURTHER", "METHOD", "PRECISIONS"]

PRECISIONS = ("int4", "int4+4")
"""What a compact package sends first, and what it goes on to."""
FURTHER = "further"
"""What stands in a variant's name where other ones have the share that is pruned."""
ADAPTED = "adapted"
"""The same, for what is adapted after it was trained further."""
_KEPT = ("run.json", "metrics.jsonl", "weights.safetensors", "norms.safetensors")  # what was measured before is not of this


def execute(context: Context) -> Made:
    variant, scheme = context.comparison.variant, scheme_of(context.comparison)
    assert scheme is not None
    how = variant.rpartition("-")[2]
    base = trained(context, listed_run(context.comparison, scheme))
    begun = base.training.weights[:8]  # what began with weights of another training is not gone on with
    source = (base.folder / "run").resolve()  # it stands in the run's settings
    run = _further_folder(context, scheme) / f"run-{begun}" if how == ADAPTED else context.folder / f"run-{begun}"
    with in_time(context):
        if how == ADAPTED:
            with alone(run.parent, waits=context.patience()):
                _further(context, base, source, run)
        elif how == FURTHER:
            _further(context, base, source, run)
        else:
            _finish(context, source, run, share_of(how))
    config = TrainingConfig.from_json(RunDirectory(run).read_settings()["config"])
    own = training_of(context, RunDirectory(run), config)
    done, notes = "trained further", dict[str, Any]()
    if how == ADAPTED:
        begun = own.weights[:8]
        with in_time(context):
            run, adaptation = _adapted(context, run, context.folder / f"run-{begun}")
        done, notes["adapted"] = f"{done} and adapted", adaptation
        macs = 2 * adapting_macs(config, EPOCHS)  # forward and for the gradients of inputs: no weight of a convolution learns
        seconds = round(own.seconds + adaptation["seconds"], 1)
        own = replace(own, macs=round(own.macs + macs, 1), seconds=seconds, weights=RunDirectory(run).digest())
    elif config.finishing is not None:
        done = "finished" + (f" with {config.finishing.prune:.0%} pruned" if config.finishing.prune else "")
        teacher = count_macs(base.module, example(context)[:1]) * config.recipe.epochs * len(context.splits[0])
        own = replace(own, macs=round(own.macs + teacher, 1))  # the network as it was looks at every picture, too
    path = context.folder / f"compact-{begun}-{METHOD.version}"  # what an earlier version packaged is not taken for this
    family = f"Accordion, {ORDERS[scheme]}, {done}, compact"
    rows = packaged(context, run, path, base.run.name, "compact", family)
    notes["trained on"] = str(config.finishing or done)
    return Made(base.under(own), tuple(rows), notes, config.recipe, base.config)


def _further_folder(context: Context, scheme: str) -> Path:
    """Of the comparison that ends where adapting begins."""
    return context.runs / "comparisons" / replace(context.comparison, variant=f"{scheme}-{FURTHER}").name


def _adapted(context: Context, trained_further: Path, run: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of `trained_further` in `run`, adapted, and what it did: seconds, and validation errors before and after of each
    configuration that was adapted. A StoppedError leaves what the next call goes on with."""
    record = run.with_name(f"{run.name}.json")
    if not run.exists():
        partial = run.with_name(f"{run.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for path in (trained_further / name for name in _KEPT):
            if path.exists():
                shutil.copyfile(path, partial / path.name)
        partial.rename(run)
    found = _read(record)
    if "adaptation" not in found:
        began = time.monotonic()
        try:
            found["adaptation"] = asdict(
                adapt(
                    run,
                    accelerator=context.accelerator,
                    progress=context.progress,
                    dataset=context.dataset,
                    max_seconds=context.seconds_left(),
                )
            )
        finally:
            found["seconds"] += round(time.monotonic() - began, 1)
            write_file(record, json.dumps(found).encode())
    done = found["adaptation"]
    kept = {key: list(done[key]) for key in ("configurations", "before", "after", "kept", "heads")}
    return run, {"seconds": found["seconds"], **kept}


def _read(record: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(record.read_bytes())
        return found
    except FileNotFoundError:
        return {"seconds": 0.0}
    except ValueError as error:
        raise FormatError(f"{record} is damaged: remove it, and the folder of the same name") from error


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
    "the rate, like the plain network's control; `adapted`: after that, two epochs more for each configuration but the complete "
    "one, in which its batch-norm factors and shifts learn, and a head of its own in as many of the smallest as one percent of the "
    "parameters holds. A number: what `accordion "
    "finish` makes of it when left to itself, with this share of the weights pruned; all configurations go on together, with the "
    "weights as a compact package holds them, each with its own batch-norm statistics, and learn from the network as it was",
    NEEDS,
    "everything",
    execute,
    version=2,  # pruned weights stay zero where 4 bits are compensated
)
