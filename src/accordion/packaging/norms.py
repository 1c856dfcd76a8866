"""Batch norm after convolution becomes part of the convolution, where that keeps the weights common to all configurations."""

from __future__ import annotations

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
        for pair in found:
            if len(uses[id(pair.weight)]) == 1:
                _fold(graph, pair, pool)
            else:
                _split(graph, pair, pool)
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


def _fold(graph: Graph, pair: _Pair, pool: Pool) -> None:
    factor, shift = pair.affine()
    by_channel = (-1,) + (1,) * (pair.weight.ndim - 1)
    stem = pair.conv.input[1].removesuffix(".weight")
    # New names: the old weight may have another reader under its old name, in this graph, with the same norm.
    weight, bias = f"{stem}.folded.weight", f"{stem}.folded.bias"
    graph.tensors[weight] = pool.intern((pair.weight * factor.reshape(by_channel)).astype(pair.weight.dtype))
    graph.tensors[bias] = pool.intern(shift.astype(pair.weight.dtype))
    output = pair.norm.output[0]
    values = [pair.conv.input[0], weight, bias]
    del pair.conv.input[:]
    pair.conv.input.extend(values)
    graph.nodes.remove(pair.norm)
    pair.conv.output[0] = output


def _split(graph: Graph, pair: _Pair, pool: Pool) -> None:
    factor, shift = pair.affine()
    if len(pair.conv.input) > 2:
        del pair.conv.input[2:]
    shape = (-1,) + (1,) * (pair.weight.ndim - 2)
    stem = pair.norm.input[1].removesuffix(".weight")
    scaled = f"{pair.norm.output[0]}.scaled"
    names = (f"{stem}.factor", f"{stem}.shift")
    for name, value in zip(names, (factor, shift), strict=True):
        graph.tensors[name] = pool.intern(value.astype(pair.weight.dtype).reshape(shape))
    at = graph.nodes.index(pair.norm)
    graph.nodes[at : at + 1] = [
        onnx.helper.make_node("Mul", [pair.conv.output[0], names[0]], [scaled]),
        onnx.helper.make_node("Add", [scaled, names[1]], [pair.norm.output[0]]),
    ]
