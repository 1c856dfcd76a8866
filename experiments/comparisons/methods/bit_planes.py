"""Bit planes of a plain network: the most significant bits of all weights first, then the next ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from accordion.packaging.codecs import Builder, Encoded, Part, Precision
from accordion.packaging.codecs.interface import Weights
from accordion.packaging.encode import Encodings, Group, Point, encode_graphs, weights_of
from accordion.packaging.graph import Graph
from accordion.profiling import count_macs, count_parameters
from experiments.comparisons.bases import plain
from experiments.comparisons.context import Context, Made, Method
from experiments.comparisons.files import Folded, Piece, folded, ship
from experiments.comparisons.methods.common import example, folder_of, measured
from experiments.comparisons.outcome import Training

__all__ = ["METHOD", "PLANES", "in_planes"]

BITS, PLANES = 2, 8
"""The paper's default: 16 bits in eight parts of two."""

FLOAT, LEVELS = int(onnx.TensorProto.FLOAT), 2**BITS
NEEDS = "a new session with each plane"


@dataclass(frozen=True, slots=True)
class Plane:
    """Two bits of every weight, four weights a byte.

    Plane 1 begins at the tensor's least weight. What later bits would add counts as half of what it can be, so later planes lie
    around zero.
    """

    number: int
    name: str = "bits"
    joins: bool = True

    def encode(self, weight: Weights, hessian: NDArray[np.float64] | None = None) -> Encoded:
        """What this plane brings of the tensor `weight` itself, whatever the planes before it bring."""
        return in_planes(weight)[self.number - 1]

    def rebuild(self, build: Builder, parts: Mapping[str, str], shape: tuple[int, ...]) -> str:
        """Codes out of bytes, (code + ½) · step + start."""
        inner = int(np.prod(shape[1:], dtype=np.int64))
        packed = -(-inner // 4)
        column = build.op("Reshape", parts["codes"], build.numbers(-1, packed, 1))
        shifted = build.op("BitShift", column, build.tensor(np.array([0, 2, 4, 6], np.uint8)), direction="RIGHT")
        codes = build.op("Mod", shifted, build.tensor(np.array(LEVELS, np.uint8)))
        codes = build.op("Reshape", build.op("Cast", codes, to=FLOAT), build.numbers(-1, 4 * packed))
        if inner % 4:
            codes = build.op("Slice", codes, build.numbers(0), build.numbers(inner), build.numbers(1))
        steps, starts = (build.op("Reshape", parts[role], build.numbers(-1, 1)) for role in ("steps", "starts"))
        moved = build.op("Add", build.op("Mul", codes, steps), starts)
        return build.op("Reshape", moved, build.numbers(-1, *shape[1:]))


PRECISION = Precision("bit planes", tuple(Plane(number) for number in range(1, PLANES + 1)))


def in_planes(weight: Weights, precision: Precision = PRECISION) -> list[Encoded]:
    """All planes of a tensor [out, …]: uniform codes of 16 bits from its least to its largest weight, two bits a plane."""
    rows = weight.reshape(weight.shape[0], -1).astype(np.float64)
    low = float(rows.min())
    span = float(rows.max()) - low
    total = BITS * PLANES
    codes = np.clip(np.floor((rows - low) / (span or 1.0) * 2**total), 0, 2**total - 1).astype(np.int64)
    found = []
    for number in range(1, len(precision) + 1):
        part = ((codes >> (total - BITS * number)) & (LEVELS - 1)).astype(np.uint8)
        step = np.float32(span / LEVELS**number)
        start = np.float32(low + span / LEVELS / 2) if number == 1 else np.float32(-(LEVELS - 1) / 2 * span / LEVELS**number)
        value = (part.astype(np.float32) * step + start).reshape(weight.shape)
        padded = np.pad(part, ((0, 0), (0, -part.shape[1] % 4)))
        packed = sum((padded[:, place::4] << np.uint8(2 * place)).astype(np.uint8) for place in range(4))
        parts = {
            "codes": Part(np.asarray(packed, np.uint8)),
            "steps": Part(np.full(len(rows), step, np.float32), "values"),
            "starts": Part(np.full(len(rows), start, np.float32), "values"),
        }
        found.append(Encoded(parts, value))
    return found


def execute(context: Context) -> Made:
    base = plain(context)
    module = base.module
    made = folded([Piece(module, example(context))])
    facts = {"parameters": count_parameters(module), "macs": count_macs(module, example(context)[:1])}
    shipped = ship(_graphs(made), folder_of(context, "planes"))
    rows = [
        measured(context, one, family="bit planes", label=f"{BITS * number} bits", **facts, needs=NEEDS)
        for number, one in enumerate(shipped, 1)
    ]
    return Made(base.under(Training(0, 0.0, 0.0)), tuple(rows))


def _graphs(made: Folded) -> list[Graph]:
    """One graph for each number of planes; biases and the like travel as float32 with the first."""
    (graph,) = made.graphs
    group = Group("weights", PRECISION)
    groups = {id(graph.tensors[name]): group for name in weights_of(graph)}
    points = [Point(0, {group.name: number}) for number in range(1, PLANES + 1)]
    return encode_graphs([graph], points, Encodings(groups, in_planes), made.pool)


METHOD = Method(
    "bit-planes",
    "bit planes of a plain network",
    "Lee, Yun, Kim, Choi: Progressive Transmission and Inference of Deep Learning Models, 2021 (ICMLA, arXiv "
    "2110.00916; its library is ProgressiveNet)",
    "planes are rebuilt inside ONNX graphs and not in TensorFlow.js; bits that are missing count as half of what they can be; "
    "biases travel as float32; norms are folded into the weights beforehand, which widens the range that one scale for each tensor "
    "has to cover",
    NEEDS,
    "all planes",
    execute,
)
