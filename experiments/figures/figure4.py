"""The paper's Figure 4, and the same errors against multiply-accumulates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from accordion.pictures.style import GREY, SETTINGS, new_figure, plain, save
from experiments.figures.common import errorbars, look
from experiments.paper import BITS_A_PARAMETER, NETWORKS, POINTS
from experiments.series import Group, Series
from experiments.tables.figure4 import in_paper_order

__all__ = ["draw"]


def draw(group: Group, members: Sequence[Series], folder: Path) -> tuple[Path, Path]:
    """Left: error against the bytes of the package, with its share above and the paper's Mbit below. Right: against MACs."""
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(11.0, 5.4)
        left, right = figure.subplots(1, 2, sharey=True)
        for axes in (left, right):
            plain(axes)
        schemes = in_paper_order(members)
        for one in schemes:
            errorbars(left, one, [rung.bytes / 1e6 for rung in one.rungs], one.rungs)
            errorbars(right, one, [rung.macs / 1e6 for rung in one.rungs], one.rungs)
        whole = max(one.complete.bytes for one in schemes) / 1e6
        drawn = _papers_points(left, group, whole)
        left.set_xlim(0, 1.03 * whole)
        left.set_ylim(0, 100)
        right.set_xlim(left=0)
        left.set_ylabel(f"test error (%), mean and standard deviation\n{group.title}")
        left.set_xlabel("float32 bytes of the package up to the configuration (MB)")
        right.set_xlabel("multiply-accumulates for one picture (millions)")
        _scale(left, 100 / whole, "top", 1.0, "share of the complete package (%)")
        mbit = schemes[0].complete.parameters * BITS_A_PARAMETER / 1e6
        _scale(left, mbit / whole, "bottom", -0.16, f"the paper's Mbit ({BITS_A_PARAMETER} bits a parameter)")
        macs = max(one.complete.macs for one in schemes) / 1e6
        _scale(right, 100 / macs, "top", 1.0, "share of the complete network's multiply-accumulates (%)")
        handles, labels = left.get_legend_handles_labels()
        if drawn:
            handles.append(Line2D([], [], color=GREY, marker="*", markersize=10, linestyle="none", markerfacecolor="none"))
            labels.append("stars: what the paper states")
        # Below, beside the paper's scale: within, some curve crosses it.
        right.legend(handles, labels, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=2)
        return save(figure, folder / f"figure4-{group.stem}")


def _papers_points(axes: Axes, group: Group, whole: float) -> bool:
    """Only beside the network that the paper evaluates on this data set: a share of another network's bytes is something else."""
    if NETWORKS.get(group.dataset) != group.network:
        return False
    for point in POINTS:
        if point.dataset != group.dataset:
            continue
        colour = GREY if point.compression else look("CoML-05" if point.scheme == "CoML" else point.scheme)[0]
        axes.plot(point.share * whole, 100 * point.error, "*", color=colour, markersize=11, markerfacecolor="white", zorder=4)
        if point.compression or point.scheme == "CoML":
            # They stand close to one another, and under the curves: one name to the left, one beside, one below.
            away, side = {"CoML": ((-7, -3), "right"), "pruned": ((7, -3), "left")}.get(point.scheme, ((7, -12), "left"))
            place = point.share * whole, 100 * point.error
            axes.annotate(point.scheme, place, away, textcoords="offset points", ha=side, color=GREY, fontsize=7)
    return True


def _scale(axes: Axes, factor: float, side: str, at: float, label: str) -> None:
    """A second scale of the same axis."""

    def there(x: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(x, np.float64) * factor

    def back(x: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(x, np.float64) / factor

    scale = axes.secondary_xaxis(at if side == "bottom" else "top", functions=(there, back))
    scale.set_xlabel(label)
