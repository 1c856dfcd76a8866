"""Error against bytes and against multiply-accumulates, all methods in one picture."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from accordion.pictures.style import COLOURS, GREY, MARKERS, SETTINGS, new_figure, plain, save
from experiments.comparisons.families import Family, float32_bytes
from experiments.comparisons.outcome import Row
from experiments.comparisons.tables.costs import BITS_A_SECOND
from experiments.paper import POINTS
from experiments.series import Group

__all__ = ["draw_bytes", "draw_macs"]

LINES = ("-", "--", ":")
MOST_ERROR = {"cifar100": 85}  # %; what is worse is of no use, and would press the rest together
USUAL_MOST = 50


def draw_bytes(group: Group, found: Sequence[Family], folder: Path) -> tuple[Path, Path]:
    """Below: kilobytes received, above: seconds at 10 Mbit/s. Stars: the paper's static figures, at their share of our float32."""
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(9.5, 6.0)
        axes = figure.subplots()
        _curves(axes, found, lambda row: row.bytes / 1e3)
        whole = float32_bytes(found)
        if whole is not None and group.dataset == "cifar10":
            _stars(axes, whole / 1e3)
        axes.set_xlabel("bytes received (kB, files as sent)")
        scale = axes.secondary_xaxis("top", functions=(_seconds, _kilobytes))
        scale.set_xlabel(f"seconds at {BITS_A_SECOND / 1e6:g} Mbit/s")
        _readable(scale.xaxis)
        _finish(axes, group)
        return save(figure, folder / f"bytes-{group.stem}")


def draw_macs(group: Group, found: Sequence[Family], folder: Path) -> tuple[Path, Path]:
    """Means over the test split where the work depends on the picture."""
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(9.5, 6.0)
        axes = figure.subplots()
        _curves(axes, found, lambda row: row.macs / 1e6)
        axes.set_xlabel("multiply-accumulates for one picture (millions; the mean, where they depend on it)")
        _finish(axes, group)
        return save(figure, folder / f"macs-{group.stem}")


def _readable(axis: Axis) -> None:
    """1, 2, 5, 10, … instead of powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _seconds(kilobytes: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(kilobytes, np.float64) * 8e3 / BITS_A_SECOND


def _kilobytes(seconds: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(seconds, np.float64) * BITS_A_SECOND / 8e3


def look(index: int) -> tuple[str, str, str]:
    """Colour, marker and line of the family with this place in the list."""
    return COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], LINES[index // len(COLOURS) % len(LINES)]


@dataclass(frozen=True, slots=True)
class _Point:
    x: float
    test: float
    sd: float
    validation: float


def _curves(axes: Axes, found: Sequence[Family], x: Callable[[Row], float]) -> None:
    """A line through what is better than everything to its left (by the validation split), the rest as pale marks."""
    plain(axes)
    axes.set_xscale("log")
    _readable(axes.xaxis)
    for index, family in enumerate(found):
        colour, marker, line = look(index)
        best, rest = _divided(sorted(_points(family, x), key=lambda point: (point.x, point.validation)))
        seeds = len(family.rows)
        axes.errorbar(
            [point.x for point in best],
            [100 * point.test for point in best],
            yerr=[100 * point.sd for point in best] if any(point.sd for point in best) else None,
            label=f"{family.name} ({seeds} seed{'s' * (seeds > 1)})",
            color=colour,
            marker=marker,
            linestyle=line if len(best) > 1 else "none",
            linewidth=2.0 if family.ours else 1.0,
            markersize=5,
            elinewidth=0.8,
            capsize=2,
        )
        axes.plot([p.x for p in rest], [100 * p.test for p in rest], marker, color=colour, markersize=3, alpha=0.4)


def _divided(points: Sequence[_Point]) -> tuple[list[_Point], list[_Point]]:
    best: list[_Point] = []
    rest: list[_Point] = []
    for point in points:
        better = not best or point.validation < best[-1].validation
        (best if better else rest).append(point)
    return best, rest


def _points(family: Family, x: Callable[[Row], float]) -> list[_Point]:
    """Means over seeds where all seeds have the same labels. Else they have other networks, and what counts is the best that each
    has at a size: at every size at which one of them has something new, once all have something."""
    by_label: dict[str, list[Row]] = {}
    for rows in family.rows.values():
        for row in rows:
            by_label.setdefault(row.label, []).append(row)
    if any(len(rows) != len(family.rows) for rows in by_label.values()):
        sizes = sorted({x(row) for rows in family.rows.values() for row in rows})
        return [point for size in sizes if (point := _within(family, x, size)) is not None]
    return [
        _Point(
            statistics.fmean(x(row) for row in rows),
            statistics.fmean(row.test.error for row in rows),
            statistics.stdev(row.test.error for row in rows) if len(rows) > 1 else 0.0,
            statistics.fmean(row.validation.error for row in rows),
        )
        for rows in by_label.values()
    ]


def _within(family: Family, x: Callable[[Row], float], size: float) -> _Point | None:
    """Of each seed what the validation split picks among all up to `size`; None if a seed has nothing so small."""
    picked = [
        min((row for row in rows if x(row) <= size), key=lambda row: row.validation.error, default=None)
        for rows in family.rows.values()
    ]
    found = [row for row in picked if row is not None]
    if len(found) < len(picked):
        return None
    errors = [row.test.error for row in found]
    sd = statistics.stdev(errors) if len(errors) > 1 else 0.0
    return _Point(size, statistics.fmean(errors), sd, statistics.fmean(row.validation.error for row in found))


def _stars(axes: Axes, whole_kb: float) -> None:
    for point in POINTS:
        if point.dataset == "cifar10" and point.share == 0.25:
            axes.plot(point.share * whole_kb, 100 * point.error, "*", color=GREY, markersize=11, markerfacecolor="white", zorder=4)
            name = f"paper: {point.scheme}"
            at = (point.share * whole_kb, 100 * point.error)
            # Below the star: methods end in level lines.
            axes.annotate(name, at, (7, -10), textcoords="offset points", color=GREY, fontsize=7)


def _finish(axes: Axes, group: Group) -> None:
    most = MOST_ERROR.get(group.dataset, USUAL_MOST)
    axes.set_ylim(0, most)
    axes.set_ylabel(f"test error (%, up to {most}), mean and standard deviation\n{group.title}")
    handles, labels = axes.get_legend_handles_labels()
    if any(text.get_text().startswith("paper:") for text in axes.texts):
        handles.append(Line2D([], [], color=GREY, marker="*", markersize=10, linestyle="none", markerfacecolor="none"))
        labels.append("the paper's static figures (ResNet-56)")
    axes.legend(handles, labels, frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
