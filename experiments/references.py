"""Networks trained alone, and how far the configurations of an elastic one are from them: the elasticity tax."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from experiments.series import Rung, Series, Spread

__all__ = ["Tax", "alone", "taxes"]


@dataclass(frozen=True, slots=True)
class Tax:
    """`points` (a share of the test pictures) that a configuration errs more than a network of its shape trained alone.

    `deviation` is the standard deviation of that difference of means. A side with several seeds brings theirs, a side with one
    (then `by_seeds` is false) that of counting errors on so many pictures, which does not know how much seeds differ.
    """

    rung: Rung
    elastic: Spread
    reference: Spread
    points: float
    deviation: float
    by_seeds: bool


def alone(series: Iterable[Series], dataset: str, recipe: str) -> dict[tuple[int, ...], Spread]:
    """Test errors of networks trained whole by this recipe, by their blocks; Figure 4's plain network is one of them."""
    found: dict[tuple[int, ...], Spread] = {}
    for one in series:
        whole = one.experiment == "reference" or (one.experiment == "figure4" and one.scheme == "ResNet")
        if whole and (one.dataset, one.recipe) == (dataset, recipe):
            rung = one.complete
            if rung.blocks_by_stage not in found or len(found[rung.blocks_by_stage].values) < len(rung.test.values):
                found[rung.blocks_by_stage] = rung.test
    return found


def taxes(rungs: Sequence[Rung], references: dict[tuple[int, ...], Spread]) -> list[Tax]:
    """For every configuration that has a reference."""
    return [_tax(rung, references[rung.blocks_by_stage]) for rung in rungs if rung.blocks_by_stage in references]


def _tax(rung: Rung, reference: Spread) -> Tax:
    by_seeds = rung.test.sd is not None and reference.sd is not None
    variances = []
    for values in (rung.test, reference):
        n = len(values.values)
        one = values.sd**2 if values.sd is not None else values.mean * (1 - values.mean) / rung.pictures
        variances.append(one / n)
    return Tax(rung, rung.test, reference, rung.test.mean - reference.mean, math.sqrt(sum(variances)), by_seeds)
