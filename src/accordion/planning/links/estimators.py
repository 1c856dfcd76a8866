"""What a link carries, guessed from what has arrived. Estimators are values that only estimate: they neither measure nor decide.

    estimator = MinEwma()
    estimator = estimator.after(count, seconds)     # again and again
    estimate = estimator.estimate()                 # None as long as it knows too little

The constants are those of the players that stream video with them, where they are tuned for minutes. A delivery takes seconds or
less, so the default of this project is quicker; `benchmarks/calibration.py` compares them on measured links.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol, Self

from accordion.errors import UsageError

__all__ = ["ESTIMATORS", "Estimate", "Estimator", "HarmonicMean", "MinEwma"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """`rate_bps`, and how far off such estimates were of late: `error` is a share of what really came (0.5: half as much again)."""

    rate_bps: float
    error: float

    @property
    def cautious_bps(self) -> float:
        """The rate that is left if this estimate is as much too high as the worst of late (RobustMPC's bound)."""
        return self.rate_bps / (1 + self.error)


class Estimator(Protocol):
    """What all estimators do."""

    def after(self, count: float, seconds: float) -> Self:
        """The estimator once `count` bytes have arrived in the next `seconds`. UsageError for negative ones."""

    def estimate(self) -> Estimate | None:
        """The estimate, or None before enough has been seen."""


@dataclass(frozen=True, slots=True)
class MinEwma:
    """The lower of two exponentially weighted means of the rate, a fast and a slow one, weighted by time.

    A link that gets worse is followed at the fast one's pace, one that gets better at the slow one's: to believe too much costs the
    deadline, to believe too little only some quality. Half-lives in seconds:

    - hls.js: 3 and 9 (`abrEwmaFastVoD`, `abrEwmaSlowVoD`), for segments of several seconds;
    - dash.js: 3 and 8 (`ewma.throughputFastHalfLifeSeconds`, `…SlowHalfLifeSeconds`);
    - Shaka Player: 2 and 5 (`fastHalfLife`, `slowHalfLife`), and nothing before `trusted_bytes` = 128 kB have come, since a TCP
      connection takes so long to find its rate;
    - here: 0.3 and 1, since the whole delivery takes no longer than one segment of a video.

    The error is the exponentially weighted mean of the relative errors that the estimate made of the next sample.
    """

    fast_s: float = 0.3
    slow_s: float = 1.0
    trusted_s: float = 0.1
    trusted_bytes: float = 16e3
    fast: float = 0.0
    slow: float = 0.0
    seen_s: float = 0.0
    seen_bytes: float = 0.0
    errors: float = 0.0
    judged_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.fast_s <= self.slow_s < math.inf:
            raise UsageError(f"half-lives are positive, the fast one not above the slow one: not {self.fast_s} and {self.slow_s}")

    def after(self, count: float, seconds: float) -> Self:
        if not _sample(count, seconds):
            return self
        rate = count * 8 / seconds
        keep_fast, keep_slow = 0.5 ** (seconds / self.fast_s), 0.5 ** (seconds / self.slow_s)
        before = self.estimate()
        errors, judged = self.errors, self.judged_s
        if before is not None:
            errors = keep_slow * errors + (1 - keep_slow) * _relative_error(before.rate_bps, rate)
            judged += seconds
        return replace(
            self,
            fast=keep_fast * self.fast + (1 - keep_fast) * rate,
            slow=keep_slow * self.slow + (1 - keep_slow) * rate,
            seen_s=self.seen_s + seconds,
            seen_bytes=self.seen_bytes + count,
            errors=errors,
            judged_s=judged,
        )

    def estimate(self) -> Estimate | None:
        if self.seen_s < self.trusted_s or self.seen_bytes < self.trusted_bytes:
            return None
        # Both means began at nothing; dividing by the weight of what was seen takes that back.
        rates = [mean / (1 - 0.5 ** (self.seen_s / life)) for mean, life in ((self.fast, self.fast_s), (self.slow, self.slow_s))]
        error = self.errors / (1 - 0.5 ** (self.judged_s / self.slow_s)) if self.judged_s else 1.0
        return Estimate(min(rates), error)


@dataclass(frozen=True, slots=True)
class HarmonicMean:
    """The harmonic mean of the last rates, with the largest relative error of late as its bound.

    RobustMPC (Yin, Jindal, Sekar, Sinopoli, SIGCOMM 2015) plans with mean / (1 + error), over the last 5 samples: the harmonic mean
    counts slow moments by the time that they cost, and is little moved by a short burst. Samples that follow each other within
    `sample_s` are taken together, for a rate over a millisecond says nothing.
    """

    most: int = 5
    sample_s: float = 0.1
    rates: tuple[float, ...] = ()
    errors: tuple[float, ...] = ()
    pending_bytes: float = 0.0
    pending_s: float = 0.0

    def __post_init__(self) -> None:
        if self.most < 1:
            raise UsageError("a harmonic mean is of one sample at least")

    def after(self, count: float, seconds: float) -> Self:
        if not _sample(count, seconds):
            return self
        gathered, took = self.pending_bytes + count, self.pending_s + seconds
        if took < self.sample_s:
            return replace(self, pending_bytes=gathered, pending_s=took)
        rate = gathered * 8 / took
        before = self.estimate()
        errors = self.errors if before is None else (*self.errors, _relative_error(before.rate_bps, rate))[-self.most :]
        return replace(self, rates=(*self.rates, rate)[-self.most :], errors=errors, pending_bytes=0.0, pending_s=0.0)

    def estimate(self) -> Estimate | None:
        if not self.rates:
            return None
        slowest = min(self.rates)
        mean = 0.0 if slowest <= 0 else len(self.rates) / sum(1 / rate for rate in self.rates)
        return Estimate(mean, max(self.errors, default=1.0))


# By the names under which commands and error tables know them.
ESTIMATORS: dict[str, Estimator] = {
    "ewma": MinEwma(),
    "hls.js": MinEwma(3.0, 9.0),
    "dash.js": MinEwma(3.0, 8.0),
    "shaka": MinEwma(2.0, 5.0, trusted_bytes=128e3),
    "harmonic": HarmonicMean(),
}
MOST_ERROR = 1e3  # of an estimate where nothing came at all


def _sample(count: float, seconds: float) -> bool:
    """Whether there is anything to learn. A clock that stood still or went back says nothing; a negative count is a mistake."""
    if not 0 <= count < math.inf:
        raise UsageError(f"{count:g} bytes can't have arrived")
    if math.isnan(seconds):
        raise UsageError("a time that is no number says nothing of a rate")
    return 0 < seconds < math.inf


def _relative_error(estimated: float, rate: float) -> float:
    return min(MOST_ERROR, abs(estimated - rate) / rate) if rate > 0 else (MOST_ERROR if estimated > 0 else 0.0)
