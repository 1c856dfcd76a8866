"""What a link may deliver from now on, in a few numbers: how much has arrived by when, with which probability.

It is what a request carries instead of one throughput, so it is small, bounded and checked, and needs no arithmetic library.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accordion.artifact.strict_json import printable
from accordion.errors import UsageError

__all__ = ["NEVER_S", "Outlook"]

MOST_LEVELS, MOST_SECONDS = 32, 32
MOST_BYTES = 10**18
NEVER_S = 1e9  # what stands for "not to be expected": JSON has no infinity
_FIELDS = ("levels", "seconds", "bytes", "round_trips", "rtt_s")


@dataclass(frozen=True, slots=True)
class Outlook:
    """`bytes[i][j]` or more have arrived `seconds[j]` after the request with a probability of at least `levels[i]`.

    `seconds` and `levels` ascend, so the bytes rise with j and fall with i. The first `round_trips` round trips, in which nothing
    arrives, are counted in; `rtt_s` is how long one takes usually, for those who need more or fewer. Between two times, promises
    are those of the earlier; of a probability between two levels, those of the higher.

    Raises:
        UsageError: the numbers make no sense; `field` at the beginning of its text.
    """

    levels: tuple[float, ...]
    seconds: tuple[float, ...]
    bytes: tuple[tuple[int, ...], ...]
    round_trips: float = 3.0
    rtt_s: float = 0.0

    def __post_init__(self) -> None:
        _check_ascending("levels", self.levels, MOST_LEVELS)
        _check_ascending("seconds", self.seconds, MOST_SECONDS)
        if not self.levels[-1] < 1:
            raise UsageError("levels: a probability lies between 0 and 1, both excluded")
        for name, value, most in (("round_trips", self.round_trips, 100.0), ("rtt_s", self.rtt_s, 1e6)):
            if not _is_number(value) or not 0 <= value <= most:
                raise UsageError(f"{name}: must be a number from 0 to {most:g}")
        if not isinstance(self.bytes, tuple) or len(self.bytes) != len(self.levels):
            raise UsageError("bytes: must hold one row for each of the levels")
        above: Sequence[int] | None = None
        for row in self.bytes:
            if not isinstance(row, tuple) or len(row) != len(self.seconds):
                raise UsageError("bytes: a row must hold one number for each of the seconds")
            if any(isinstance(one, bool) or not isinstance(one, int) or not 0 <= one <= MOST_BYTES for one in row):
                raise UsageError(f"bytes: must be whole numbers from 0 to {MOST_BYTES:.0e}")
            if any(later < sooner for sooner, later in zip(row, row[1:], strict=False)):
                raise UsageError("bytes: what has arrived can't become less with time")
            if above is not None and any(one > other for one, other in zip(row, above, strict=True)):
                raise UsageError("bytes: more can't be promised at a higher probability")
            above = row

    def promised(self, probability: float, seconds: float) -> int:
        """Bytes that have arrived after `seconds` with at least `probability`; 0 where nothing is promised."""
        row, column = bisect_left(self.levels, probability - 1e-12), bisect_right(self.seconds, seconds + 1e-9) - 1
        return self.bytes[row][column] if row < len(self.levels) and column >= 0 else 0

    def probability(self, count: float, seconds: float) -> float:
        """The highest of the levels at which `count` bytes are promised after `seconds`; 0 if at none."""
        column = bisect_right(self.seconds, seconds + 1e-9) - 1
        if column < 0:
            return 0.0
        return max((level for level, row in zip(self.levels, self.bytes, strict=True) if row[column] >= count), default=0.0)

    def times(self, level: float = 0.5) -> tuple[Sequence[float], Sequence[float]]:
        """Bytes and the seconds that they take at a level, as the corners of a line: for what is to be expected."""
        row = self.bytes[min(bisect_left(self.levels, level - 1e-12), len(self.levels) - 1)]
        counts, seconds = [0.0], [min(self.round_trips * self.rtt_s, self.seconds[0])]
        for count, second in zip(row, self.seconds, strict=True):
            if count > counts[-1]:
                counts.append(float(count))
                seconds.append(second)
            elif count == 0:
                seconds[0] = max(seconds[0], second)
        return counts, seconds

    def to_json(self) -> dict[str, Any]:
        """As it stands in a request."""
        return {
            "levels": list(self.levels),
            "seconds": list(self.seconds),
            "bytes": [list(row) for row in self.bytes],
            "round_trips": self.round_trips,
            "rtt_s": self.rtt_s,
        }

    @classmethod
    def from_json(cls, data: object) -> Outlook:
        """UsageError that begins with the field that is wrong."""
        if not isinstance(data, Mapping):
            raise UsageError("must be an object with 'levels', 'seconds' and 'bytes'")
        for name in data:
            if name not in _FIELDS:
                raise UsageError(f"{printable(name)}: is no field of a link; there are {', '.join(_FIELDS)}")
        for name in ("levels", "seconds", "bytes"):
            if not isinstance(data.get(name), list) or len(data[name]) > max(MOST_LEVELS, MOST_SECONDS):
                raise UsageError(f"{name}: must be a list of at most {max(MOST_LEVELS, MOST_SECONDS)}")
        rows = data["bytes"]
        if not all(isinstance(row, list) and len(row) <= MOST_SECONDS for row in rows):
            raise UsageError(f"bytes: must hold lists of at most {MOST_SECONDS} numbers")
        whole = tuple(tuple(int(one) if isinstance(one, float) and one.is_integer() else one for one in row) for row in rows)
        more = {name: data[name] for name in ("round_trips", "rtt_s") if data.get(name) is not None}
        return cls(tuple(data["levels"]), tuple(data["seconds"]), whole, **more)


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and abs(value) < 1e300 and math.isfinite(value)


def _check_ascending(name: str, values: object, most: int) -> None:
    if not isinstance(values, tuple) or not 1 <= len(values) <= most:
        raise UsageError(f"{name}: must be 1 to {most} numbers")
    if not all(_is_number(one) and one > 0 for one in values):
        raise UsageError(f"{name}: must be numbers above 0")
    if any(after <= before for before, after in zip(values, values[1:], strict=False)):
        raise UsageError(f"{name}: must ascend")
