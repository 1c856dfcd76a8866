"""The list for people: what is done, what it cost, what is to do, what it will cost."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accordion.errors import AccordionError
from accordion.units import format_seconds
from experiments.outcome import Outcome
from experiments.run import Run
from experiments.state import DONE, state_of
from experiments.timing import StepTimes, estimate_s, faster

__all__ = ["estimates", "listing", "longer"]


def estimates(runs: Sequence[Run], outcomes: dict[str, Outcome], times: Sequence[StepTimes], machine: str) -> dict[str, float]:
    """Seconds that each run will take on `machine`, for those that can be estimated.

    From the table of step times, and from how much longer than that the runs took that this machine has finished (it evaluates
    too, and has other things to do).
    """
    plain = _by_steps(runs, times, machine)
    factor = longer(runs, outcomes, times, machine) or 1.0
    return {name: seconds * factor for name, seconds in plain.items()}


def longer(runs: Sequence[Run], outcomes: dict[str, Outcome], times: Sequence[StepTimes], machine: str) -> float | None:
    """How many times as long as by their steps runs took that `machine` has finished, the median; None where there are none."""
    asked = {run.name: run.precision for run in runs}
    ratios = [
        outcomes[name].seconds / seconds
        for name, seconds in _by_steps(runs, times, machine).items()
        if name in outcomes and (outcomes[name].machine, outcomes[name].config.precision) == (machine, asked[name]) and seconds > 0
    ]
    return statistics.median(ratios) if ratios else None


def _by_steps(runs: Sequence[Run], times: Sequence[StepTimes], machine: str) -> dict[str, float]:
    mine = {row.precision: row for row in times if row.machine == machine}
    found: dict[str, float] = {}
    for run in runs:
        if run.precision in mine:
            try:
                found[run.name] = estimate_s(run.config(), mine[run.precision])
            except AccordionError:
                continue  # it lacks something; the list says what
    return found


def listing(
    runs: Sequence[Run], outcomes: dict[str, Outcome], times: Sequence[StepTimes], machine: str, folder: Path
) -> tuple[list[dict[str, Any]], list[str]]:
    """As JSON values and as lines."""
    costs = estimates(runs, outcomes, times, machine)
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    width = max((len(run.name) for run in runs), default=0)
    for number, run in enumerate(runs, 1):
        state = state_of(run, outcomes, folder)
        outcome = outcomes.get(run.name)
        seconds = outcome.seconds if state.kind == DONE and outcome else None
        row = {
            "name": run.name,
            "experiment": run.experiment,
            "state": state.kind,
            "detail": state.detail,
            "epochs": state.epochs,
            "seconds": seconds,
            "estimated_s": round(costs[run.name], 1) if run.name in costs else None,
        }
        rows.append(row)
        cost = f"took {format_seconds(seconds)}" if seconds is not None else ""
        if seconds is None and run.name in costs:
            cost = f"about {format_seconds(costs[run.name])}"
        lines.append(f"{number:3d}  {run.name:{width}}  {state.kind:8}  {cost:14}  {state.detail}".rstrip())
    finished = {row["name"] for row in rows if row["state"] == DONE}
    left = sum(costs.get(run.name, 0.0) for run in runs if run.name not in finished)
    lines += [
        "",
        f"{len(finished)} of {len(rows)} runs are done"
        + (f"; the rest would take about {format_seconds(left)} here" if costs else ""),
    ]
    if busy := max((row.load for row in times if row.machine == machine and row.load >= 1), default=None):
        lines.append(f"the step times were measured on a busy machine (load {busy:g}): alone it is faster")
    if hint := faster(times, machine):
        lines.append(hint)
    if not costs:
        lines.append("no times for this machine yet: python -m experiments timing")
    return rows, lines
