"""The list of comparisons for people: what is done, what is to do, what it costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accordion.training import RunDirectory
from accordion.training.config import INITIALISATION
from accordion.units import format_seconds
from experiments import catalogue as runs_list
from experiments.comparisons.bases import begins_with, listed_run, scheme_of
from experiments.comparisons.catalogue import Comparison
from experiments.comparisons.costs import estimates
from experiments.comparisons.methods import METHODS
from experiments.comparisons.outcome import Result
from experiments.state import AGAIN, DONE, NEEDS, OTHER, PARTLY, TO_DO, State
from experiments.timing import StepTimes

__all__ = ["listing", "state_of"]


def state_of(one: Comparison, results: Mapping[str, Result], runs: Path | None = None) -> State:
    """From the outcomes by name and, if given, the folder of checkpoints."""
    if result := results.get(one.name):
        if result.settings.get("initialisation") != INITIALISATION:
            return State(AGAIN, "its network began as in an earlier version", 0)
        if result.settings.get("version") != METHODS[one.method].version:
            return State(AGAIN, "the method makes more or other files now", 0)
        if _settings(result.settings) != json.loads(json.dumps(_asked(one))):
            return State(OTHER, "its data file was made with other settings", result.training.epochs)
        return State(DONE, "", result.training.epochs)
    lacks = []
    if scheme := scheme_of(one):
        lacks = runs_list.delivered(scheme, one.network, one.dataset, one.recipe, one.seed).missing()
    if lacks:
        return State(NEEDS, ", ".join(lacks), 0)
    if runs is not None and (runs / "comparisons" / one.name).is_dir():
        return State(PARTLY, "begun", 0)
    return State(TO_DO, "", 0)


def _settings(found: Mapping[str, Any]) -> dict[str, Any]:
    """Those that must be as the list has them; precision is where something was done, not what."""
    trained = found.get("trained")
    return {"steps": found.get("steps"), "trained": None if trained is None else {**trained, "precision": ""}}


def _asked(one: Comparison) -> dict[str, Any]:
    scheme = scheme_of(one)
    if scheme is None:
        return _settings({"steps": one.steps.to_json()})
    run = listed_run(one, scheme)
    return _settings({"steps": one.steps.to_json(), "trained": None if run.missing() else run.config().to_json()})


def listing(
    comparisons: Sequence[Comparison],
    results: Mapping[str, Result],
    times: Sequence[StepTimes],
    machine: str,
    runs: Path,
    otherwise: float = 1.0,
) -> tuple[list[dict[str, Any]], list[str]]:
    """As JSON values and as lines; `otherwise` as `estimates` has it."""
    costs = estimates(comparisons, results, times, machine, otherwise)
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
        cost = "" if seconds is None else f"took {format_seconds(seconds)}" if seconds else "no training"
        if expected is not None:
            cost = f"about {format_seconds(expected)}" if expected else "no training"
        lines.append(f"{number:3d}  {one.name:{width}}  {state.kind:8}  {cost:14}  {state.detail}".rstrip())
    done = sum(row["state"] == DONE for row in rows)
    left = sum(row["estimated_s"] or 0.0 for row in rows)
    lines += ["", f"{done} of {len(rows)} comparisons are done; the others' own trainings would take {format_seconds(left)} here"]
    todo = {row["name"] for row in rows if row["state"] != DONE}
    if lacking := _bases([one for one in comparisons if one.name in todo], runs):
        lines.append(f"trained before that, since {runs} does not have them: {', '.join(lacking)}")
    return rows, lines


def _bases(comparisons: Sequence[Comparison], runs: Path) -> list[str]:
    """The networks that some of these begin with, and that are not trained yet."""
    names = [run.name for one in comparisons if (run := begins_with(one)) and not run.missing()]
    return [name for name in dict.fromkeys(names) if not RunDirectory(runs / name / "run").weights_path.exists()]
