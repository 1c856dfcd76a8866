"""Which nested path through measured configurations is worth taking: exact, by dynamic programming. Values in, values out.

The criterion. A device has a budget (of bytes, of multiply-accumulates, …) and runs the best configuration of the order that fits.
Budgets are spread evenly from the smallest configuration's cost to the complete one's, by default in the logarithm, so that each
doubling of the budget counts the same. The value of an order is then the mean error over budgets: the area under its curve of
error against cost. With several costs it is the weighted mean of their areas.

An order need not step through every configuration in between, so one that is worse than its predecessor is never taken, and the
area is a sum over the steps of the order: that makes the shortest path through the lattice the best order, with nothing left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accordion.errors import UsageError

__all__ = ["SCALES", "Lattice", "Path", "best_path", "budget_scale", "parse_objective", "value_of"]

COSTS = ("bytes", "macs", "latency")
SCALES = ("log", "linear")

Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lattice:
    """Measured configurations, smallest first, complete last: block counts by stage, error on `samples` pictures, costs by name."""

    configurations: tuple[Counts, ...]
    errors: tuple[float, ...]
    costs: dict[str, tuple[float, ...]]
    samples: int


@dataclass(frozen=True, slots=True)
class Path:
    """Rows of a lattice, nested, smallest first; `value` is the mean error over budgets (see the module)."""

    rows: tuple[int, ...]
    value: float


def parse_objective(text: str) -> dict[str, float]:
    """`bytes`, `macs`, `latency`, or a weighting such as `2:bytes,1:macs` → weights that sum to one. UsageError."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        number, _, name = part.rpartition(":")
        try:
            weight = float(number) if number else 1.0
        except ValueError:
            weight = math.nan
        if name not in COSTS or name in weights or not 0 < weight < math.inf:
            raise UsageError(f"{text!r} is no objective: write {', '.join(COSTS)}, or a weighting such as 2:bytes,1:macs")
        weights[name] = weight
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def budget_scale(lattice: Lattice, weights: Mapping[str, float], scale: str = "log") -> NDArray[np.float64]:
    """Where each configuration stands among the budgets, 0 for the smallest and 1 for the complete one. UsageError."""
    if scale not in SCALES:
        raise UsageError(f"unknown scale {scale!r}: choose {' or '.join(SCALES)}")
    position = np.zeros(len(lattice.configurations))
    for name, weight in weights.items():
        if name not in lattice.costs:
            raise UsageError(f"the {name} of these configurations was not measured")
        cost = np.asarray(lattice.costs[name], dtype=np.float64)
        cost = np.log(cost) if scale == "log" else cost
        if cost[-1] > cost[0]:
            position += weight * (cost - cost[0]) / (cost[-1] - cost[0])
    return position


def best_path(lattice: Lattice, weights: Mapping[str, float], *, steps: int | None = None, scale: str = "log") -> Path:
    """The order with the least mean error over budgets, of at most `steps` configurations (any number if left out).

    It begins with the smallest configuration and ends with the complete one. Exact over everything measured.
    """
    if steps is not None and steps < 2 and len(lattice.configurations) > 1:
        raise UsageError("an order has at least two configurations, the smallest and the complete one")
    at = budget_scale(lattice, weights, scale)
    counts = np.asarray(lattice.configurations)
    errors = np.asarray(lattice.errors)
    last = len(counts) - 1
    larger = [_larger(counts, row) for row in range(len(counts))]
    # Rounds of "at most one step more": rest[row] is the least area from row to the complete network.
    rest = np.full(len(counts), np.inf)
    rest[last] = 0.0
    after: list[NDArray[np.int64]] = []
    for _ in range(last if steps is None else steps - 1):
        improved, choice = rest.copy(), np.full(len(counts), -1)
        for row in range(last - 1, -1, -1):
            ahead = larger[row]
            # Without a bound on the steps one sweep from the largest down settles everything.
            area = errors[row] * (at[ahead] - at[row]) + (improved if steps is None else rest)[ahead]
            best = int(np.argmin(area))
            if area[best] < improved[row]:
                improved[row], choice[row] = area[best], ahead[best]
        rest = improved
        after.append(choice)
        if steps is None:
            break
    rows = [0]
    for choice in reversed(after):
        while choice[rows[-1]] >= 0:
            rows.append(int(choice[rows[-1]]))
            if steps is not None:
                break
    return Path(tuple(rows), float(rest[0]))


def _larger(counts: NDArray[np.int64], row: int) -> NDArray[np.int64]:
    """The rows that contain `row` and more; rows stand with fewest blocks first, so they all come after it."""
    found: NDArray[np.int64] = row + 1 + np.flatnonzero((counts[row + 1 :] >= counts[row]).all(axis=1))
    return found


def value_of(lattice: Lattice, path: Sequence[Counts], weights: Mapping[str, float], *, scale: str = "log") -> Path:
    """A given order under the same criterion; what of it was not measured is passed over."""
    at = budget_scale(lattice, weights, scale)
    known = {counts: row for row, counts in enumerate(lattice.configurations)}
    rows = [0, *(known[counts] for counts in path if known.get(counts, 0) > 0)]
    if rows[-1] != len(at) - 1:
        rows.append(len(at) - 1)
    area, best = 0.0, math.inf
    for row, following in zip(rows, rows[1:], strict=False):
        best = min(best, lattice.errors[row])
        area += best * (at[following] - at[row])
    return Path(tuple(rows), float(area))
