"""docs/comparisons.md: prose by people, tables by this program, between marks."""

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

__all__ = ["COMPARISONS", "FIGURES", "current", "gather", "tables", "update"]

COMPARISONS = Path(__file__).parents[2] / "docs" / "comparisons.md"
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
    """Every table by the name that its mark has in the document."""
    return {
        "verdict": errors.verdict_lines(groups),
        "errors": errors.error_lines(groups),
        "paper": errors.paper_lines(groups),
        "changes": costs.change_lines(groups),
        "first": costs.first_lines(groups),
        "training": costs.training_lines(results),
        "device": costs.device_lines(),
        "sources": costs.source_lines(),
        "rows": errors.row_lines(groups),
        "listed": listed_lines(results),
    }


def current(data: Path = outcome.DATA, path: Path = COMPARISONS) -> str:
    """The document as the data files give it."""
    return document.fill(document.read(path), tables(*gather(data)))


def update(path: Path = COMPARISONS, data: Path = outcome.DATA) -> bool:
    """Fills the document from the data files; says whether anything changed."""
    return document.put(path, current(data, path))
