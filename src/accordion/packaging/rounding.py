"""What packaging does to a weight, told to a training that makes the weight fit for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accordion.errors import UsageError
from accordion.packaging.codecs import Integer, by_name, encode_planes
from accordion.training import Rounded

__all__ = ["rounding"]


def rounding(weight: NDArray[np.float32], precision: str) -> Rounded:
    """A tensor [out, …] as the planes of `precision` keep it, without compensation: the scales of each plane and the sum.

    UsageError for a precision that is not made of integers with one scale for each output channel.
    """
    planes = []
    named = by_name(precision)
    encoded = encode_planes(named, np.ascontiguousarray(weight, np.float32))
    for codec, part in zip(named.planes, encoded, strict=True):
        if not isinstance(codec, Integer):
            raise UsageError(f"{precision} needs no finishing: name a precision of integers, such as int4 or int8")
        stored = np.asarray(part.parts["scales"].array, np.float16)
        planes.append((codec.bits, codec.scales(stored)))
    value = encoded[0].value
    for part in encoded[1:]:
        value = value + part.value
    return Rounded(tuple(planes), value)
