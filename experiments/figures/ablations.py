"""What each change does to the error, against what it costs in training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from accordion.pictures.style import COLOURS, SETTINGS, new_figure, plain, save
from experiments.changes import Effect

__all__ = ["draw"]


def draw(effects: Sequence[Effect], folder: Path) -> tuple[Path, Path] | None:
    """Left: change of the error, mean over bytes and complete. Right: training computation. None without effects."""
    if not effects:
        return None
    rows = sorted(effects, key=lambda effect: effect.mean.mean, reverse=True)
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(9.5, 1.6 + 0.36 * len(rows))
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        for axes in (left, right):
            plain(axes)
        places = range(len(rows))
        for offset, colour, marker, label, values in (
            (0.1, COLOURS[0], "o", "mean over bytes", [effect.mean for effect in rows]),
            (-0.1, COLOURS[1], "s", "complete", [effect.complete for effect in rows]),
        ):
            left.errorbar(
                [100 * value.mean for value in values],
                [place + offset for place in places],
                xerr=[100 * (value.sd or 0.0) for value in values],
                label=label,
                color=colour,
                marker=marker,
                markersize=5,
                linestyle="none",
                elinewidth=0.9,
                capsize=2,
            )
        left.axvline(0, color="black", linewidth=0.8)
        left.set_yticks(places, [f"{_name(effect)}\n(against {effect.base.scheme})" for effect in rows])
        left.set_xlabel("change of the test error (points; left is better)\nmean and standard deviation over seeds")
        left.legend(frameon=False)
        right.barh(list(places), [effect.macs for effect in rows], height=0.5, color=COLOURS[2])
        right.axvline(1, color="black", linewidth=0.8)
        right.set_xlabel("training computation\n(1: without the change)")
        return save(figure, folder / "ablations")


def _name(effect: Effect) -> str:
    return "learned order" if effect.series.experiment == "order" else effect.series.scheme
