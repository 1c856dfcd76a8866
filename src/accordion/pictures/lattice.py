"""The lattice of depth × precision with the path that was found: what was measured, and where the path goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

from accordion.artifact.strict_json import Fields, parse_object
from accordion.errors import FormatError, StorageError
from accordion.pictures.style import COLOURS, GREY, MARKERS, SETTINGS, literal, new_figure, plain, save

__all__ = ["LatticePicture", "draw_lattice", "read_lattice"]

LIMIT = 16 * 2**20
KILO = 1e3
MOST_PLANES = 64  # no number that is encoded has more bits


@dataclass(frozen=True, slots=True)
class Spot:
    """One measured point: `planes` by stage, 0 where the stage has no block; `error` in 0..1."""

    depth: int
    planes: tuple[int, ...]
    bytes: int
    error: float


@dataclass(frozen=True, slots=True)
class LatticePicture:
    """What `lattice.json` of a run says."""

    dataset: str
    samples: int
    points: tuple[Spot, ...]
    path: tuple[Spot, ...]


def read_lattice(source: Path) -> LatticePicture:
    """Reads what `accordion package --codec auto` left in the run. FormatError if there is no path in it."""
    try:
        with source.open("rb") as stream:
            raw = stream.read(LIMIT + 1)
    except OSError as error:
        raise StorageError(f"can't read {source}: {error.strerror or error}") from error
    fields = Fields(parse_object(raw, str(source), LIMIT), str(source))
    if not fields.has("path"):
        raise FormatError(f"{source} holds no path yet: package the run with --codec auto")
    points, path = (
        tuple(_spot(row, f"{source}: {name}") for row in fields.items(name, most=100_000)) for name in ("points", "path")
    )
    if not points or not path:
        raise FormatError(f"{source} holds no {'path' if points else 'points'} yet: package the run with --codec auto")
    if len({len(spot.planes) for spot in (*points, *path)}) > 1:
        raise FormatError(f"{source}: its points are not of one network: some have planes for more stages than others")
    return LatticePicture(fields.text("dataset"), fields.whole("samples", least=1), points, path)


def draw_lattice(lattice: LatticePicture, out: Path, *, title: str | None = None) -> tuple[Path, Path]:
    """Left: bytes of weights and error of every point, the path through them. Right: planes by stage along the path."""
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(9.6, 4.4)
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        for axes in (left, right):
            plain(axes)
        _points(left, lattice)
        _steps(right, lattice)
        left.set_title(literal(title or f"{lattice.samples:,} {lattice.dataset} validation pictures"), loc="left")
        return save(figure, out)


def _points(axes: Any, lattice: LatticePicture) -> None:
    groups: dict[str, list[Spot]] = {}
    for spot in lattice.points:
        counts = sorted({count for count in spot.planes if count})
        label = (" and ".join(map(str, counts)) or "no") + (" plane" if counts == [1] else " planes")
        groups.setdefault(label, []).append(spot)
    for (label, spots), colour, marker in zip(sorted(groups.items()), COLOURS[1:], MARKERS[1:], strict=False):
        x, y = [spot.bytes / KILO for spot in spots], [100 * spot.error for spot in spots]
        axes.scatter(x, y, label=label, color=colour, marker=marker, s=14, alpha=0.7, linewidths=0)
    x, y = [spot.bytes / KILO for spot in lattice.path], [100 * spot.error for spot in lattice.path]
    axes.plot(x, y, label="path", color=COLOURS[0], marker=MARKERS[0], markersize=4, linewidth=1.2)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("bytes of encoded weights (kB)")
    axes.set_ylabel("error (%)")
    axes.legend(frameon=False)


def _steps(axes: Any, lattice: LatticePicture) -> None:
    """Depth along the path by precision: a step to the right is deeper, a step up more precise."""
    stages = len(lattice.path[0].planes)
    depths = [spot.depth for spot in lattice.path]
    for stage in range(stages):
        here = [(spot.depth, spot.planes[stage]) for spot in lattice.path if spot.planes[stage]]
        shift = (stage - (stages - 1) / 2) * 0.08  # so that stages of equal precision don't hide each other
        axes.plot(
            [depth for depth, _ in here],
            [planes + shift for _, planes in here],
            label=f"stage {stage + 1}",
            color=COLOURS[stage % len(COLOURS)],
            marker=MARKERS[stage % len(MARKERS)],
            markersize=4,
            linewidth=1.2,
        )
    most = max(1, *(max(spot.planes) for spot in (*lattice.points, *lattice.path)))
    axes.set_yticks(range(1, most + 1))
    axes.set_ylim(0.5, most + 0.5)
    axes.set_xlim(min(depths) - 0.5, max(depths) + 0.5)
    axes.set_xlabel("the network's own configuration")
    axes.set_ylabel("planes")
    axes.legend(frameon=False)
    axes.tick_params(colors=GREY)


def _spot(data: object, where: str) -> Spot:
    fields = Fields(data, where)
    error = fields.get("error")
    if isinstance(error, bool) or not isinstance(error, int | float) or not 0 <= error <= 1:
        raise FormatError(f"{where}: the error {str(error)[:40]!r} is no fraction")
    planes = fields.wholes("planes")
    if not planes or max(planes) > MOST_PLANES:
        raise FormatError(f"{where}: the planes {str(list(planes))[:40]} are not a number from 0 to {MOST_PLANES} for each stage")
    return Spot(fields.whole("depth"), planes, fields.whole("bytes"), float(error))
