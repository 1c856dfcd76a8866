"""Does a comparison: trains what has to be trained (or goes on), writes the files, measures them, and leaves the outcome."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from accordion.data import Dataset, Split, load
from accordion.errors import UsageError
from accordion.training.config import INITIALISATION
from accordion.training.parallel import make_fabric
from experiments.comparisons.bases import begins_with, plain_run
from experiments.comparisons.catalogue import Comparison
from experiments.comparisons.context import Context, OutOfTimeError
from experiments.comparisons.fit import begun_in as fit_begun_in
from experiments.comparisons.fit import check_recipe
from experiments.comparisons.methods import METHODS
from experiments.comparisons.outcome import OURS, Result
from experiments.execute import alone, begun_in, commit_of_code, machine_of

__all__ = ["TRIAL_PICTURES", "execute", "shortened"]

TRIAL_PICTURES = 640
_OF_THE_PROJECTS_LOOP = ("plain", "quantized", "bit-planes", "alone", *OURS)  # nothing else is trained for these


def execute(
    comparison: Comparison,
    *,
    runs: Path,
    data: Path,
    accelerator: str = "auto",
    deadline: float | None = None,
    progress: Callable[[str], None] = lambda line: None,
    dataset: Dataset | None = None,
    precision: str | None = None,
    waits: bool = True,
) -> Result | None:
    """Takes `comparison` as far as `deadline` (of `time.monotonic`) allows; None if it was not enough, and the next call goes on.

    It trains in `precision`; without one, in that in which it was begun, or the plain network, or else in what the list says.

    Without `waits`, a training that it begins with and another process is at is a BusyError.

    Checkpoints and files lie in `runs`/comparisons/NAME, the outcome in `data`/NAME.json. BusyError if another process is at it;
    TrainingError if a signal stopped it; UsageError if it needs what is not there.
    """
    if comparison.method not in METHODS:
        raise UsageError(f"there is no method {comparison.method!r}: {', '.join(METHODS)}")
    recipe = comparison.steps
    if comparison.method not in _OF_THE_PROJECTS_LOOP:
        check_recipe(recipe)  # before hours go into the network that it begins with
    context = Context(comparison, dataset or load(comparison.dataset), runs, accelerator, deadline, waits, progress)
    with alone(context.folder):
        context.comparison = comparison = comparison.at(precision or _begun_in(context) or comparison.precision)
        try:
            made = METHODS[comparison.method].execute(context)
        except OutOfTimeError:
            return None
        device = str(make_fabric(accelerator, 1, comparison.precision).device)
        settings = asdict(comparison) | {"changes": dict(comparison.changes), "steps": recipe.to_json()}
        settings["initialisation"] = INITIALISATION
        settings["version"] = METHODS[comparison.method].version
        if made.steps is not None:
            settings["own_steps"] = made.steps.to_json()
        if made.trained is not None:
            settings["trained"] = made.trained.to_json()
        settings = json.loads(json.dumps(settings))  # as whoever reads the file sees them
        result = Result(
            name=comparison.name,
            method=comparison.method,
            variant=comparison.variant,
            dataset=comparison.dataset,
            network=comparison.network,
            recipe=comparison.recipe,
            seed=comparison.seed,
            settings=settings,
            training=made.training,
            rows=made.rows,
            notes=made.notes,
            torch=torch.__version__,
            onnxruntime=onnxruntime.__version__,
            device=device,
            machine=machine_of(device),
            commit=commit_of_code(),
        )
        result.write(data)
    return result


def _begun_in(context: Context) -> str | None:
    plain = plain_run(context.comparison)
    trained = (begun_in(context.runs / run.name) for run in (begins_with(context.comparison) or plain, plain))
    return fit_begun_in(context.folder) or next(filter(None, trained), None)


def shortened(comparison: Comparison, pictures: int = TRIAL_PICTURES) -> tuple[Comparison, Dataset]:
    """The same in one epoch on few pictures: to see that everything goes through, not to be reported."""
    whole = load(comparison.dataset)
    few = replace(whole, train=_some(whole.train, pictures), test=_some(whole.test, pictures))
    return replace(comparison, changes={**comparison.changes, "epochs": 1, "batch": 64}), few


def _some(split: Split, count: int) -> Split:
    return split.take(np.linspace(0, len(split) - 1, min(count, len(split))).astype(np.int64))
