"""Integers of 4 or 8 bits with one scale for each output channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from accordion.errors import UsageError
from accordion.packaging.codecs.compensation import compensate
from accordion.packaging.codecs.interface import Builder, Encoded, Part, Weights

__all__ = ["Integer", "quantize", "rounded", "scales_of"]

CLIPS = np.concatenate([np.linspace(0.30, 0.94, 33), np.linspace(0.95, 1.05, 11)])
"""Where the range may end, as fractions of the row's largest magnitude: cutting off a few large weights makes all others finer."""

FLOAT = int(onnx.TensorProto.FLOAT)


@dataclass(frozen=True, slots=True)
class Integer:
    """Weight ≈ code × scale, with codes of `bits` bits from −2^(bits−1) to 2^(bits−1)−1, one scale an output channel.

    A scale is a float16 times 2^`exponent`, so that the scales of finer planes stay in float16's range; it may be negative, which
    puts the one more code of the negative side where the larger weights are. Codes travel as code + 2^(bits−1), two 4-bit codes a
    byte, the first in the low half, each row beginning with a byte of its own.
    """

    bits: int
    exponent: int = -8

    @property
    def name(self) -> str:
        return f"int{self.bits}"

    @property
    def joins(self) -> bool:
        return True

    def encode(self, weight: Weights, hessian: NDArray[np.float64] | None = None) -> Encoded:
        """Scales of least squared error; with `hessian`, codes of least error in what the layer gives (see `compensate`).

        With 8 bits rounding to nearest loses nothing that could be measured, so they are left at that.
        """
        rows = weight.reshape(weight.shape[0], -1)
        stored, codes = rounded(rows, self.bits, self.exponent, hessian)
        scales = self.scales(stored)
        value = (codes.astype(np.float32) * scales[:, None]).reshape(weight.shape)
        raised = (codes + 2 ** (self.bits - 1)).astype(np.uint8)
        return Encoded({"codes": Part(_pack(raised) if self.bits == 4 else raised), "scales": Part(stored, "values")}, value)

    def scales(self, stored: NDArray[np.float16]) -> NDArray[np.float32]:
        """The float32 scales that the graph makes of the stored ones."""
        return scales_of(stored, self.exponent)

    def rebuild(self, build: Builder, parts: Mapping[str, str], shape: tuple[int, ...]) -> str:
        """Codes to float32, centred, to their shape, times the scales."""
        inner = int(np.prod(shape[1:], dtype=np.int64))
        codes = parts["codes"]
        if self.bits == 4:
            codes = _unpack(build, codes, inner)
        centred = build.op("Sub", build.op("Cast", codes, to=FLOAT), build.tensor(np.array(2.0 ** (self.bits - 1), np.float32)))
        scales = build.op("Cast", parts["scales"], to=FLOAT)
        scales = build.op("Mul", scales, build.tensor(np.array(2.0**self.exponent, np.float32)))
        scales = build.op("Reshape", scales, build.numbers(-1, *(1 for _ in shape[1:])))
        return build.op("Mul", build.op("Reshape", centred, build.numbers(-1, *shape[1:])), scales)


def scales_of(stored: NDArray[np.float16], exponent: int) -> NDArray[np.float32]:
    """The float32 scales that graphs make of the stored ones."""
    return stored.astype(np.float32) * np.float32(2.0**exponent)


def rounded(
    rows: Weights, bits: int, exponent: int, hessian: NDArray[np.float64] | None
) -> tuple[NDArray[np.float16], NDArray[np.int16]]:
    """As `quantize`; with `hessian`, codes of fewer than 8 bits are compensated."""
    stored, codes = quantize(rows, bits, exponent)
    if hessian is not None and bits < 8:
        codes = compensate(rows, scales_of(stored, exponent), bits, hessian)
    return stored, codes


def quantize(rows: Weights, bits: int, exponent: int = -8) -> tuple[NDArray[np.float16], NDArray[np.int16]]:
    """The stored scales [m] and codes [m, n] of `rows` [m, n] with the least squared error by row, over `CLIPS` and both signs.

    The weight that comes back is codes × (float32(stored) × 2^exponent). Training that prepares a network for this codec has to
    round exactly like this, on weights into which the norms are already folded.

    UsageError unless `rows` are finite and `bits` lie within 2 to 15.
    """
    if not 2 <= bits <= 15 or not np.isfinite(rows).all():
        raise UsageError(f"weights that are finite become codes of 2 to 15 bits; these are of {bits}, or not finite")
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    most = np.abs(rows).max(axis=1, initial=0.0)
    # The larger side takes the larger half of the range: the sign that makes it negative comes first and wins ties.
    best = np.full(len(rows), np.inf)
    kept = np.zeros(len(rows), np.float16)
    codes = np.zeros(rows.shape, np.int16)
    for clip in CLIPS[::-1]:
        for side in (-1.0, 1.0):
            ideal = side * clip * most / -low * 2.0**-exponent
            stored = np.clip(ideal, -65504, 65504).astype(np.float16)
            scales = stored.astype(np.float32) * np.float32(2.0**exponent)
            safe = np.where(scales == 0, np.float32(1), scales)[:, None]
            found = np.clip(np.rint(rows / safe), low, high)
            found[scales == 0] = 0
            error = ((rows.astype(np.float64) - found * scales[:, None]) ** 2).sum(axis=1)
            better = error < best
            best[better], kept[better], codes[better] = error[better], stored[better], found[better]
    return kept, codes


def _pack(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[m, n] of 0..15 → [m, ⌈n/2⌉], the first code of two in the low half."""
    if codes.shape[1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
    return codes[:, 0::2] | (codes[:, 1::2] * np.uint8(16))


def _unpack(build: Builder, packed: str, inner: int) -> str:
    """[m, ⌈n/2⌉] → [m, n] of 0..15, still U8."""
    high = build.op("BitShift", packed, build.tensor(np.array(4, np.uint8)), direction="RIGHT")
    low = build.op("Mod", packed, build.tensor(np.array(16, np.uint8)))
    half = (inner + 1) // 2
    pairs = [build.op("Reshape", value, build.numbers(-1, half, 1)) for value in (low, high)]
    codes = build.op("Reshape", build.op("Concat", *pairs, axis=2), build.numbers(-1, 2 * half))
    if inner % 2:
        codes = build.op("Slice", codes, build.numbers(0), build.numbers(inner), build.numbers(1))
    return codes
