"""Delivered accuracy against the deadline, for each set of traces and scale of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from accordion.pictures.style import COLOURS, GREY, MARKERS, SETTINGS, new_figure, plain, save
from experiments.delivery.cases import DEADLINES_S, NAME, SCALES, SETS
from experiments.delivery.simulate import ALL, Row
from experiments.delivery.verdicts import MATCHED_WAY, Delivered
from experiments.delivery.ways import COMPACT, IN_TURN, ORACLE, PLAIN, SHRUNK, is_alone

__all__ = ["BEST_ALONE", "draw"]

BEST_ALONE = "best alone"
SHOWN = (PLAIN, SHRUNK, "CoML-05", MATCHED_WAY, IN_TURN, BEST_ALONE, COMPACT, ORACLE)
"""What can be told apart in one picture; the tables have all."""


def draw(rows: Sequence[Row], folder: Path) -> tuple[Path, Path] | None:
    """Rows of small pictures: a column for each set, a row for each scale. None without data."""
    found = Delivered(rows, NAME)
    if not found.ways:
        return None
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(2.1 * len(SETS), 2.5 * len(SCALES) + 0.6)
        grid = figure.subplots(len(SCALES), len(SETS), sharex=True, sharey=True, squeeze=False)
        for line, scale in enumerate(SCALES):
            for column, (name, title) in enumerate(SETS.items()):
                axes = grid[line][column]
                plain(axes)
                for index, way in enumerate(SHOWN):
                    values = [_value(found, name, scale, way, deadline) for deadline in DEADLINES_S]
                    if any(value is None for value in values):
                        continue
                    oracle = way == ORACLE
                    axes.plot(
                        DEADLINES_S,
                        [100 * (value or 0.0) for value in values],
                        label=way,
                        color=GREY if oracle else COLOURS[index % len(COLOURS)],
                        linestyle=":" if oracle else "-",
                        marker=None if oracle else MARKERS[index % len(MARKERS)],
                        markersize=3.5,
                        linewidth=2.2 if way == COMPACT else 1.1,
                    )
                axes.set_xscale("log")
                axes.set_xticks(DEADLINES_S, [f"{deadline:g}" for deadline in DEADLINES_S])
                axes.minorticks_off()
                axes.set_ylim(0, 100)
                if line == 0:
                    axes.set_title(title, fontsize=9)
                if line == len(SCALES) - 1:
                    axes.set_xlabel("deadline (s)")
            grid[line][0].set_ylabel(f"delivered accuracy (%)\nbytes × {scale}")
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(SHOWN), frameon=False)
        return save(figure, folder / f"delivered-{NAME}")


def _value(found: Delivered, name: str, scale: int, way: str, deadline: float) -> float | None:
    ways = [one for one in found.ways if is_alone(one)] if way == BEST_ALONE else [way]
    values = [at.mean for one in ways if (at := found.at(name, ALL, scale, one, deadline)) is not None]
    return max(values, default=None)
