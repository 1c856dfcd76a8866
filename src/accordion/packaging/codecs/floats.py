"""Floating-point types narrower than float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray

from accordion.packaging.codecs.interface import Builder, Encoded, Part, Weights

__all__ = ["BFloat16", "Float8", "Float16", "Float32"]

FLOAT, INT32 = int(onnx.TensorProto.FLOAT), int(onnx.TensorProto.INT32)
MOST_FLOAT16 = 65504.0
MOST_BFLOAT16 = (2 - 2.0**-7) * 2.0**127
MOST_FLOAT8 = 448.0


@dataclass(frozen=True, slots=True)
class Float32:
    """As it is."""

    name: str = "float32"
    joins: bool = True

    def encode(self, weight: Weights, hessian: NDArray[np.float64] | None = None) -> Encoded:
        return Encoded({"values": Part(weight)}, weight)

    def rebuild(self, build: Builder, parts: Mapping[str, str], shape: tuple[int, ...]) -> str:
        return parts["values"]


@dataclass(frozen=True, slots=True)
class Float16:
    """IEEE half precision; what is larger than it can hold becomes its largest number."""

    name: str = "float16"
    joins: bool = True

    def encode(self, weight: Weights, hessian: NDArray[np.float64] | None = None) -> Encoded:
        half = np.clip(weight, -MOST_FLOAT16, MOST_FLOAT16).astype(np.float16)
        return Encoded({"values": Part(half)}, half.astype(np.float32))

    def rebuild(self, build: Builder, parts: Mapping[str, str], shape: tuple[int, ...]) -> str:
        return build.op("Cast", parts["values"], to=FLOAT)


@dataclass(frozen=True, slots=True)
class BFloat16:
    """The upper half of a float32, rounded to nearest."""

    name: str = "bfloat16"
    joins: bool = True

    def encode(self, weight: Weights, hessian: NDArray[np.float64] | None = None) -> Encoded:
        half = np.clip(weight, -MOST_BFLOAT16, MOST_BFLOAT16).astype(ml_dtypes.bfloat16)
        return Encoded({"values": Part(half)}, half.astype(np.float32))

    def rebuild(self, build: Builder, parts: Mapping[str, str], shape: tuple[int, ...]) -> str:
        return build.op("Cast", parts["values"], to=FLOAT)


@dataclass(frozen=True, slots=True)
class Float8:
    """One byte a weight (4 bits of exponent, 3 of mantissa: E4M3), with one scale for each output channel.

    Opset 17 has no such type, so the byte travels as U8 and picks from a table of its 256 meanings, which is delivered once.
    """

    name: str = "float8"
    joins: bool = True

    def encode(self, weight: Weights, hessian: NDArray[np.float64] | None = None) -> Encoded:
        rows = weight.reshape(weight.shape[0], -1)
        most = np.abs(rows).max(axis=1, initial=0.0)
        stored = np.clip(most / MOST_FLOAT8 * 2.0**12, 2.0**-24, MOST_FLOAT16).astype(np.float16)
        scales = stored.astype(np.float32) * np.float32(2.0**-12)
        scaled = np.clip(rows / scales[:, None], -MOST_FLOAT8, MOST_FLOAT8)
        codes = scaled.astype(ml_dtypes.float8_e4m3fn)
        value = (codes.astype(np.float32) * scales[:, None]).reshape(weight.shape)
        return Encoded({"codes": Part(codes.view(np.uint8)), "scales": Part(stored, "values")}, value)

    def rebuild(self, build: Builder, parts: Mapping[str, str], shape: tuple[int, ...]) -> str:
        table = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float16)
        table = np.where(np.isfinite(table), table, np.float16(0))  # the two codes of no number, which never occur
        meanings = build.op("Cast", build.tensor(table, "float8"), to=FLOAT)
        picked = build.op("Gather", meanings, build.op("Cast", parts["codes"], to=INT32), axis=0)
        scales = build.op("Cast", parts["scales"], to=FLOAT)
        scales = build.op("Mul", scales, build.tensor(np.array(2.0**-12, np.float32)))
        scales = build.op("Reshape", scales, build.numbers(-1, *(1 for _ in shape[1:])))
        return build.op("Mul", build.op("Reshape", picked, build.numbers(-1, *shape[1:])), scales)
