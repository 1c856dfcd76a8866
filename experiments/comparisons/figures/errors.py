"""Error against bytes and against multiply-accumulates, all methods in one picture."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray

from accordion.pictures.style import COLOURS, GREY, MARKERS, SETTINGS, new_figure, plain, readable, save
from experiments.comparisons.families import Family, float32_bytes
from experiments.comparisons.outcome import Row
from experiments.comparisons.tables.costs import BITS_A_SECOND
from experiments.paper import POINTS
from experiments.series import Group

__all__ = ["draw_bytes", "draw_macs"]

MOST_ERROR = {"cifar100": 85}  # %; what is worse is of no use, and would press the rest together
USUAL_MOST = 50
ERRORS = (2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70)  # %, what is written at the axis
HOLLOW = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")
LINES = {"float32": "--", "int8": "-.", "int4": ":"}
SIZE = (9.5, 8.0)  # inches


def draw_bytes(group: Group, found: Sequence[Family], folder: Path) -> tuple[Path, Path]:
    """Below: kilobytes received, above: seconds at 10 Mbit/s. Stars: the paper's static figures, at their share of our float32."""
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(*SIZE)
        axes = figure.subplots()
        _curves(axes, found, lambda row: row.bytes / 1e3)
        whole = float32_bytes(found)
        if whole is not None and group.dataset == "cifar10":
            _stars(axes, whole / 1e3)
        axes.set_xlabel("bytes received (kB, files as sent)")
        scale = axes.secondary_xaxis("top", functions=(_seconds, _kilobytes))
        scale.set_xlabel(f"seconds at {BITS_A_SECOND / 1e6:g} Mbit/s")
        readable(scale.xaxis)
        _finish(axes, group)
        return save(figure, folder / f"bytes-{group.stem}")


def draw_macs(group: Group, found: Sequence[Family], folder: Path) -> tuple[Path, Path]:
    """Means over the test split where the work depends on the picture."""
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(*SIZE)
        axes = figure.subplots()
        _curves(axes, found, lambda row: row.macs / 1e6)
        axes.set_xlabel("multiply-accumulates for one picture (millions; the mean, where they depend on it)")
        _finish(axes, group)
        return save(figure, folder / f"macs-{group.stem}")


def _seconds(kilobytes: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(kilobytes, np.float64) * 8e3 / BITS_A_SECOND


def _kilobytes(seconds: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(seconds, np.float64) * BITS_A_SECOND / 8e3


@dataclass(frozen=True, slots=True)
class Look:
    """How a family is drawn."""

    colour: str
    marker: str
    line: str
    width: float
    fill: str


def looks(found: Sequence[Family]) -> dict[str, Look]:
    """By name. Elastic networks have colours, one for each, whatever its forms: full lines for compact packages, broken ones for
    float32. All others are grey and told apart by their marks, their forms by lines."""
    networks, others = (list(dict.fromkeys(_split(f)[0] for f in found if f.ours == ours)) for ours in (True, False))
    made = {}
    for family in found:
        network, form = _split(family)
        if family.ours:
            place = networks.index(network)
            colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
            made[family.name] = Look(colour, marker, "--" if form == "float32" else "-", 2.0, colour)
        else:
            marker = HOLLOW[others.index(network) % len(HOLLOW)]
            made[family.name] = Look(GREY, marker, LINES.get(form, "-"), 1.0, "white")
    return made


def _split(family: Family) -> tuple[str, str]:
    """A family's name without its form, and the form; empty where a family holds all of its own."""
    name, _, form = family.name.rpartition(", ")
    return (name, form) if form in ("compact", *LINES) else (family.name, "")


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
    readable(axes.xaxis)
    by_name = looks(found)
    for family in found:
        one = by_name[family.name]
        best, rest = _divided(sorted(_points(family, x), key=lambda point: (point.x, point.validation)))
        seeds = len(family.rows)
        axes.errorbar(
            [point.x for point in best],
            [100 * point.test for point in best],
            yerr=[100 * point.sd for point in best] if any(point.sd for point in best) else None,
            label=f"{family.name} ({seeds} seed{'s' * (seeds > 1)})",
            color=one.colour,
            marker=one.marker,
            markerfacecolor=one.fill,
            linestyle=one.line if len(best) > 1 else "none",
            linewidth=one.width,
            markersize=5,
            elinewidth=0.8,
            capsize=2,
        )
        axes.plot([p.x for p in rest], [100 * p.test for p in rest], one.marker, color=one.colour, markersize=3, alpha=0.4)


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
    low = min((value for line in axes.lines for value in np.asarray(line.get_ydata(), np.float64) if value > 0), default=1.0)
    axes.set_yscale("log")
    axes.set_ylim(0.85 * low, most)
    axes.yaxis.set_major_locator(FixedLocator([error for error in ERRORS if 0.85 * low <= error <= most]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(f"test error (%, up to {most}), mean and standard deviation\n{group.title}")
    handles, labels = axes.get_legend_handles_labels()
    if any(text.get_text().startswith("paper:") for text in axes.texts):
        handles.append(Line2D([], [], color=GREY, marker="*", markersize=10, linestyle="none", markerfacecolor="none"))
        labels.append("the paper's static figures (ResNet-56)")
    axes.legend(handles, labels, frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
