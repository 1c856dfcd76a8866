"""What of the list has run."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.comparisons.bases import scheme_of
from experiments.comparisons.catalogue import catalogue
from experiments.comparisons.methods import METHODS
from experiments.comparisons.outcome import Result
from experiments.series import Group
from experiments.tables.markdown import table

__all__ = ["listed_lines"]


def listed_lines(results: Sequence[Result]) -> list[str]:
    """Comparisons done of those listed, by network and method."""
    names = {result.name for result in results}
    together: dict[tuple[Group, str], list[bool]] = {}
    for one in catalogue():
        together.setdefault((Group(one.dataset, one.network, one.recipe), one.method), []).append(one.name in names)
    groups = sorted({group for group, _ in together})
    rows = []
    for method, about in METHODS.items():
        cells = [together.get((group, method), []) for group in groups]
        rows.append([about.title, *(f"{sum(cell)} of {len(cell)}" if any(cell) else "not run" for cell in cells)])
    listed = [done for cell in together.values() for done in cell]
    head = f"{sum(listed)} of {len(listed)} comparisons of the list are done."
    if count := sum(result.settings.get("version") != METHODS[result.method].version for result in results):
        head += f" {count} of them are to do again, since the method makes more files now; what they have stands."
    if others := _otherwise_begun(results):
        head += f" Begun with another training of the plain (or elastic) network than its own rows are of: {', '.join(others)}."
    return [head, "", *table(["", *(group.title for group in groups)], rows)]


def _otherwise_begun(results: Sequence[Result]) -> list[str]:
    """Comparisons that go on with a network which was trained once more, elsewhere perhaps, so that its seed says other weights."""
    trained = {
        (Group(one.dataset, one.network, one.recipe), one.seed, scheme_of(one)): one.training.weights
        for one in results
        if one.method in ("plain", "elastic")
    }
    found = []
    for one in results:
        known = trained.get((Group(one.dataset, one.network, one.recipe), one.seed, scheme_of(one)), "")
        if known and one.training.base_weights not in ("", known):
            found.append(one.name)
    return found
