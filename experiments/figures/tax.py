"""The elasticity tax: each configuration beside a network of its shape trained alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from accordion.pictures.style import GREY, SETTINGS, new_figure, plain, save
from experiments.figures.common import look, seeds
from experiments.references import alone, taxes
from experiments.series import Group, Series
from experiments.tables.figure4 import in_paper_order
from experiments.tables.markdown import blocks

__all__ = ["draw"]

TARGET = 0.5  # points


def draw(group: Group, members: Sequence[Series], series: Sequence[Series], folder: Path) -> tuple[Path, Path] | None:
    """Points by shape, smallest first, with their standard deviation; None where nothing has a reference."""
    references = alone(series, group.dataset, group.recipe)
    found = {one: taxes(one.rungs, references) for one in in_paper_order(members) if one.scheme != "ResNet"}
    shapes = sorted(
        {tax.rung.blocks_by_stage: tax.rung.parameters for rows in found.values() for tax in rows}.items(), key=lambda s: s[1]
    )
    if not shapes:
        return None
    position = {shape: index for index, (shape, _) in enumerate(shapes)}
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(7.2, 4.2)
        axes = figure.subplots()
        plain(axes)
        for index, (one, rows) in enumerate(found.items()):
            colour, marker = look(one.scheme)
            axes.errorbar(
                [position[tax.rung.blocks_by_stage] + 0.12 * (index - (len(found) - 1) / 2) for tax in rows],
                [100 * tax.points for tax in rows],
                yerr=[100 * tax.deviation for tax in rows],
                label=seeds(one),
                color=colour,
                marker=marker,
                markersize=5,
                linestyle="none",
                elinewidth=0.9,
                capsize=2,
            )
        axes.axhline(0, color="black", linewidth=0.8)
        axes.axhline(TARGET, color=GREY, linestyle="--", linewidth=1, label=f"target: {TARGET} points")
        axes.set_xticks(range(len(shapes)), [blocks(shape) for shape, _ in shapes])
        axes.set_xlabel("blocks by stage, by size")
        axes.set_ylabel(f"test error above that of the same network alone (points)\n{group.title}")
        axes.legend(frameon=False)
        return save(figure, folder / f"tax-{group.stem}")
