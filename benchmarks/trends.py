"""What a row of figures does: by which power of a size it grows, how fast it rises in time, each with the interval of that.

Pure functions over numbers, used by `growth.py` and `soak.py`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Trend", "block_means", "line", "power", "scales"]

# Student's t at 97.5 % by degrees of freedom; between two rows the smaller number of degrees counts, which is the wider interval.
_T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228, 15: 2.131, 20: 2.086}
_T |= {30: 2.042, 60: 2.0}


@dataclass(frozen=True, slots=True)
class Trend:
    """A slope, its 95 % interval, and what the fitted line says at 0. The interval is unbounded where two points made the line."""

    slope: float
    low: float
    high: float
    at_zero: float

    def to_json(self) -> dict[str, Any]:
        """JSON values; an unbounded interval is null."""
        bounds = [round(self.low, 6), round(self.high, 6)] if math.isfinite(self.low) else None
        return {"slope": round(self.slope, 6), "interval": bounds}


def line(points: Sequence[tuple[float, float]]) -> Trend:
    """The straight line through points (x, y) by least squares. ValueError for fewer than two different x."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if len(set(xs)) < 2:
        raise ValueError("a line needs two points with different x")
    middle_x, middle_y = statistics.fmean(xs), statistics.fmean(ys)
    spread = sum((x - middle_x) ** 2 for x in xs)
    slope = sum((x - middle_x) * (y - middle_y) for x, y in points) / spread
    at_zero = middle_y - slope * middle_x
    freedom = len(points) - 2
    if freedom < 1:
        return Trend(slope, -math.inf, math.inf, at_zero)
    rest = sum((y - at_zero - slope * x) ** 2 for x, y in points)
    margin = _t(freedom) * math.sqrt(rest / freedom / spread)
    return Trend(slope, slope - margin, slope + margin, at_zero)


def power(points: Sequence[tuple[float, float]]) -> Trend:
    """The exponent by which y grows with x: the line through the logarithms. ValueError where one is not above 0."""
    if any(x <= 0 or y <= 0 for x, y in points):
        raise ValueError("a power needs sizes and figures above 0")
    return line([(math.log(x), math.log(y)) for x, y in points])


def scales(trend: Trend, most: float, *, slack: float = 0.1) -> bool:
    """Whether growth by no more than the power `most` is what was seen: the exponent, or the low end of its interval, keeps to it.

    `slack` is allowed beyond it, since caches and thresholds bend a line that is straight.
    """
    return trend.slope <= most + slack or (math.isfinite(trend.low) and trend.low <= most)


def block_means(points: Sequence[tuple[float, float]], count: int) -> list[tuple[float, float]]:
    """The means of `count` stretches of (time, value), one after the other.

    Neighbouring samples of a process's memory are nearly the same sample, which would make any interval too narrow.
    """
    if len(points) < count:
        raise ValueError(f"{len(points)} samples can't make {count} stretches")
    cuts = [round(k * len(points) / count) for k in range(count + 1)]
    stretches = [points[begin:end] for begin, end in zip(cuts, cuts[1:], strict=False)]
    return [(statistics.fmean(x for x, _ in one), statistics.fmean(y for _, y in one)) for one in stretches]


def _t(freedom: int) -> float:
    return next((_T[known] for known in sorted(_T, reverse=True) if known <= freedom), _T[1])
