"""A path through depth × precision as a file, so that a package can be made again, or after somebody's own wishes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accordion.artifact.strict_json import Fields, parse_object
from accordion.elastic import Order
from accordion.errors import FormatError, StorageError, UsageError
from accordion.packaging.lattice import Vector
from accordion.packaging.schemes import Scheme, scheme

__all__ = ["ROUNDINGS", "Route", "fill", "read_route"]

NEAREST, COMPENSATED = "nearest", "compensated"
ROUNDINGS = (NEAREST, COMPENSATED)
LIMIT = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Route:
    """`steps`: for each configuration of the ladder the network's own configuration and the planes by stage."""

    scheme: Scheme
    rounding: str
    steps: tuple[tuple[int, Vector], ...]


def read_route(path: Path, order: Order) -> Route:
    """What `lattice.json` holds after `--codec auto`: `codec`, `rounding` and `path`, a list of `{depth, planes}`.

    UsageError if the path does not lead upwards to the complete network, FormatError if the file is something else.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(LIMIT + 1)
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror or error}") from error
    fields = Fields(parse_object(raw, str(path), LIMIT), str(path))
    chosen, rounding = scheme(fields.text("codec")), fields.text("rounding")
    if rounding not in ROUNDINGS:
        raise FormatError(f"{path}: unknown rounding {rounding!r}: choose {' or '.join(ROUNDINGS)}")
    steps = []
    for index, row in enumerate(fields.items("path", most=10_000)):
        step = Fields(row, f"{path}: step {index} of the path")
        steps.append((step.whole("depth"), step.wholes("planes")))
    return Route(chosen, rounding, fill(steps, order, len(chosen.blocks), str(path)))


def fill(steps: Sequence[tuple[int, Sequence[int]]], order: Order, most: int, what: str) -> tuple[tuple[int, Vector], ...]:
    """The steps, each stage that has no block yet with the planes that its first blocks will have. UsageError names a bad step."""
    stages = len(order.stages)
    if not steps:
        raise UsageError(f"{what}: the path has no step")
    checked: list[tuple[int, Vector]] = []
    for index, (depth, planes) in enumerate(steps):
        if depth >= len(order) or len(planes) != stages:
            raise UsageError(f"{what}: step {index} does not fit a network of {len(order)} configurations and {stages} stages")
        blocks = order.by_stage(depth)
        clean = tuple(count if some else 0 for count, some in zip(planes, blocks, strict=True))
        if any(some and not 1 <= count <= most for count, some in zip(clean, blocks, strict=True)):
            raise UsageError(f"{what}: step {index} asks for other than 1 to {most} planes")
        if checked:
            before_depth, before = checked[-1]
            rises = depth >= before_depth and all(a <= b for a, b in zip(before, clean, strict=True))
            if not rises or (depth, clean) == (before_depth, before):
                raise UsageError(f"{what}: step {index} does not go on from the one before: depth and planes may only grow")
        checked.append((depth, clean))
    if checked[-1] != (len(order) - 1, (most,) * stages):
        raise UsageError(f"{what}: the path must end with the complete network and all {most} planes")
    filled = list(checked)
    later = (most,) * stages
    for index in range(len(filled) - 1, -1, -1):
        depth, planes = filled[index]
        later = tuple(count or after for count, after in zip(planes, later, strict=True))
        filled[index] = (depth, later)
    return tuple(filled)
