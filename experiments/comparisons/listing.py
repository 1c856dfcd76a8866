"""The list of comparisons for people: what is done, what is to do, what it costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accordion.training.config import INITIALISATION
from accordion.units import format_seconds
from experiments import catalogue as runs_list
from experiments.comparisons.catalogue import Comparison
from experiments.comparisons.costs import estimates
from experiments.comparisons.outcome import Result
from experiments.state import AGAIN, DONE, NEEDS, OTHER, PARTLY, TO_DO, State
from experiments.timing import StepTimes

__all__ = ["listing", "state_of"]


def state_of(one: Comparison, results: Mapping[str, Result], runs: Path | None = None) -> State:
    """From the outcomes by name and, if given, the folder of checkpoints."""
    if result := results.get(one.name):
        if result.settings.get("initialisation") != INITIALISATION:
            return State(AGAIN, "its network began as in an earlier version", 0)
        asked = json.loads(json.dumps(one.steps.to_json()))
        if result.settings.get("steps") != asked:
            return State(OTHER, "its data file was made with other settings", result.training.epochs)
        return State(DONE, "", result.training.epochs)
    lacks = []
    if one.method == "elastic":
        lacks = runs_list.delivered(one.variant, one.network, one.dataset, one.recipe, one.seed).missing()
    if lacks:
        return State(NEEDS, ", ".join(lacks), 0)
    if runs is not None and (runs / "comparisons" / one.name).is_dir():
        return State(PARTLY, "begun", 0)
    return State(TO_DO, "", 0)


def listing(
    comparisons: Sequence[Comparison], results: Mapping[str, Result], times: Sequence[StepTimes], machine: str, runs: Path
) -> tuple[list[dict[str, Any]], list[str]]:
    """As JSON values and as lines."""
    costs = estimates(comparisons, results, times, machine)
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    width = max((len(one.name) for one in comparisons), default=0)
    for number, one in enumerate(comparisons, 1):
        state = state_of(one, results, runs)
        seconds = results[one.name].training.seconds if state.kind == DONE else None
        expected = None if seconds is not None else costs.get(one.name)
        rows.append(
            {
                "name": one.name,
                "method": one.method,
                "state": state.kind,
                "detail": state.detail,
                "seconds": seconds,
                "estimated_s": None if expected is None else round(expected, 1),
            }
        )
        cost = f"took {format_seconds(seconds)}" if seconds is not None else ""
        if expected is not None:
            cost = f"about {format_seconds(expected)}" if expected else "no training"
        lines.append(f"{number:3d}  {one.name:{width}}  {state.kind:8}  {cost:14}  {state.detail}".rstrip())
    done = sum(row["state"] == DONE for row in rows)
    left = sum(row["estimated_s"] or 0.0 for row in rows)
    lines += ["", f"{done} of {len(rows)} comparisons are done; the others' own trainings would take {format_seconds(left)} here"]
    return rows, lines
