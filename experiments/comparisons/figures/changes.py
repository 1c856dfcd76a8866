"""What is received again when the requirement rises or falls: a small matrix for each family."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm

from accordion.pictures.style import COLOURS, GREY, SETTINGS, new_figure, save
from experiments.comparisons.families import NAMES, Family, changes, levels
from experiments.series import Group

__all__ = ["draw"]

ACROSS = 4
NOTHING, UNABLE = "#FFFFFF", "#E4E4E4"
DARK = 0.55  # of the colours' range: from here on, letters are white
Costs = Mapping[int | None, Sequence[float | None]]


def draw(group: Group, found: Sequence[Family], folder: Path) -> tuple[Path, Path] | None:
    """Kilobytes from each requirement (rows) to each (columns). Only families that can meet several, and not with one file. None
    without any, or without the plain network, by which requirements are measured."""
    wanted = levels(found)
    if wanted is None:
        return None
    panels = [(family.name, costs) for family in found if (costs := changes(family, wanted)) is not None]
    if not panels:
        return None
    some = [cost for _, costs in panels for row in costs.values() for cost in row if cost]
    norm = LogNorm(min(some) / 1e3, max(max(some) / 1e3, 1.01 * min(some) / 1e3))
    down = math.ceil(len(panels) / ACROSS)
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(10.0, 0.7 + 1.85 * down)
        figure.supxlabel(
            f"kilobytes to receive from what one requirement needs (rows) to what another does (columns); +5: at most 5 points "
            f"more validation error than plain\nwhite: everything is there; grey: one of the two can't be met. {group.title}",
            fontsize=8,
        )
        grid = figure.subplots(down, ACROSS, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for k, (axes, (name, costs)) in enumerate(zip(grid.flat, panels, strict=False)):
            _panel(axes, name, costs, norm)
            axes.tick_params(labelleft=k % ACROSS == 0)
        return save(figure, folder / f"changes-{group.stem}")


def _panel(axes: Axes, name: str, costs: Costs, norm: LogNorm) -> None:
    colours = LinearSegmentedColormap.from_list("bytes", [_paler(COLOURS[0], 0.12), COLOURS[0]])
    cells = [[_cell(cost, colours, norm) for cost in row] for row in costs.values()]
    axes.imshow(np.array([[matplotlib.colors.to_rgb(cell) for cell in row] for row in cells]), aspect="auto")
    for y, row in enumerate(costs.values()):
        for x, cost in enumerate(row):
            if cost is not None:
                dark = cost > 0 and norm(cost / 1e3) > DARK
                axes.text(x, y, f"{cost / 1e3:,.0f}", ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axes.set_xticks(range(len(NAMES)), NAMES)
    axes.set_yticks(range(len(costs)), ["nothing" if key is None else NAMES[key] for key in costs])
    axes.tick_params(length=0, labelsize=7, labelcolor=GREY)
    axes.set_xticks(np.arange(0.5, len(NAMES) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(costs) - 1), minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(True, which="minor", color="white", linewidth=1.2)
    axes.spines[:].set_color("#BBBBBB")
    axes.set_title(name.removeprefix("Accordion, "), fontsize=7, color="black" if name.startswith("Accordion") else GREY, wrap=True)


def _cell(cost: float | None, colours: LinearSegmentedColormap, norm: LogNorm) -> str:
    if cost is None:
        return UNABLE
    return NOTHING if cost == 0 else matplotlib.colors.to_hex(colours(float(norm(cost / 1e3))))


def _paler(colour: str, share: float) -> str:
    """`share` of the colour on white."""
    red, green, blue = (1 - share * (1 - part) for part in matplotlib.colors.to_rgb(colour))
    return matplotlib.colors.to_hex((red, green, blue))
