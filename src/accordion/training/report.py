"""What became of a guarantee: for each configuration target, reached error, and what can be said of it with confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from accordion.training.guarantee import Guarantee

__all__ = ["report", "report_table", "upper_bound"]


def upper_bound(wrong: int, samples: int, confidence: float) -> float:
    """The error that the true one exceeds with probability 1 - `confidence` at most: Clopper and Pearson's, one-sided, exact."""
    return 1.0 if wrong >= samples else float(beta.ppf(confidence, wrong + 1, samples - wrong))


def report(guarantee: Guarantee, correct: NDArray[np.bool_], draws: Sequence[int], *, dataset: str, split: str) -> dict[str, Any]:
    """The contents of `report.json`. `correct` [K, n]: which pictures, that nothing was fitted or chosen on, each gets right.

    The bounds hold for all K configurations together with the guarantee's confidence: each is taken at 1 - (1 - confidence)/K
    (Bonferroni). `met` compares what was measured, `certified` the bound.
    """
    count, samples = correct.shape
    each = 1 - (1 - guarantee.confidence) / count
    rows = []
    for k in range(count):
        wrong = samples - int(correct[k].sum())
        bound = upper_bound(wrong, samples, each)
        row = {
            "index": k,
            "target": guarantee.targets[k],
            "error": wrong / samples,
            "upper_bound": bound,
            "met": wrong / samples <= guarantee.targets[k],
            "certified": bound <= guarantee.targets[k],
            "steps": int(draws[k]),
        }
        if guarantee.references is not None:
            row["reference"] = guarantee.references[k]
        rows.append(row)
    return {
        "schema_version": 1,
        "confidence": guarantee.confidence,
        "bound_method": f"Clopper-Pearson, one-sided, Bonferroni over {count}",
        "dataset": dataset,
        "split": split,
        "samples": samples,
        "met": sum(row["met"] for row in rows),
        "certified": sum(row["certified"] for row in rows),
        "configurations": rows,
    }


def report_table(value: Mapping[str, Any]) -> list[str]:
    """The report as lines for people."""
    lines = ["  k  target   error  at most   steps"]
    for row in value["configurations"]:
        verdict = "certified" if row["certified"] else "met" if row["met"] else "missed"
        figures = f"{row['target']:6.2%}  {row['error']:6.2%}  {row['upper_bound']:7.2%}"
        lines.append(f"{row['index']:3d}  {figures}  {row['steps']:6d}  {verdict}")
    count = len(value["configurations"])
    return [
        *lines,
        f"{value['met']} of {count} met, {value['certified']} certified: {value['samples']} pictures of {value['dataset']} "
        f"{value['split']}, {value['confidence']:.0%} for all together",
    ]
