"""What a method is given, and what it gives back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from accordion.data import Dataset, Split
from accordion.errors import TrainingError
from accordion.training import Recipe, TrainingConfig
from experiments.comparisons.catalogue import Comparison
from experiments.comparisons.outcome import Row, Training

__all__ = ["Context", "Made", "Method", "OutOfTimeError"]


class OutOfTimeError(TrainingError):
    """The deadline passed; a checkpoint was written, and the same call goes on from there."""


@dataclass
class Context:
    """`folder` is the comparison's own, `runs` the one that holds it and the trainings that it begins with. `deadline` is of
    `time.monotonic`. `waits`: where another process is at a training that this begins with, whether to wait for that."""

    comparison: Comparison
    dataset: Dataset
    runs: Path
    accelerator: str = "auto"
    deadline: float | None = None
    waits: bool = True
    progress: Callable[[str], None] = field(default=lambda line: None)

    @property
    def folder(self) -> Path:
        """Checkpoints of its own training, and its files as they are sent."""
        return self.runs / "comparisons" / self.comparison.name

    @cached_property
    def splits(self) -> tuple[Split, Split]:
        """What is trained on, and what is chosen on."""
        return self.dataset.hold_out()

    def seconds_left(self) -> float | None:
        """Until the deadline; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def patience(self) -> float:
        """How many seconds to wait where another process is at a training that this begins with."""
        left = self.seconds_left()
        return (math.inf if left is None else left) if self.waits else 0.0


@dataclass(frozen=True, slots=True)
class Made:
    """`notes` are what was chosen on the validation split and how, and whatever else a reader of the data file may ask. `steps` is
    what its own training was by, where that is not the comparison's recipe; `trained` all settings, where the project's own loop
    trained something else than the recipe alone says."""

    training: Training
    rows: tuple[Row, ...]
    notes: dict[str, Any] = field(default_factory=dict)
    steps: Recipe | None = None
    trained: TrainingConfig | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """`source` names the paper, `differs` what is not as there, `needs` what a device must be able to do, `reuses` what of a
    download is of use when more is wanted. `version` is raised when what it makes changes, and what an earlier one
    made is to do again."""

    name: str
    title: str
    source: str
    differs: str
    needs: str
    reuses: str
    execute: Callable[[Context], Made]
    version: int = 1
