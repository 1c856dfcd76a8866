"""An empirical distribution: values with weights, and a share of which nothing is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accordion.errors import UsageError

__all__ = ["Distribution"]

Floats = NDArray[np.float64]
ROUNDING = 1e-9  # how far a sum of weights may be from what it stands for


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """`values` [n] ascending, none negative; `weights` [n], which sum to at most one.

    What the weights lack to one is the share of cases of which nothing is known. It counts as the worst, which is 0: a promise
    has to hold without it.
    """

    values: Floats
    weights: Floats

    @classmethod
    def of(cls, values: ArrayLike, weights: ArrayLike | None = None) -> Distribution:
        """From values [n] in any order; equally likely if `weights` is left out. UsageError for what is no distribution."""
        found = np.asarray(values, dtype=np.float64).ravel()
        shares = np.full(found.shape, 1 / max(1, found.size)) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
        if not found.size:
            raise UsageError("a distribution needs at least one value")
        if shares.shape != found.shape:
            raise UsageError(f"a distribution of {found.size} values has {shares.size} weights")
        if not np.all(np.isfinite(found)) or found.min() < 0:
            raise UsageError("a distribution's values are finite and not negative")
        if not np.all(np.isfinite(shares)) or shares.min() < 0 or not 0 < shares.sum() <= 1 + ROUNDING:
            raise UsageError("a distribution's weights are not negative, and sum to at most one")
        order = np.argsort(found, kind="stable")
        return cls(found[order], shares[order])

    @property
    def known(self) -> float:
        """The share of cases that the values stand for."""
        return float(self.weights.sum())

    def at_least(self, value: float) -> float:
        """The probability of `value` or more (of all that is above 0, what is unknown does not count)."""
        if value <= 0:
            return 1.0
        return float(min(1.0, self.weights[np.searchsorted(self.values, value, side="left") :].sum()))

    def guaranteed(self, probability: float) -> float:
        """The largest value that is reached with at least `probability`; 0 where no value is."""
        tails = np.cumsum(self.weights[::-1])[::-1]  # tails[i]: the probability of values[i] or more
        fitting = np.flatnonzero(tails >= probability - ROUNDING)
        return float(self.values[fitting[-1]]) if fitting.size else 0.0

    def mean(self) -> float:
        """The mean, with the unknown share as 0."""
        return float(self.values @ self.weights)
