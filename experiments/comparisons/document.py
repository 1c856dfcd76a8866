"""docs/comparisons.md, and docs/comparisons-in-full.md for who looks things up: prose by people, tables by this program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accordion.training.config import INITIALISATION
from experiments import document, outcome
from experiments.comparisons.families import Family, families
from experiments.comparisons.outcome import Result, read_results
from experiments.comparisons.tables import costs, errors
from experiments.comparisons.tables.listed import listed_lines
from experiments.outcome import read_all
from experiments.series import Group
from experiments.zoo.record import read_evaluations

__all__ = ["COMPARISONS", "FIGURES", "IN_FULL", "current", "gather", "tables", "tables_in_full", "update"]

COMPARISONS = Path(__file__).parents[2] / "docs" / "comparisons.md"
IN_FULL = COMPARISONS.with_name("comparisons-in-full.md")
FIGURES = COMPARISONS.with_suffix("")


def gather(data: Path = outcome.DATA) -> tuple[list[Result], dict[Group, list[Family]]]:
    """All outcomes below `data`, and the families that they make.

    Networks of which nothing but elastic ones of the experiments' own list was measured are left to docs/evidence.md, and so are
    those that began as in an earlier version: beside others they would be taken for what the method can do.
    """
    results = [one for one in read_results(data / "comparisons") if one.settings.get("initialisation") == INITIALISATION]
    ours = [one for one in read_all(data) if one.config.initialisation == INITIALISATION]
    groups = families(results, ours, read_evaluations(data / "zoo"))
    compared = {Group(result.dataset, result.network, result.recipe) for result in results}
    return results, {group: found for group, found in groups.items() if group in compared or group.recipe == "zoo"}


def tables(results: Sequence[Result], groups: dict[Group, list[Family]]) -> dict[str, list[str]]:
    """Every table of COMPARISONS by the name that its mark has there."""
    return {
        "target": errors.target_lines(groups),
        "errors": errors.error_lines(groups),
        "paper": errors.paper_lines(groups),
        "changes": costs.change_lines(groups),
        "first": costs.first_lines(groups),
        "training": costs.training_lines(results),
        "device": costs.device_lines(),
        "sources": costs.source_lines(),
        "listed": listed_lines(results),
    }


def tables_in_full(groups: dict[Group, list[Family]]) -> dict[str, list[str]]:
    """Every table of IN_FULL by the name that its mark has there."""
    return {
        "verdict": errors.verdict_lines(groups),
        "matrices": costs.matrix_lines(groups),
        "rows": errors.row_lines(groups),
    }


def current(data: Path = outcome.DATA) -> dict[Path, str]:
    """Both documents as the data files give them, by path."""
    results, groups = gather(data)
    found = {COMPARISONS: tables(results, groups), IN_FULL: tables_in_full(groups)}
    return {path: document.fill(document.read(path), filled) for path, filled in found.items()}


def update(data: Path = outcome.DATA) -> dict[Path, bool]:
    """Fills both documents from the data files; says of each whether anything changed."""
    return {path: document.put(path, text) for path, text in current(data).items()}
