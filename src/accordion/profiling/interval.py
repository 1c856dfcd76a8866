"""The exact binomial interval of a fraction."""

from __future__ import annotations

from scipy.stats import binomtest

from accordion.errors import UsageError

__all__ = ["CLOPPER_PEARSON", "clopper_pearson"]

CLOPPER_PEARSON = "Clopper-Pearson"


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval that covers the true fraction with probability `confidence` or more, whatever that fraction is.

    UsageError unless `successes` lie within 0 to `trials`, `trials` are one at least, and `confidence` lies between 0 and 1.
    """
    if not 0 <= successes <= trials or trials < 1 or not 0 < confidence < 1:
        raise UsageError(f"{successes} of {trials} with {confidence:g} confidence have no interval")
    interval = binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="exact")
    return float(interval.low), float(interval.high)
