"""Every picture, from the data files."""

from __future__ import annotations

from pathlib import Path

from experiments import outcome
from experiments.changes import effects
from experiments.delivery.simulate import FILE, read_rows
from experiments.document import FIGURES
from experiments.figures import ablations, curves, delivered, figure4, tax
from experiments.series import collect, groups

__all__ = ["draw_all"]


def draw_all(data: Path = outcome.DATA, folder: Path = FIGURES) -> list[Path]:
    """Draws what there is data for, and returns the files."""
    series = collect(outcome.read_all(data))
    drawn: list[Path] = []
    for group, members in groups(series, "figure4").items():
        drawn += figure4.draw(group, members, folder)
        drawn += curves.draw(group, members, folder)
        drawn += tax.draw(group, members, series, folder) or ()
    drawn += ablations.draw(effects(series), folder) or ()
    drawn += delivered.draw(read_rows(data / FILE.parent.name / FILE.name), folder) or ()
    return drawn
