"""How the trainings went: loss and validation error by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator

from accordion.pictures.style import SETTINGS, new_figure, plain, save
from experiments.figures.common import look, seeds
from experiments.series import Group, Series
from experiments.tables.figure4 import in_paper_order

__all__ = ["draw"]


def draw(group: Group, members: Sequence[Series], folder: Path) -> tuple[Path, Path]:
    """Left: training loss. Right: validation error of the complete network. Mean and standard deviation over seeds."""
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(10.0, 4.0)
        left, right = figure.subplots(1, 2)
        for axes in (left, right):
            plain(axes)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for one in in_paper_order(members):
            colour, _ = look(one.scheme)
            losses = np.array([outcome.curve.loss for outcome in one.outcomes])
            errors = 100 * np.array([[row[-1] for row in outcome.curve.validation_errors] for outcome in one.outcomes])
            for axes, epochs, values in (
                (left, np.arange(1, losses.shape[1] + 1), losses),
                (right, np.array(one.outcomes[0].curve.epochs), errors),
            ):
                mean = values.mean(0)
                axes.plot(epochs, mean, color=colour, linewidth=1.2, label=seeds(one))
                if len(values) > 1:
                    sd = values.std(0, ddof=1)
                    axes.fill_between(epochs, mean - sd, mean + sd, color=colour, alpha=0.15, linewidth=0)
        left.set_ylabel("training loss of a step, mean of the epoch")
        right.set_ylabel("validation error, complete network (%)")
        right.set_ylim(bottom=0)
        right.legend(frameon=False)
        figure.suptitle(group.title, x=0.01, ha="left", fontsize=9)
        return save(figure, folder / f"curves-{group.stem}")
