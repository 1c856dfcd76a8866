"""Pruned weights: a bit for each place says whether something is there, and only that travels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from accordion.packaging.codecs.integers import rounded, scales_of
from accordion.packaging.codecs.interface import Builder, Encoded, Part, Weights

__all__ = ["Sparse", "scattered"]

FLOAT, INT32 = int(onnx.TensorProto.FLOAT), int(onnx.TensorProto.INT32)


@dataclass(frozen=True, slots=True)
class Sparse:
    """Integers of 4 or 8 bits, as `Integer` makes them, without those that are zero.

    `present` holds a bit for each weight, eight a byte, the first in the lowest, each row beginning with a byte of its own; `codes`
    the others as code + 2^(bits−1), two 4-bit ones a byte. A bit a weight is less than a byte for each one that is left, which
    distances between them would take, unless fewer than one in eight is left. It is smaller than the dense form when more than a
    quarter of the weights is zero at 4 bits, an eighth at 8.
    """

    bits: int
    exponent: int = -8

    @property
    def name(self) -> str:
        return f"sparse{self.bits}"

    @property
    def joins(self) -> bool:
        return True

    def encode(self, weight: Weights, hessian: NDArray[np.float64] | None = None) -> Encoded:
        """As `Integer` does; with `hessian`, too, what is zero stays zero."""
        rows = weight.reshape(weight.shape[0], -1)
        stored, codes = rounded(rows, self.bits, self.exponent, hessian)
        scales = self.scales(stored)
        value = (codes.astype(np.float32) * scales[:, None]).reshape(weight.shape)
        wide = np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8)))
        present = wide != 0
        if self.bits == 4 and int(present.sum()) % 2:
            # Pairs must come out even, or those of the next tensor would be torn: one zero travels, from a row or its padding.
            present.flat[int(np.argmin(present))] = True
        left = (wide[present] + 2 ** (self.bits - 1)).astype(np.uint8)
        if self.bits == 4:
            left = left[0::2] | (left[1::2] * np.uint8(16))
        bits = np.packbits(present, axis=1, bitorder="little")
        return Encoded({"codes": Part(left), "present": Part(bits, "values"), "scales": Part(stored, "values")}, value)

    def scales(self, stored: NDArray[np.float16]) -> NDArray[np.float32]:
        """The float32 scales that the graph makes of the stored ones."""
        return scales_of(stored, self.exponent)

    def rebuild(self, build: Builder, parts: Mapping[str, str], shape: tuple[int, ...]) -> str:
        """Codes, centred, at the places where a bit says so."""
        codes = parts["codes"]
        if self.bits == 4:
            high = build.op("BitShift", codes, build.tensor(np.array(4, np.uint8)), direction="RIGHT")
            low = build.op("Mod", codes, build.tensor(np.array(16, np.uint8)))
            pairs = [build.op("Reshape", value, build.numbers(-1, 1)) for value in (low, high)]
            codes = build.op("Reshape", build.op("Concat", *pairs, axis=1), build.numbers(-1))
        offset = 2 ** (self.bits - 1)
        codes = build.op("Concat", build.tensor(np.array([offset], np.uint8)), codes, axis=0)
        centred = build.op("Sub", build.op("Cast", codes, to=FLOAT), build.tensor(np.array(float(offset), np.float32)))
        scales = build.op("Cast", parts["scales"], to=FLOAT)
        scales = build.op("Mul", scales, build.tensor(np.array(2.0**self.exponent, np.float32)))
        scales = build.op("Reshape", scales, build.numbers(-1, *(1 for _ in shape[1:])))
        return build.op("Mul", scattered(build, parts["present"], centred, shape), scales)


def scattered(build: Builder, present: str, values: str, shape: tuple[int, ...]) -> str:
    """The name of a tensor of `shape` that has `values` in turn where `present` has a bit, and values[0], a zero, elsewhere.

    `present`: uint8, a bit for each place, each row of the first axis filled up to whole bytes. The running count of bits is the
    place of each weight among those that travelled.
    """
    inner = int(np.prod(shape[1:], dtype=np.int64))
    width = -(-inner // 8)
    column = build.op("Reshape", present, build.numbers(-1, width, 1))
    shifted = build.op("BitShift", column, build.tensor(np.arange(8, dtype=np.uint8)), direction="RIGHT")
    bits = build.op("Mod", shifted, build.tensor(np.array(2, np.uint8)))
    bits = build.op("Cast", build.op("Reshape", bits, build.numbers(-1)), to=INT32)
    places = build.op("Mul", build.op("CumSum", bits, build.tensor(np.array(0, np.int64))), bits)
    dense = build.op("Reshape", build.op("Gather", values, places, axis=0), build.numbers(-1, 8 * width))
    if inner % 8:
        dense = build.op("Slice", dense, build.numbers(0), build.numbers(inner), build.numbers(1))
    return build.op("Reshape", dense, build.numbers(-1, *shape[1:]))
