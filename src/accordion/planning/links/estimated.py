"""A link of which an estimator has seen the last moments: its estimate, and how wrong such estimates were on measured links."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accordion.artifact.strict_json import Fields
from accordion.errors import FormatError, UsageError
from accordion.planning.links.model import LinkModel, check_round_trips

__all__ = ["ErrorTable", "EstimatedLink"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """How much of an estimate really came: at least `shares[i][j]` of it in the next `seconds[j]`, with probability `levels[i]`.

    It comes from estimates on traces, each with the weight 1/(n+1) (see `TraceLink`), so what is above the last level is unknown.
    """

    seconds: tuple[float, ...]
    levels: tuple[float, ...]
    shares: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not self.seconds or any(b <= a for a, b in zip((0.0, *self.seconds), self.seconds, strict=False)):
            raise UsageError("the times of an error table are positive and ascend")
        if not self.levels or any(b <= a for a, b in zip((0.0, *self.levels), self.levels, strict=False)) or self.levels[-1] >= 1:
            raise UsageError("the levels of an error table lie between 0 and 1 and ascend")
        table = np.asarray(self.shares, dtype=np.float64)
        if table.shape != (len(self.levels), len(self.seconds)) or not np.all(np.isfinite(table)) or table.min() < 0:
            raise UsageError("an error table holds one share, 0 or more, for each level and time")
        if np.any(np.diff(table, axis=0) > 0):
            raise UsageError("a share that comes more surely is not larger")

    @classmethod
    def from_json(cls, data: object, where: str) -> ErrorTable:
        """FormatError naming `where` if a field is missing or makes no sense."""
        fields = Fields(data, where)
        rows = fields.items("shares", most=1000)
        if not all(isinstance(row, list) and all(isinstance(one, int | float) for one in row) for row in rows):
            raise FormatError(f"{where}: 'shares' is not a list of lists of numbers")
        try:
            return cls(tuple(fields.items("seconds")), tuple(fields.items("levels")), tuple(tuple(row) for row in rows))
        except (UsageError, TypeError, ValueError) as error:
            raise FormatError(f"{where}: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {"seconds": list(self.seconds), "levels": list(self.levels), "shares": [list(row) for row in self.shares]}

    def at(self, seconds: float) -> Floats:
        """The shares [levels] for a time, between two times of the table on the line between them."""
        return np.asarray([np.interp(seconds, self.seconds, row) for row in self.shares])

    def promised(self, probability: float, seconds: float) -> float:
        """The share of the estimate that comes with at least this probability; 0 where the table knows of none."""
        row = bisect_left(self.levels, probability - 1e-12)
        return float(np.interp(seconds, self.seconds, self.shares[row])) if row < len(self.levels) else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class EstimatedLink(LinkModel):
    """`rate_bps` is the estimate, `rtt_s` the round trip as it was seen, `errors` how much of such estimates really came."""

    rate_bps: float
    errors: ErrorTable
    rtt_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.rate_bps < float("inf"):
            raise UsageError(f"a rate is 0 or more, and finite: not {self.rate_bps:g}")
        check_round_trips([self.rtt_s])

    def arrived(self, seconds: ArrayLike, round_trips: float = 0.0) -> tuple[Floats, Floats]:
        left = np.maximum(0.0, np.asarray(seconds, dtype=np.float64) - round_trips * self.rtt_s)
        shares = np.stack([self.errors.at(float(one)) for one in left], axis=1)
        weights = np.diff(np.asarray((0.0, *self.errors.levels)))
        return np.maximum.accumulate(shares * left[None, :], axis=1) * self.rate_bps / 8, weights

    def round_trip_s(self) -> float:
        return self.rtt_s
