"""The exact binomial interval of a fraction."""

from __future__ import annotations

from scipy.stats import binomtest

__all__ = ["CLOPPER_PEARSON", "clopper_pearson"]

CLOPPER_PEARSON = "Clopper-Pearson"


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval that covers the true fraction with probability `confidence` or more, whatever that fraction is."""
    interval = binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="exact")
    return float(interval.low), float(interval.high)
