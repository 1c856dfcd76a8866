"""Error against bytes: what a ladder gives for every byte received."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from accordion.artifact.ladder import Ladder, Quality
from accordion.artifact.strict_json import printable
from accordion.errors import UsageError
from accordion.pictures.style import COLOURS, GREY, MARKERS, SETTINGS, literal, new_figure, plain, save

__all__ = ["draw_error_against_bytes"]

MEGA = 1e6
SAME_SIZE = 0.01  # complete packages that differ by less share one scale of percent


def draw_error_against_bytes(ladders: Mapping[str, Ladder], out: Path, *, title: str | None = None) -> tuple[Path, Path]:
    """Steps for each ladder (name → ladder), with its interval bars; writes `out`.png and `out`.svg and returns the paths.

    Bytes are those of the package, everything included. UsageError where the ladders measure different things, or one thing on
    different data.
    """
    if not ladders:
        raise UsageError("there is no ladder to draw")
    qualities = [configuration.quality for ladder in ladders.values() for configuration in ladder.configurations]
    if not all(quality.comparable(qualities[0]) for quality in qualities):
        raise UsageError("these ladders measure different qualities and can't share a picture")
    data = dict.fromkeys(f"{quality.dataset} {quality.split}" for quality in qualities)
    if len(data) > 1:
        different = ", ".join(map(printable, data))
        raise UsageError(f"these ladders are measured on different data ({different}) and can't share a picture: draw each alone")
    if len(ladders) > len(COLOURS):
        raise UsageError(f"{len(ladders)} ladders are too many for one picture: {len(COLOURS)} can be told apart")
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(6.4, 4.2)
        axes = figure.subplots()
        plain(axes)
        for (name, ladder), colour, marker in zip(ladders.items(), COLOURS, MARKERS, strict=False):
            _curve(axes, name, ladder, colour, marker)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("bytes received (MB)")
        axes.set_ylabel(literal(_label(qualities)))
        if title:
            axes.set_title(literal(title), loc="left")
        _share_axis(axes, [ladder.configurations[-1].bytes for ladder in ladders.values()])
        _weights_line(axes, list(ladders.values()))
        axes.legend(frameon=False)
        return save(figure, out)


def _curve(axes: Axes, name: str, ladder: Ladder, colour: str, marker: str) -> None:
    x = [configuration.bytes / MEGA for configuration in ladder.configurations]
    shown = [_shown(configuration.quality) for configuration in ladder.configurations]
    middle = [value for value, _, _ in shown]
    bars = [[value - low for value, low, _ in shown], [high - value for value, _, high in shown]]
    axes.errorbar(
        x, middle, yerr=bars, label=literal(name), color=colour, marker=marker, markersize=4, linewidth=1.2, elinewidth=0.9,
        capsize=2, drawstyle="steps-post",  # what has arrived of the next configuration gives nothing before it is whole
    )  # fmt: skip


def _is_accuracy(quality: Quality) -> bool:
    return quality.metric == "accuracy" and quality.unit == "fraction"


def _shown(quality: Quality) -> tuple[float, float, float]:
    """Value, lower and upper end as drawn: an accuracy as error in percent, anything else as it is."""
    low, high = quality.interval
    if _is_accuracy(quality):
        return 100 * (1 - quality.value), 100 * (1 - high), 100 * (1 - low)
    return quality.value, low, high


def _label(qualities: Sequence[Quality]) -> str:
    """What was measured, on which data and how; where ladders differ in the number of samples or in the interval, all of them."""
    quality = qualities[0]
    samples = " or ".join(f"{count:,}" for count in sorted({one.samples for one in qualities}))
    intervals = " or ".join(dict.fromkeys(f"{100 * one.confidence:g} % {one.interval_method}" for one in qualities))
    where = f"{quality.dataset} {quality.split}, {samples} samples, {intervals}"
    name = "error (%)" if _is_accuracy(quality) else f"{quality.metric} ({quality.unit})"
    return f"{name}\n{where}"


def _share_axis(axes: Axes, complete: list[int]) -> None:
    """Above: the share of the complete package, where all of them are of one size."""
    if max(complete) > min(complete) * (1 + SAME_SIZE):
        return
    whole = max(complete) / MEGA
    above = axes.secondary_xaxis(
        "top", functions=(lambda x: np.asarray(x, float) * (100 / whole), lambda share: np.asarray(share, float) * (whole / 100))
    )
    above.set_xlabel("share of the complete package (%)")


def _weights_line(axes: Axes, ladders: list[Ladder]) -> None:
    """Where a plain download of the float32 weights would end, if the ladders say it and agree."""
    sizes = {ladder.configurations[-1].extra.get("weights_bytes") for ladder in ladders}
    size = sizes.pop()
    if not sizes and isinstance(size, int):
        axes.axvline(size / MEGA, color=GREY, linestyle="--", linewidth=1, label=f"plain float32 weights ({size / MEGA:.2f} MB)")
