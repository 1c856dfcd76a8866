"""The methods, by name; each is one file with a `METHOD`."""

from __future__ import annotations

from experiments.comparisons.context import Method
from experiments.comparisons.methods import (
    alone,
    bit_planes,
    distilled,
    elastic,
    exits,
    finished,
    further,
    low_rank,
    plain,
    pruned,
    quantized,
    skipping,
    student_first,
)

__all__ = ["METHODS"]

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD
    for module in (
        plain,
        quantized,
        bit_planes,
        pruned,
        low_rank,
        further,
        alone,
        distilled,
        exits,
        skipping,
        student_first,
        elastic,
        finished,
    )
}
"""In the order of the tables."""
