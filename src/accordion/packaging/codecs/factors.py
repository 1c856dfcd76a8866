"""Low-rank factors, where they pay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from accordion.packaging.codecs.integers import Integer, quantize
from accordion.packaging.codecs.interface import Builder, Encoded, Part, Weights

__all__ = ["LowRank"]

WORSE = 4.0
"""How much larger the squared error may be than that of the dense form: one bit less of precision is a factor of four."""

MOST_RANK = 1024
"""Sums of so many products of two 8-bit integers are exact in float32, so every runtime gets the same weights."""

FLOAT = int(onnx.TensorProto.FLOAT)
_INTEGER = Integer(8)


@dataclass(frozen=True, slots=True)
class LowRank:
    """A weight [out, …] as a product of 8-bit integers [out, r] and [r, …] times one scale a row, where that takes fewer bytes.

    Decided tensor by tensor: of all ranks that save bytes, the smallest whose error is at most `WORSE` times that of the dense
    form; if there is none, the dense form travels. Trained 3 × 3 convolutions have no such rank (docs/decisions/0022); matrices
    that are wide, or were trained to be of low rank, may.
    """

    name: str = "lowrank8"
    joins: bool = False  # what travels differs from tensor to tensor

    def encode(self, weight: Weights, hessian: NDArray[np.float64] | None = None) -> Encoded:
        rows = np.ascontiguousarray(weight.reshape(weight.shape[0], -1))
        dense = _INTEGER.encode(weight)
        allowed = WORSE * _squared(dense.value - weight)
        _, s, v = np.linalg.svd(rows.astype(np.float64), full_matrices=False)
        lost = np.append(np.cumsum((s**2)[::-1])[::-1], 0.0)  # lost[r]: with rank r, before any rounding
        for rank in range(1, min(MOST_RANK, len(s)) + 1):
            if rank * sum(rows.shape) + 2 * len(rows) >= dense.nbytes:
                break
            if lost[rank] > allowed:
                continue
            _, right = quantize(np.ascontiguousarray(v[:rank], np.float32), 8)
            # The left factor that fits the rounded right one best; it takes the right one's scales in.
            ideal = np.linalg.lstsq(right.T.astype(np.float64), rows.T.astype(np.float64), rcond=None)[0].T
            stored, left = quantize(np.ascontiguousarray(ideal, np.float32), 8, _LEFT)
            value = (left.astype(np.float32) @ right.astype(np.float32)) * _scales(stored)[:, None]
            if _squared(value - rows) <= allowed:
                parts = {"left": Part(left.astype(np.int8)), "right": Part(right.astype(np.int8)), "scales": Part(stored, "values")}
                return Encoded(parts, value.reshape(weight.shape))
        return dense

    def rebuild(self, build: Builder, parts: Mapping[str, str], shape: tuple[int, ...]) -> str:
        if "codes" in parts:
            return _INTEGER.rebuild(build, parts, shape)
        product = build.op("MatMul", *(build.op("Cast", parts[side], to=FLOAT) for side in ("left", "right")))
        scales = build.op("Cast", parts["scales"], to=FLOAT)
        scales = build.op("Mul", scales, build.tensor(np.array(2.0**_LEFT, np.float32)))
        made = build.op("Mul", product, build.op("Reshape", scales, build.numbers(-1, 1)))
        return build.op("Reshape", made, build.numbers(*shape))


_LEFT = -16  # a scale is that of a weight divided by a hundred


def _scales(stored: NDArray[np.float16]) -> NDArray[np.float32]:
    return stored.astype(np.float32) * np.float32(2.0**_LEFT)


def _squared(difference: NDArray[np.float32]) -> float:
    return float((difference.astype(np.float64) ** 2).sum())
