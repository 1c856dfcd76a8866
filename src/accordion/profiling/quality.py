"""From which pictures a configuration gets right to the quality that its ladder states."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accordion.errors import UsageError
from accordion.profiling.interval import CLOPPER_PEARSON, clopper_pearson

__all__ = ["accuracy_by_class", "quality_fields"]


def quality_fields(correct: NDArray[np.bool_], *, dataset: str, split: str, confidence: float = 0.95) -> dict[str, Any]:
    """The ladder's `quality` for `correct` [n]: accuracy as a fraction, with its exact binomial interval."""
    samples = int(correct.size)
    if not samples:
        raise UsageError(f"the {split} split of {dataset} is empty: there is nothing to measure quality on")
    right = int(correct.sum())
    low, high = clopper_pearson(right, samples, confidence)
    return {
        "metric": "accuracy",
        "direction": "higher",
        "unit": "fraction",
        "value": right / samples,
        # Outwards, so that it still covers: digits that mean nothing cost bytes at the start of every delivery.
        "interval": [math.floor(low * 1e6) / 1e6, math.ceil(high * 1e6) / 1e6],
        "confidence": confidence,
        "interval_method": CLOPPER_PEARSON,
        "samples": samples,
        "dataset": dataset,
        "split": split,
    }


def accuracy_by_class(correct: NDArray[np.bool_], labels: NDArray[np.int64], classes: int) -> list[float | None]:
    """The share that is right among the pictures of each class; None where there is no picture of it."""
    right = np.bincount(labels[correct], minlength=classes)
    count = np.bincount(labels, minlength=classes)
    return [round(float(r) / float(n), 6) if n else None for r, n in zip(right, count, strict=True)]
