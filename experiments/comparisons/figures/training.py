"""What each training computes, from nothing to the method's network."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from accordion.pictures.style import COLOURS, SETTINGS, new_figure, plain, save
from experiments.comparisons.methods import METHODS
from experiments.comparisons.outcome import Result
from experiments.series import Group

__all__ = ["draw"]


def draw(group: Group, results: Sequence[Result], folder: Path) -> tuple[Path, Path] | None:
    """One bar for each method and variant: what comes first, and its own part. None without the plain network."""
    together: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if Group(result.dataset, result.network, result.recipe) == group:
            together.setdefault((result.method, result.variant), []).append(result)
    if ("plain", "float32") not in together:
        return None
    whole = statistics.fmean(one.training.total_macs for one in together["plain", "float32"])
    rows = sorted(together.items(), key=lambda item: statistics.fmean(one.training.total_macs for one in item[1]), reverse=True)
    places = list(range(len(rows)))
    search = [statistics.fmean(one.training.search_macs for one in same) / whole for _, same in rows]
    before = [statistics.fmean(one.training.base_macs for one in same) / whole for _, same in rows]
    own = [statistics.fmean(one.training.macs for one in same) / whole for _, same in rows]
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(8.0, 1.4 + 0.26 * len(rows))
        axes = figure.subplots()
        plain(axes)
        axes.barh(places, before, color=COLOURS[4], label="the network that it begins with")
        # None has both: what has an order to search for is listed as beginning with no other network.
        axes.barh(
            places, own, left=[sum(pair) for pair in zip(search, before, strict=True)], color=COLOURS[0], label="its own training"
        )
        if any(search):
            axes.barh(places, search, left=before, color=COLOURS[2], label="the search for its order")
        axes.set_yticks(places, [f"{METHODS[method].title}: {variant}" for (method, variant), _ in rows])
        axes.set_xlabel(f"training computation (1: the plain network)\n{group.title}")
        axes.legend(frameon=False)
        return save(figure, folder / f"training-{group.stem}")
