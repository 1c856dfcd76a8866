"""A finished training goes on, for a smaller encoding of the same network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from accordion.data import Dataset
from accordion.errors import UsageError
from accordion.training.config import TrainingConfig
from accordion.training.finishing import Finishing, Rounding
from accordion.training.loop import TrainingResult, train
from accordion.training.run_directory import RunDirectory

__all__ = ["EPOCHS", "LEARNING_RATE", "finish"]

EPOCHS = 6
LEARNING_RATE = 0.01  # a twentieth of the recipe's, since there is little left to learn


def finish(
    source: Path | str,
    run: Path | str,
    finishing: Finishing,
    *,
    rounding: Rounding | None = None,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    accelerator: str = "auto",
    progress: Callable[[str], None] = lambda line: None,
    dataset: Dataset | None = None,
    max_seconds: float | None = None,
) -> TrainingResult:
    """Finishes the network trained in `source` into the run directory `run`, or goes on with what was begun there.

    Network, order, policy, objective and seed are the source's, pictures are of full size. Batch-norm statistics stay the source's,
    those of single configurations too. `rounding` is what packaging does to a weight (`accordion.packaging.rounding`); only
    quantizing needs it. The result is an ordinary run: profile and package it as any other. Raises as `train` does; UsageError if
    `source` has not finished, or is `run` itself.
    """
    source, run = Path(source), Path(run)
    if source.resolve() == run.resolve():
        raise UsageError(f"{run} can't be finished into itself: name another run directory")
    directory = RunDirectory(source)
    before = TrainingConfig.from_json(directory.read_settings().get("config", {}))
    directory.read_weights()  # UsageError here, before anything is written
    recipe = before.recipe.with_changes(
        name=f"{before.recipe.name}, finished",
        epochs=epochs,
        learning_rate=learning_rate,
        schedule="one-cycle",
        sizes=((1.0, 1.0),),
        # The last weights are the rounded ones, for the statistics as they are: no average of them, and no others.
        average=0.0,
        norms="running",
    )
    config = replace(before, recipe=recipe, initial=str(source), finishing=finishing, devices=1, compile="off")
    return train(
        config, run, accelerator=accelerator, progress=progress, dataset=dataset, max_seconds=max_seconds, rounding=rounding
    )
