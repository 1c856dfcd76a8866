"""Which of several versions of one network: orders and encodings side by side under a name, what is scarce decides.

Versions whose ladders name the same `family` (and measure the same thing) are one network in several forms: blocks in another
order, weights in another encoding. The rule, the same at the endpoint and on the device:

1. What is scarce is what the request prefers. Where it says nothing: bytes while the endpoint is near its capacity, the device's
   computation when it is not; a device that plans for itself, and knows of no load, takes bytes to be scarce.
2. The best quality that the limits allow in any version sets the mark. Every configuration of every version counts as equally
   good whose measured quality lies within the interval of the mark's, or above it. With `min_quality` alone, all that reach it do.
3. Of these, the one that needs least of what is scarce; then the better one, then the one with fewer bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from accordion.artifact.ladder import Ladder
from accordion.errors import UnmeetableError
from accordion.planning.plan import Plan
from accordion.planning.request import Request
from accordion.planning.table import PlanTable

__all__ = ["FAMILY", "choose", "family_of", "relatives"]

FAMILY = "family"  # the ladder's field that says of which network a version is one form
MOST_VERSIONS = 16  # among which is chosen


def family_of(ladder: Ladder) -> str | None:
    """The family that a ladder names, or None."""
    name = ladder.extra.get(FAMILY)
    return name if isinstance(name, str) and name else None


def relatives(ladders: Mapping[str, Ladder], *, prefers: bool) -> list[str]:
    """The tags among which a plan may choose where the request names none, in their order; empty where there is no choice.

    `latest` stands for itself unless the request says what it prefers. Without `latest`, there is a choice if all are one family.
    """
    if not ladders or ("latest" in ladders and not prefers):
        return []
    first = ladders.get("latest") or next(iter(ladders.values()))
    found = [tag for tag, ladder in ladders.items() if _related(ladder, first)]
    if "latest" not in ladders and len(found) != len(ladders):
        return []
    return sorted(found)[:MOST_VERSIONS] if len(found) > 1 else []


def choose(name: str, tables: Sequence[PlanTable], request: Request, scarce: str, **how: Any) -> Plan:
    """The plan for the best of these versions by what is scarce; `how` is as in `PlanTable.plan`.

    Raises:
        UnmeetableError: no configuration of any version keeps all limits; the nearest plan is of the first version.
        RequestError: the request makes no sense for these versions.
    """
    wanted = request.prefer or scarce
    found: list[tuple[PlanTable, Plan]] = []
    refused: UnmeetableError | None = None
    for table in tables:
        try:
            found.append((table, table.plan(name, replace(request, prefer=None), **how)))
        except UnmeetableError as error:
            refused = refused or error
    if not found:
        raise refused or UnmeetableError(f"{name} has no version to choose", limit="reference")
    sign = 1.0 if found[0][1].quality.direction == "higher" else -1.0
    best = max((plan for _, plan in found), key=lambda plan: sign * plan.quality.value)
    plans = [(table, table.plan(name, replace(request, prefer=wanted), at_least=best.quality, **how)) for table, _ in found]
    mark = best.quality.interval[0 if sign > 0 else 1]
    if not _only_quality(request):
        plans = [(table, plan) for table, plan in plans if sign * plan.quality.value >= sign * mark]
    return min(
        plans,
        key=lambda one: (one[0].scarce(one[1], wanted), -sign * one[1].quality.value, one[1].bytes_to_send, one[1].manifest),
    )[1]


def _related(ladder: Ladder, other: Ladder) -> bool:
    same = family_of(ladder) is not None and family_of(ladder) == family_of(other)
    mine, theirs = ladder.configurations[0].quality, other.configurations[0].quality
    return same and mine.comparable(theirs) and (mine.dataset, mine.split) == (theirs.dataset, theirs.split)


def _only_quality(request: Request) -> bool:
    limits = (request.deadline_s, request.max_bytes, request.max_macs, request.max_energy_j)
    return request.min_quality is not None and all(limit is None for limit in limits)
