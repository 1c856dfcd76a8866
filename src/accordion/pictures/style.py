"""How all pictures look, and how they are written: the same data gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from accordion.errors import StorageError

__all__ = ["COLOURS", "GREY", "MARKERS", "SETTINGS", "Figure", "new_figure", "plain", "save"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's palette, safe for the colour-blind; its yellow is left out, since it can't be seen on white."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"

SETTINGS = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "accordion",
}


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure of this size in inches, without pyplot and its global state."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes) -> None:
    """A quiet frame with a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def save(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Writes `stem`.png and `stem`.svg (a suffix .png or .svg of `stem` is dropped) and returns both paths. StorageError."""
    if stem.suffix in (".png", ".svg"):
        stem = stem.with_suffix("")
    paths = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".svg")
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(SETTINGS):
            figure.savefig(paths[0], dpi=150, metadata={"Software": None})
            figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    except OSError as error:
        raise StorageError(f"can't write {paths[0]}: {error.strerror}") from error
    return paths
