"""Delivered accuracy over measured links: for every way, set of traces, deadline and scale of bytes.

A device asks at a random moment of a random trace (evenly spaced moments; every trace counts alike), three measured round trips
pass, and then what the trace brings arrives. Delivered is the accuracy of what runs at the deadline, nothing where nothing does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accordion.errors import FormatError
from accordion.training.matched import ROUND_TRIPS
from experiments.data_files import read_object, write_object
from experiments.delivery.cases import DEADLINES_S, MATCHED, PARTS, SCALES, SETS, TRACES, link, part, traces
from experiments.delivery.ways import Way
from experiments.outcome import DATA

__all__ = ["ALL", "FILE", "ZOO", "Row", "read_rows", "simulate", "write_rows"]

FILE = DATA / "delivered" / "delivered.json"
ALL = "all"
ZOO = "zoo"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Row:
    """`accuracy[i]` is delivered within `DEADLINES_S[i]`. `group` tells networks apart that are not to be compared by size."""

    group: str
    traces: str
    part: str
    scale: int
    way: str
    seed: int
    accuracy: tuple[float, ...]


def simulate(
    ways: Mapping[tuple[str, int], Sequence[Way]], folder: Path = TRACES, progress: Callable[[str], None] = lambda line: None
) -> list[Row]:
    """`ways` by (group, seed). UsageError without the traces."""
    rows = []
    for name in SETS:
        found, _ = traces(name, folder)
        cases = [(ALL, tuple(found))] + ([(which, part(found, which)) for which in PARTS] if name == MATCHED[0] else [])
        for which, chosen in cases:
            progress(f"{name}: {which}, {len(chosen)} traces")
            arrived, weights = link(chosen, folder).arrived(DEADLINES_S, ROUND_TRIPS)
            weights = weights / weights.sum()
            for scale in SCALES:
                for (group, seed), those in ways.items():
                    for way in those:
                        mean = weights @ way.delivered(arrived, scale)
                        accuracy = tuple(round(float(value), 6) for value in np.asarray(mean))
                        rows.append(Row(group, name, which, scale, way.name, seed, accuracy))
    return rows


def write_rows(rows: Sequence[Row], path: Path = FILE) -> Path:
    """Whole or not at all."""
    made: list[dict[str, Any]] = [
        {
            "group": row.group,
            "traces": row.traces,
            "part": row.part,
            "scale": row.scale,
            "way": row.way,
            "seed": row.seed,
            "accuracy": list(row.accuracy),
        }
        for row in rows
    ]
    return write_object(path, {"schema_version": SCHEMA_VERSION, "deadlines_s": list(DEADLINES_S), "rows": made})


def read_rows(path: Path = FILE) -> list[Row]:
    """Empty if there is no such file. FormatError if it is something else, or for other deadlines."""
    if not path.exists():
        return []
    data = read_object(path, "what was delivered")
    try:
        if data["schema_version"] != SCHEMA_VERSION or tuple(data["deadlines_s"]) != DEADLINES_S:
            raise ValueError("another version, or other deadlines")
        return [
            Row(
                str(row["group"]),
                str(row["traces"]),
                str(row["part"]),
                int(row["scale"]),
                str(row["way"]),
                int(row["seed"]),
                tuple(float(value) for value in row["accuracy"]),
            )
            for row in data["rows"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} does not say what was delivered: {error}") from error
