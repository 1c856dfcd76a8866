"""The lattice: the error of every depth at every precision that is tried, measured on the validation split and kept in the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from accordion.artifact.atomic import write_file
from accordion.data import Split
from accordion.elastic import Order
from accordion.packaging.answers import correct, session_of
from accordion.packaging.encode import Encodings
from accordion.packaging.prepare import Prepared
from accordion.packaging.route import LatticePoint
from accordion.packaging.schemes import Scheme

__all__ = ["LATTICE_FILE", "PLANES", "Lattice", "Vector", "by_group", "measure_lattice", "vectors_to_try"]

PLANES = "planes"
"""The scheme through which `--codec auto` looks for a path."""

LATTICE_FILE = "lattice.json"
"""Of `--codec auto`; other codecs' figures stand beside it."""
SCHEMA_VERSION = 1

Vector = tuple[int, ...]
"""Planes by stage."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """`right[planes][k]` of `samples` pictures are answered right by depth k with `planes`."""

    samples: int
    right: Mapping[Vector, Sequence[int]]
    key: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[tuple[str, Vector], Sequence[int]] = field(default_factory=dict)

    def points(self, encodings: Encodings, prepared: Prepared, order: Order) -> list[LatticePoint]:
        """Each depth at each precision, once: a stage without blocks has 0 planes."""
        found: dict[tuple[int, Vector], LatticePoint] = {}
        for vector, counts in self.right.items():
            for depth, right in enumerate(counts):
                planes = tuple(count if blocks else 0 for count, blocks in zip(vector, order.by_stage(depth), strict=True))
                if (depth, planes) not in found:
                    size = _weight_bytes(encodings, prepared, depth, planes)
                    found[depth, planes] = LatticePoint(depth, planes, size, 1 - right / self.samples)
        return list(found.values())

    def write_route(
        self, path: Path, rounding: str, points: Sequence[LatticePoint], route: Sequence[LatticePoint], order: Order
    ) -> None:
        """Adds to the lattice's file the points that were weighed and the path that was found."""
        more = {
            "rounding": rounding,
            "by_stage": [list(order.by_stage(depth)) for depth in range(len(order))],
            "path": [_point_json(point) for point in route],
            "points": [_point_json(point) for point in points],
        }
        _write(path, self.key, self.measured, more)


def _point_json(point: LatticePoint) -> dict[str, Any]:
    return {"depth": point.depth, "planes": list(point.planes), "bytes": point.bytes, "error": round(point.error, 6)}


def vectors_to_try(stages: int, planes: int) -> list[Vector]:
    """The same number of planes in all stages, and one more in the first few or the last few."""
    found: list[Vector] = []
    for count in range(1, planes + 1):
        found.append((count,) * stages)
        if count < min(planes, 2):
            for first in range(1, stages):
                found.append((count + 1,) * first + (count,) * (stages - first))
                found.append((count,) * (stages - first) + (count + 1,) * first)
    return list(dict.fromkeys(found))


def measure_lattice(
    run: Path,
    prepared: Prepared,
    encodings: Encodings,
    chosen: Scheme,
    split: Split,
    order: Order,
    vectors: Sequence[Vector],
    *,
    rounding: str,
    dataset: str,
    progress: Callable[[str], None] = lambda line: None,
) -> Lattice:
    """Measures what `run`'s lattice file does not hold yet, vector by vector, and writes the file after each.

    Figures of other weights, another scheme, another rounding or another split are dropped.
    """
    assert prepared.joint is not None
    key = {
        "weights": _digest(prepared),
        "codec": chosen.name,
        "precision": chosen.blocks.name,
        "dataset": dataset,
        "split": "validation",
        "samples": len(split),
    }
    if _pruned(prepared, encodings):
        key["zeros"] = "kept"  # compensation once brought them back: such figures count no more
    path = lattice_file(run, chosen)
    rows = _read(path, key)
    for index, vector in enumerate(vectors):
        if (rounding, vector) in rows:
            continue
        progress(f"lattice: {len(split)} validation pictures at all depths, precision {index + 1} of {len(vectors)} {vector}")
        planes = by_group(vector)
        session = session_of(prepared.joint, partial(_content, encodings, planes))
        right = correct(session, split)
        rows[rounding, vector] = [int(count) for count in right.sum(axis=1)]
        _write(path, key, rows, {})
    return Lattice(len(split), {vector: rows[rounding, vector] for vector in vectors}, key, rows)


def _pruned(prepared: Prepared, encodings: Encodings) -> bool:
    assert prepared.joint is not None
    chosen = [array for array in prepared.joint.tensors.values() if id(array) in encodings.groups]
    return any(not array.all() for array in chosen if encodings.groups[id(array)].name.startswith("stage"))


def lattice_file(run: Path, chosen: Scheme) -> Path:
    """Where a run keeps what was measured by this codec."""
    return run / (LATTICE_FILE if chosen.name == PLANES else f"{LATTICE_FILE.removesuffix('.json')}-{chosen.name}.json")


def _content(encodings: Encodings, planes: Mapping[str, int], name: str, array: NDArray[Any]) -> NDArray[Any]:
    return encodings.value(array, planes)


def by_group(vector: Vector) -> dict[str, int]:
    """Planes by the name of the group, as `groups_of` names them."""
    return {f"stage{index + 1}": count for index, count in enumerate(vector)}


def _write(path: Path, key: Mapping[str, Any], rows: Mapping[tuple[str, Vector], Sequence[int]], more: Mapping[str, Any]) -> None:
    """The file, whole: what was measured, and what was found from it."""
    measured = [{"rounding": rounding, "planes": list(v), "right": list(counts)} for (rounding, v), counts in rows.items()]
    lines = json.dumps({"schema_version": SCHEMA_VERSION, **key, **more, "measured": measured})
    write_file(path, lines.encode() + b"\n")


def _read(path: Path, key: Mapping[str, Any]) -> dict[tuple[str, Vector], Sequence[int]]:
    """What an earlier call left; nothing if it is about something else, or damaged: then it is measured again."""
    try:
        value = json.loads(path.read_text())
        if value["schema_version"] != SCHEMA_VERSION or any(value[name] != wanted for name, wanted in key.items()):
            return {}
        return {(row["rounding"], tuple(row["planes"])): [int(n) for n in row["right"]] for row in value["measured"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _digest(prepared: Prepared) -> str:
    """Of all weights of all configurations."""
    digest = hashlib.sha256()
    for graph in prepared.graphs:
        for name, array in sorted(graph.tensors.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
            digest.update(hashlib.sha256(array.tobytes()).digest())
    return digest.hexdigest()


def _weight_bytes(encodings: Encodings, prepared: Prepared, depth: int, planes: Vector) -> int:
    """Bytes of the encoded tensors of one configuration, as they travel."""
    counts = by_group(planes)
    total = 0
    for array in {id(array): array for array in prepared.graphs[depth].tensors.values()}.values():
        group = encodings.groups.get(id(array))
        if group is not None:
            total += sum(encodings.sizes(array)[: counts.get(group.name, len(group.precision))])
    return total
