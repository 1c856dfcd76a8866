"""What the delivered accuracies say: means over seeds, and whether the targets are met."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from experiments.delivery.cases import DEADLINES_S, MATCHED, PARTS, SCALES, SETS
from experiments.delivery.simulate import ALL, Row
from experiments.delivery.ways import COMPACT, ORACLE, PLAIN, SHRUNK, is_alone, is_compressed
from experiments.series import Spread

__all__ = [
    "FIXED",
    "MATCHED_WAY",
    "ORACLE_SHARE",
    "Delivered",
    "Gap",
    "of_oracle",
    "over_best_alone",
    "over_best_compressed",
    "over_fixed",
]

MATCHED_WAY = "demand-matched"
FIXED = ("CoML-05", "CoML-03", "uniform", "BlockCoML-05", "BlockCoML-03", SHRUNK, PLAIN)
ORACLE_SHARE = 0.98


class Delivered:
    """The rows of one group, by what they are about."""

    def __init__(self, rows: Sequence[Row], group: str) -> None:
        self._rows = {(row.traces, row.part, row.scale, row.way, row.seed): row.accuracy for row in rows if row.group == group}
        self.ways = tuple(dict.fromkeys(row.way for row in rows if row.group == group))
        self.seeds = tuple(sorted({row.seed for row in rows if row.group == group}))

    def at(self, traces: str, part: str, scale: int, way: str, deadline_s: float) -> Spread | None:
        """Over seeds; None if it has not run."""
        index = DEADLINES_S.index(deadline_s)
        found = [self._rows[key][index] for seed in self.seeds if (key := (traces, part, scale, way, seed)) in self._rows]
        return Spread(tuple(found)) if found else None

    def mean(self, traces: str, part: str, scale: int, way: str) -> Spread | None:
        """The mean over all deadlines alike."""
        keys = [(traces, part, scale, way, seed) for seed in self.seeds]
        found = [statistics.fmean(self._rows[key]) for key in keys if key in self._rows]
        return Spread(tuple(found)) if found else None

    def both(
        self, traces: str, part: str, scale: int, ways: tuple[str, str], deadline_s: float | None = None
    ) -> tuple[float, float] | None:
        """Two ways' means over the seeds that both have, at a deadline or over all alike; None if there is no such seed."""
        found = []
        for seed in self.seeds:
            pair = [self._rows.get((traces, part, scale, way, seed)) for way in ways]
            if (mine := pair[0]) is not None and (theirs := pair[1]) is not None:
                at = slice(None) if deadline_s is None else slice(DEADLINES_S.index(deadline_s), DEADLINES_S.index(deadline_s) + 1)
                found.append((statistics.fmean(mine[at]), statistics.fmean(theirs[at])))
        if not found:
            return None
        return statistics.fmean(mine for mine, _ in found), statistics.fmean(theirs for _, theirs in found)

    def hardest(
        self, traces: str, part: str, scale: int, ours: str, rivals: Iterable[str], deadline_s: float | None = None
    ) -> Gap | None:
        """Against the rival that leaves least; `where` is left to the caller."""
        gaps = [
            Gap("", *pair, rival)
            for rival in rivals
            if (pair := self.both(traces, part, scale, (ours, rival), deadline_s)) is not None
        ]
        return min(gaps, key=lambda gap: gap.points, default=None)

    def seeds_of(self, way: str) -> int:
        """How many seeds of a way there are."""
        return len({key[4] for key in self._rows if key[3] == way})


@dataclass(frozen=True, slots=True)
class Gap:
    """`ours` against `theirs` (means over the seeds that both have) where `where` says."""

    where: str
    ours: float
    theirs: float
    rival: str

    @property
    def points(self) -> float:
        """How much more is delivered, in points."""
        return 100 * (self.ours - self.theirs)


def over_fixed(found: Delivered) -> list[Gap]:
    """Demand-matched training against the best fixed policy, on the traces it came from and on those held back; worst first."""
    name, scale = MATCHED
    gaps = []
    for which in PARTS:
        if (gap := found.hardest(name, which, scale, MATCHED_WAY, FIXED)) is not None:
            gaps.append(replace(gap, where=which))
    return sorted(gaps, key=lambda gap: gap.points)


def over_best_alone(found: Delivered) -> list[Gap]:
    """The compact package against the best single separately trained network at each deadline of each set; worst first."""
    return _over(found, [way for way in found.ways if is_alone(way)])


def over_best_compressed(found: Delivered) -> list[Gap]:
    """The same against the plain network made smaller by the best of the comparisons' methods."""
    return _over(found, [way for way in found.ways if is_compressed(way)])


def _over(found: Delivered, rivals: Sequence[str]) -> list[Gap]:
    gaps = []
    for name, scale, deadline in _cases():
        if (gap := found.hardest(name, ALL, scale, COMPACT, rivals, deadline)) is not None:
            gaps.append(replace(gap, where=f"{name}, bytes × {scale}, {deadline:g} s"))
    return sorted(gaps, key=lambda gap: gap.points)


def of_oracle(found: Delivered) -> list[Gap]:
    """The compact package against who knows the trace and owns all separate networks; the lowest share first."""
    gaps = []
    for name, scale, deadline in _cases():
        pair = found.both(name, ALL, scale, (COMPACT, ORACLE), deadline)
        if pair is not None and pair[1] > 0:
            gaps.append(Gap(f"{name}, bytes × {scale}, {deadline:g} s", *pair, ORACLE))
    return sorted(gaps, key=lambda gap: gap.ours / gap.theirs)


def _cases() -> list[tuple[str, int, float]]:
    return [(name, scale, deadline) for name in SETS for scale in SCALES for deadline in DEADLINES_S]
