"""All measured configurations of a network, and orders as paths through them: error against bytes and against operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

from accordion.errors import UsageError
from accordion.pictures.style import COLOURS, GREY, MARKERS, SETTINGS, literal, new_figure, plain, readable, save

__all__ = ["draw_orders"]

AXES = {
    "bytes": ("bytes of float32 weights (MB)", 1e6),
    "macs": ("multiply-accumulates (M)", 1e6),
    "latency": ("latency (ms)", 1e-3),
}


def draw_orders(
    errors: Sequence[float],
    costs: Mapping[str, Sequence[float]],
    paths: Mapping[str, Sequence[int]],
    out: Path,
    *,
    samples: int,
    title: str | None = None,
) -> tuple[Path, Path]:
    """A panel for each cost: every configuration a grey point, every path (name → rows) a line. Writes `out`.png and .svg.

    `errors` are fractions, on `samples` validation pictures.
    """
    if len(paths) > len(COLOURS):
        raise UsageError(f"{len(paths)} orders are too many for one picture: {len(COLOURS)} can be told apart")
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(4.4 * len(costs), 3.8)
        panels = figure.subplots(1, len(costs), squeeze=False, sharey=True)[0]
        for axes, (name, cost) in zip(panels, costs.items(), strict=True):
            label, unit = AXES[name]
            plain(axes)
            axes.set_xscale("log")
            readable(axes.xaxis)
            axes.plot([c / unit for c in cost], [100 * e for e in errors], ".", color=GREY, markersize=2.5, alpha=0.5)
            for (order, rows), colour, marker in zip(paths.items(), COLOURS, MARKERS, strict=False):
                x, y = [cost[row] / unit for row in rows], [100 * errors[row] for row in rows]
                axes.plot(
                    x, y, label=literal(order), color=colour, marker=marker, markersize=3.5, linewidth=1.2, drawstyle="steps-post"
                )
            axes.set_xlabel(label)
        panels[0].set_ylabel(f"error (%)\nvalidation, {samples:,} pictures")
        panels[0].legend(frameon=False)
        if title:
            figure.suptitle(literal(title))
        return save(figure, out)
