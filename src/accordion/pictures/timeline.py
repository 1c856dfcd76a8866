"""A fetch or an upgrade over time: bytes received, the configuration running, what it says about some pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from accordion.pictures.style import COLOURS, GREY, SETTINGS, literal, new_figure, plain, save
from accordion.pictures.timeline_data import Timeline

__all__ = ["draw_timeline"]

BLUE, ORANGE, GREEN = COLOURS[0], COLOURS[1], COLOURS[2]
MEGA = 1e6


def draw_timeline(timeline: Timeline, out: Path, *, title: str | None = None) -> tuple[Path, Path]:
    """Draws `timeline`; writes `out`.png and `out`.svg and returns the paths."""
    pictures = len(timeline.predictions[0].labels) if timeline.predictions else 0
    heights = [2.0, 1.5, *([0.5 + 0.3 * pictures] if pictures else [])]
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(7.2, sum(heights) + 0.6)
        grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})
        panels: Sequence[Axes] = [row[0] for row in grid]
        end = _end(timeline)
        _bytes(panels[0], timeline)
        _configurations(panels[1], timeline, end)
        if pictures:
            _predictions(panels[2], timeline, end)
        for panel in panels:
            panel.set_xlim(0, end)
            if timeline.deadline_s is not None:
                panel.axvline(timeline.deadline_s, color=GREY, linestyle="--", linewidth=1)
        if timeline.deadline_s is not None:
            panels[0].annotate(
                "deadline", (timeline.deadline_s, 1), xycoords=("data", "axes fraction"), xytext=(-3, -9), color=GREY,
                textcoords="offset points", ha="right",
            )  # fmt: skip
        panels[-1].set_xlabel("time since the call (s)")
        if title:
            panels[0].set_title(literal(title), loc="left")
        return save(figure, out)


def _end(timeline: Timeline) -> float:
    times = [timeline.received[-1][0], timeline.ready[-1][1], *(row.seconds for row in timeline.predictions)]
    return 1.05 * max(*times, timeline.deadline_s or 0.0) or 1.0  # an axis has a length, even where all was there at once


def _bytes(axes: Axes, timeline: Timeline) -> None:
    plain(axes)
    seconds = [time for time, _ in timeline.received]
    axes.plot(seconds, [count / MEGA for _, count in timeline.received], color=BLUE, linewidth=1.5)
    axes.fill_between(seconds, [count / MEGA for _, count in timeline.received], color=BLUE, alpha=0.15, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("bytes\nreceived (MB)")


def _configurations(axes: Axes, timeline: Timeline, end: float) -> None:
    plain(axes)
    seconds = [time for _, time in timeline.ready]
    axes.step([*seconds, end], [*(k for k, _ in timeline.ready), timeline.ready[-1][0]], where="post", color=ORANGE, linewidth=1.5)
    first, ready_at = timeline.ready[0]
    axes.plot([ready_at], [first], marker="o", color=ORANGE, markersize=5)
    axes.annotate(
        f"configuration {first} after {ready_at:.2f} s", (ready_at, first), xytext=(9, -10), textcoords="offset points", fontsize=8
    )
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.3)
    axes.set_ylabel("configuration\nrunning")


def _predictions(axes: Axes, timeline: Timeline, end: float) -> None:
    """A row for each picture; a box as long as its label holds; the stronger the colour, the surer the network."""
    rows = range(len(timeline.predictions[0].labels))
    times = [prediction.seconds for prediction in timeline.predictions] + [end]
    for row in rows:
        truth = timeline.truth[row] if timeline.truth is not None else timeline.predictions[-1].labels[row]
        begun = 0
        for index, prediction in enumerate(timeline.predictions):
            label = prediction.labels[row]
            colour = GREEN if label == truth else ORANGE
            strength = 0.2 + 0.6 * min(1.0, max(0.0, prediction.confidence[row]))
            width = times[index + 1] - times[index]
            axes.add_patch(Rectangle((times[index], row - 0.4), width, 0.8, facecolor=colour, alpha=strength, linewidth=0))
            last = index + 1 == len(timeline.predictions)
            if last or timeline.predictions[index + 1].labels[row] != label:
                _name(axes, label, times[begun], times[index + 1], row, end)
                begun = index + 1
    axes.set_ylim(len(rows) - 0.4, -0.6)
    names = [f"picture {row + 1}" for row in rows] if timeline.truth is None else [literal(label) for label in timeline.truth]
    axes.set_yticks(list(rows), names)
    axes.set_ylabel("picture" if timeline.truth is None else "picture of a …")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    same = "right" if timeline.truth is not None else "as the last configuration says"
    other = "wrong" if timeline.truth is not None else "something else"
    patches = [Rectangle((0, 0), 1, 1, facecolor=colour, alpha=0.6) for colour in (GREEN, ORANGE)]
    axes.legend(
        patches, [f"{same} (stronger: surer)", other], loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8
    )


WIDTH_OF_A_LETTER = 0.0125  # share of the axis that a letter of the labels' size takes, a little generous


def _name(axes: Axes, label: str, start: float, stop: float, row: int, end: float) -> None:
    axes.plot([start, start], [row - 0.4, row + 0.4], color="white", linewidth=1.5)
    if (stop - start) / end >= WIDTH_OF_A_LETTER * (len(label) + 1):
        axes.text((start + stop) / 2, row, literal(label), ha="center", va="center", fontsize=8)
