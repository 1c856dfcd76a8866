"""Every picture of docs/comparisons.md, from the data files."""

from __future__ import annotations

from pathlib import Path

from experiments import outcome
from experiments.comparisons.document import FIGURES, gather
from experiments.comparisons.figures import changes, errors, training

__all__ = ["draw_all"]


def draw_all(data: Path = outcome.DATA, folder: Path = FIGURES) -> list[Path]:
    """Draws what there is data for, and returns the files."""
    results, groups = gather(data)
    drawn: list[Path] = []
    for group, found in groups.items():
        if any(family.method == "plain" for family in found):
            drawn += errors.draw_bytes(group, found, folder)
            drawn += errors.draw_macs(group, found, folder)
            drawn += changes.draw(group, found, folder) or ()
        drawn += training.draw(group, results, folder) or ()
    return drawn
