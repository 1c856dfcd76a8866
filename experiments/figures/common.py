"""What the pictures share."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from accordion.pictures.style import COLOURS, MARKERS
from experiments.catalogue import SCHEMES
from experiments.series import Rung, Series

__all__ = ["errorbars", "look", "seeds"]


def look(scheme: str) -> tuple[str, str]:
    """Colour and marker of a scheme: the same in every picture."""
    names = list(SCHEMES)
    index = names.index(scheme) if scheme in names else len(names)
    return COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]


def seeds(one: Series) -> str:
    """For a legend."""
    count = len(one.seeds)
    return f"{one.scheme} ({count} seed{'s' * (count > 1)})"


def errorbars(axes: Axes, one: Series, x: Sequence[float], rungs: Sequence[Rung]) -> None:
    """Mean test error in percent with the standard deviation over seeds."""
    colour, marker = look(one.scheme)
    sd = [100 * (rung.test.sd or 0.0) for rung in rungs]
    axes.errorbar(
        x,
        [100 * rung.test.mean for rung in rungs],
        yerr=sd if any(sd) else None,
        label=seeds(one),
        color=colour,
        marker=marker,
        markersize=4,
        linewidth=1.2,
        elinewidth=0.9,
        capsize=2,
    )
