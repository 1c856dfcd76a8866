"""A policy: how often training picks each configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.ticker import MaxNLocator

from accordion.pictures.style import COLOURS, SETTINGS, literal, new_figure, plain, save

__all__ = ["draw_policy"]


def draw_policy(
    probabilities: Sequence[float], out: Path, *, title: str | None = None, note: str | None = None
) -> tuple[Path, Path]:
    """A bar for each configuration, in percent; `note` stands below. Writes `out`.png and `out`.svg and returns the paths."""
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(6.4, 3.2)
        axes = figure.subplots()
        plain(axes)
        axes.bar(range(len(probabilities)), [100 * p for p in probabilities], color=COLOURS[0], width=0.8)
        axes.set_xlim(-0.7, len(probabilities) - 0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel("probability in training (%)")
        axes.set_xlabel("configuration (smallest to complete)" + (f"\n{literal(note)}" if note else ""))
        if title:
            axes.set_title(literal(title), loc="left")
        return save(figure, out)
