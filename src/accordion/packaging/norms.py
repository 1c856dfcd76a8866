"""Batch norm after convolution becomes part of the convolution, where that keeps the weights common to all configurations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from accordion.packaging.graph import Graph, Pool

__all__ = ["fold_norms"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Pair:
    """A convolution and the batch norm that alone reads its output."""

    conv: onnx.NodeProto
    norm: onnx.NodeProto
    weight: Array  # [out, in, …]
    values: tuple[Array | None, ...]  # convolution's bias, then scale, bias, mean, variance; each [out]
    epsilon: float

    @property
    def use(self) -> tuple[object, ...]:
        return (*(id(value) for value in self.values), self.epsilon)

    def affine(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Factor and shift by output channel in float64, so that one rounding is all that is lost."""
        bias, scale, shift, mean, variance = (None if value is None else value.astype(np.float64) for value in self.values)
        assert scale is not None and shift is not None and mean is not None and variance is not None
        factor = scale / np.sqrt(variance + self.epsilon)
        return factor, shift + ((0.0 if bias is None else bias) - mean) * factor


def fold_norms(graphs: Sequence[Graph], pool: Pool) -> None:
    """Folds batch norms of all configurations together.

    A convolution whose norm is the same in every configuration takes it into its weight and bias. One whose norm changes with the
    configuration (recalibrated or switchable statistics) keeps its weight, which is delivered once, and is followed by a factor and
    a shift, which are delivered with each configuration that changes them.
    """
    pairs = [_pairs(graph) for graph in graphs]
    uses: dict[int, set[object]] = {}
    for graph, found in zip(graphs, pairs, strict=True):
        paired = {pair.conv.output[0] for pair in found}
        for pair in found:
            uses.setdefault(id(pair.weight), set()).add(pair.use)
        for node in graph.nodes:
            if not node.output or node.output[0] not in paired:
                for name in node.input:
                    if name in graph.tensors:
                        uses.setdefault(id(graph.tensors[name]), set()).add("as it is")
    for graph, found in zip(graphs, pairs, strict=True):
        reads = graph.uses()
        replaced: dict[int, list[onnx.NodeProto]] = {}
        for pair in found:
            one_norm = len(uses[id(pair.weight)]) == 1
            replaced[id(pair.norm)] = (_fold if one_norm else _split)(graph, pair, reads, pool)
        graph.nodes = [new for node in graph.nodes for new in replaced.get(id(node), [node])]
        graph.drop_unread()


def _pairs(graph: Graph) -> list[_Pair]:
    reads = graph.uses()
    made_by = {node.output[0]: node for node in graph.nodes if node.op_type == "Conv"}
    found = []
    for norm in graph.nodes:
        conv = made_by.get(norm.input[0]) if norm.op_type == "BatchNormalization" else None
        if conv is None or reads[norm.input[0]] != 1 or len([name for name in norm.output if name]) != 1:
            continue
        constants = [*conv.input[1:], *norm.input[1:]]
        if any(name and name not in graph.tensors for name in constants) or _attribute(norm, "training_mode", 0):
            continue
        bias = graph.tensors[conv.input[2]] if len(conv.input) > 2 and conv.input[2] else None
        values = (bias, *(graph.tensors[name] for name in norm.input[1:]))
        epsilon = float(_attribute(norm, "epsilon", 1e-5))
        found.append(_Pair(conv, norm, graph.tensors[conv.input[1]], values, epsilon))
    return found


def _attribute(node: onnx.NodeProto, name: str, default: float) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default


def _fold(graph: Graph, pair: _Pair, reads: Counter[str], pool: Pool) -> list[onnx.NodeProto]:
    factor, shift = pair.affine()
    by_channel = (-1,) + (1,) * (pair.weight.ndim - 1)
    old = pair.conv.input[1]
    if reads[old] == 1:
        del graph.tensors[old]  # its name is free for the folded weight
    weight = graph.add(old, pool.intern((pair.weight * factor.reshape(by_channel)).astype(pair.weight.dtype)))
    bias = graph.add(_sibling(old, "bias"), pool.intern(shift.astype(pair.weight.dtype)))
    read = [pair.conv.input[0], weight, bias]
    del pair.conv.input[:]
    pair.conv.input.extend(read)
    pair.conv.output[0] = pair.norm.output[0]
    return []


def _split(graph: Graph, pair: _Pair, reads: Counter[str], pool: Pool) -> list[onnx.NodeProto]:
    factor, shift = pair.affine()
    shape = (-1,) + (1,) * (pair.weight.ndim - 2)
    names = [
        graph.add(_sibling(pair.norm.input[1], kind), pool.intern(value.astype(pair.weight.dtype).reshape(shape)))
        for kind, value in (("factor", factor), ("shift", shift))
    ]
    del pair.conv.input[2:]  # the bias is part of the shift
    scaled = f"{pair.norm.output[0]}.scaled"
    return [
        onnx.helper.make_node("Mul", [pair.conv.output[0], names[0]], [scaled]),
        onnx.helper.make_node("Add", [scaled, names[1]], [pair.norm.output[0]]),
    ]


def _sibling(name: str, kind: str) -> str:
    """`stem.0.weight` → `stem.0.<kind>`."""
    return f"{name.removesuffix('.weight')}.{kind}"
