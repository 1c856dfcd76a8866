"""What a network said, for programs and for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accordion.artifact.tensor_spec import TensorSpec

__all__ = ["answer_lines", "as_lists", "top"]

Array = NDArray[Any]
FEW = 20  # figures of an output without labels that are shown


def as_lists(outputs: Mapping[str, Array]) -> dict[str, Any]:
    """Arrays as JSON values."""
    return {name: array.tolist() for name, array in outputs.items()}


def top(logits: Array, labels: Sequence[str]) -> list[tuple[str, float]]:
    """Logits [n, classes] → for each row the label and its probability (softmax)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = shifted / shifted.sum(axis=1, keepdims=True)
    return [(labels[int(row.argmax())], float(row.max())) for row in shares]


def answer_lines(outputs: Mapping[str, Array], specs: Sequence[TensorSpec]) -> list[str]:
    """A line for each row of an output with labels; else its shape and first figures."""
    lines = []
    by_name = {spec.name: spec for spec in specs}
    for name, array in outputs.items():
        labels = by_name[name].labels if name in by_name else None
        if labels and array.ndim == 2 and array.shape[1] == len(labels):
            lines += [f"{row + 1}: {label} ({share:.1%})" for row, (label, share) in enumerate(top(array, labels))]
        else:
            shown = ", ".join(f"{value:.5g}" for value in array.ravel()[:FEW])
            lines.append(f"{name} {list(array.shape)}: {shown}{', …' if array.size > FEW else ''}")
    return lines
