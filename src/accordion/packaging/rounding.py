"""What packaging does to a weight, told to a training that makes the weight fit for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accordion.errors import UsageError
from accordion.packaging.codecs import Integer, Precision, Sparse, by_name, encode_planes
from accordion.packaging.schemes import SCHEMES
from accordion.training import Rounded

__all__ = ["rounding"]


def rounding(weight: NDArray[np.float32], name: str, outside: bool = False) -> Rounded:
    """A tensor [out, …] as packaging with the codec called `name` keeps it: the scales of each plane, and their sum.

    `name` may also be a precision that is a point of a path, such as `int4+4`. `outside` is for the weights that lie outside of
    all blocks. Nothing is compensated: that depends on data, and finds nothing to do where training was the compensation.
    UsageError for a codec whose weights are not integers with one scale for each output channel.
    """
    precision = _precision(name, outside)
    planes = []
    encoded = encode_planes(precision, np.ascontiguousarray(weight, np.float32))
    for codec, part in zip(precision.planes, encoded, strict=True):
        if not isinstance(codec, Integer | Sparse):
            raise UsageError(f"{name} needs no finishing: name a codec of integers, such as int4 or int8")
        planes.append((codec.bits, codec.scales(np.asarray(part.parts["scales"].array, np.float16))))
    value = encoded[0].value
    for part in encoded[1:]:
        value = value + part.value
    return Rounded(tuple(planes), value)


def _precision(name: str, outside: bool) -> Precision:
    if name in SCHEMES:
        return SCHEMES[name].outside if outside else SCHEMES[name].blocks
    return SCHEMES["planes"].outside if outside else by_name(name)
