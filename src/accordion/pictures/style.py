"""How all pictures look, and how they are written: the same data gives the same bytes."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from accordion.artifact.atomic import write_file
from accordion.errors import StorageError, UsageError

__all__ = ["COLOURS", "GREY", "MARKERS", "SETTINGS", "Figure", "literal", "new_figure", "plain", "readable", "save"]

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


def readable(axis: Axis) -> None:
    """1, 2, 5, 10, … on a logarithmic axis, instead of powers of ten that run into each other where there are few decades."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def literal(text: str) -> str:
    """`text` as matplotlib shows it letter by letter: what stands between two dollar signs would be read as a formula."""
    return text.replace("$", r"\$")


def save(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Writes `stem`.png and `stem`.svg (a suffix .png or .svg of `stem` is dropped) and returns both paths.

    Both are drawn before the first is written, and each appears whole or not at all. UsageError if `stem` names no file,
    StorageError names the file that can't be written.
    """
    name = stem.stem if stem.suffix in (".png", ".svg") else stem.name
    if name in ("", ".", ".."):
        raise UsageError(f"{stem} is no name for a picture: name a file, such as {stem.parent / 'picture'}")
    png, svg = stem.parent / f"{name}.png", stem.parent / f"{name}.svg"
    drawn = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(SETTINGS):
        figure.savefig(drawn[0], format="png", dpi=150, metadata={"Software": None})
        figure.savefig(drawn[1], format="svg", metadata={"Date": None, "Creator": None})
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"can't write into {stem.parent}: {error.strerror or error}") from error
    for path in (png, svg):
        if path.is_dir():  # seen before the other one is replaced
            raise StorageError(f"can't write {path}: a folder of that name is there")
    for path, stream in zip((png, svg), drawn, strict=True):
        try:
            write_file(path, stream.getvalue())
        except StorageError as error:
            raise StorageError(f"{path} is not drawn: {error}") from error
    return png, svg
