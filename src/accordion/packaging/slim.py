"""What a ladder says of itself before it travels: each thing once, and figures no finer than they were measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["slim"]

DIGITS = 3  # of a latency, whose runs differ in the second one


def slim(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The ladder's fields as they are packaged: it is the first thing of all that a device waits for.

    `latency_s` keeps its figures in each configuration; how it was measured, where that is the same for all, moves to the ladder's
    `latency`. `weights_bytes` stays with the complete configuration alone: it is what shares of bytes are shares of.
    """
    rows = [dict(row) for row in fields["configurations"]]
    for row in rows[:-1]:
        row.pop("weights_bytes", None)
    made = {**fields, "configurations": rows}
    latencies = [row.get("latency_s") for row in rows]
    if not all(isinstance(latency, Mapping) for latency in latencies):
        return made
    figures, circumstances = zip(*(_divided(latency) for latency in latencies if isinstance(latency, Mapping)), strict=True)
    if any(other != circumstances[0] for other in circumstances):
        return made
    for row, latency in zip(rows, figures, strict=True):
        row["latency_s"] = latency
    return {**made, "latency": circumstances[0]}


def _divided(latency: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures in seconds, and how they came about."""
    figures = {name: float(f"{value:.{DIGITS}g}") for name, value in latency.items() if isinstance(value, float)}
    return figures, {name: value for name, value in latency.items() if name not in figures}
