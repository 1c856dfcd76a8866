"""The way through depth × precision with the best quality for its bytes. Pure: points and numbers in, a path out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from accordion.errors import UnmeetableError, UsageError
from accordion.units import format_bytes

__all__ = ["FIRST_BYTES", "RUNG_BYTES", "LatticePoint", "choose_first", "find_route"]

RUNG_BYTES = 900
"""What one more configuration costs beside its weights: its lines in manifest and ladder, its share of the graphs, a header."""

FIRST_BYTES = 1000
"""Where the bytes begin to count: no package's first configuration is smaller than a few of these."""


@dataclass(frozen=True, slots=True)
class LatticePoint:
    """The network's configuration `depth` with `planes` by stage (0 where it has no block): bytes of weights, error in 0..1."""

    depth: int
    planes: tuple[int, ...]
    bytes: int
    error: float

    def within(self, other: LatticePoint) -> bool:
        """Whether `other` needs all that this one needs, and more."""
        return (
            self.depth <= other.depth
            and all(a <= b for a, b in zip(self.planes, other.planes, strict=True))
            and (self.depth, self.planes) != (other.depth, other.planes)
        )


def find_route(
    points: Sequence[LatticePoint], *, rung_bytes: int = RUNG_BYTES, start_error: float = 1.0, first: LatticePoint | None = None
) -> list[LatticePoint]:
    """The path from `first` (any point, if left out) to the complete one (the last of `points`, within which all others lie) of
    least cost.

    The cost is the error over a download: while the bytes grow from one point of the path to the next the device answers with the
    first one's error, and each doubling of the bytes counts the same, since links differ by factors. Before the first point it is
    `start_error`. Each point on the path costs `rung_bytes` beside its weights, which put off everything behind it. Found exactly,
    by dynamic programming over all pairs. UsageError without a complete point.
    """
    order = sorted(points, key=lambda point: (point.bytes, point.depth, point.planes))
    if not order or not all(point is order[-1] or point.within(order[-1]) for point in order):
        raise UsageError("the lattice has no complete point: measure all planes of the complete network")
    if first is not None:
        order = [point for point in order if point is first or first.within(point)]
    costs: list[float] = []
    before: list[int | None] = []
    for index, point in enumerate(order):
        here = point.bytes + rung_bytes
        cost, came = start_error * math.log(max(here, FIRST_BYTES) / FIRST_BYTES), None
        if first is not None and point is not first:
            cost = math.inf
        for earlier in range(index):
            one = order[earlier]
            if not one.within(point):
                continue
            size = one.bytes + rung_bytes
            candidate = costs[earlier] + one.error * (math.log(here / size) + rung_bytes / here)
            if candidate < cost:
                cost, came = candidate, earlier
        costs.append(cost)
        before.append(came)
    route = []
    at: int | None = len(order) - 1
    while at is not None:
        route.append(order[at])
        at = before[at]
    return route[::-1]


def choose_first(points: Sequence[LatticePoint], size: Callable[[LatticePoint], int], limit: int) -> LatticePoint:
    """The point of least error (of equals, the one of fewest bytes) with which a path may begin, so that its first configuration
    takes at most `limit` bytes. `size` says what it takes beginning with a point, all that a device needs for its first answer
    counted; it costs time, so it is asked of the best first. UnmeetableError names the least that can be had.
    """
    for point in sorted(points, key=lambda one: (one.error, one.bytes)):
        if point.bytes <= limit and size(point) <= limit:
            return point
    least = size(min(points, key=lambda one: one.bytes))
    raise UnmeetableError(
        f"no first answer of this network fits into {format_bytes(limit)}: the smallest takes {format_bytes(least)}",
        limit="first_answer",
    )
