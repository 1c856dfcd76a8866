"""What a network may be given, as its ladder says it."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from accordion.artifact.tensor_spec import TensorSpec
from accordion.errors import UsageError

__all__ = ["check_range"]

BEYOND = 1e-6  # of the range's width: how far arithmetic on the way may have carried a value


def check_range(array: NDArray[Any], spec: TensorSpec, where: str) -> None:
    """UsageError, as a sentence about `where`, if a value lies outside of the input's range, or is no number.

    A network answers anything, so pictures in 0..255 where it takes 0..1 would show in nothing but wrong answers.
    """
    if spec.range is None or not array.size or array.dtype.kind not in "biuf":
        return
    low, high = spec.range
    slack = BEYOND * max(1.0, high - low)
    if not (low - slack <= array.min() and array.max() <= high + slack):
        raise UsageError(
            f"{where} holds values from {array.min():g} to {array.max():g}; the input {spec.name!r} takes {low:g} to {high:g}"
        )
