"""A graph as the ONNX file that is delivered: small, without weights, pointing into segment files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from accordion.packaging.graph import Graph
from accordion.packaging.naming import Naming
from accordion.packaging.segments import Segments, is_inline

__all__ = ["Place", "home_name", "render"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor's bytes lie: the file's path, the first byte in that file, the number of bytes."""

    location: str
    offset: int
    length: int


def render(graph: Graph, segments: Segments, place: Callable[[int, str], Place], naming: Naming | None = None) -> bytes:
    """The graph's bytes; `place(segment, name)` says where a tensor lies.

    What a runtime does not need is left out (names of nodes, inner shapes, documentation), and what is left has short names:
    `naming`'s, which all graphs that are packed together should have in common, or the graph's own.
    """
    names = (naming or Naming([graph], lambda array: home_name(segments, array))).of(graph)
    initializers: dict[str, onnx.TensorProto] = {}
    nodes = []
    for node in graph.nodes:
        slim = onnx.NodeProto(op_type=node.op_type)
        slim.attribute.extend(attribute for attribute in node.attribute if not _is_default(node.op_type, attribute))
        for name in node.input:
            if name in graph.tensors and names[name] not in initializers:
                initializers[names[name]] = _tensor(names[name], graph.tensors[name], segments, place)
            slim.input.append(names[name] if name else "")
        slim.output.extend(names[name] if name else "" for name in node.output)
        nodes.append(slim)
    inputs, outputs = ([_bare(value) for value in values] for values in (graph.inputs, graph.outputs))
    body = onnx.helper.make_graph(nodes, "main", inputs, outputs, list(initializers.values()))
    opset = onnx.helper.make_opsetid("", graph.opset)
    model = onnx.helper.make_model(body, opset_imports=[opset], ir_version=graph.ir_version)
    return bytes(model.SerializeToString(deterministic=True))


def home_name(segments: Segments, array: NDArray[Any]) -> str:
    """What a tensor in a segment is called in graphs: its segment and its rank there, the same in every configuration."""
    home = segments.home(array)
    return f"{home.segment:x}.{home.rank:x}"


def _tensor(name: str, array: NDArray[Any], segments: Segments, place: Callable[[int, str], Place]) -> onnx.TensorProto:
    if is_inline(array):
        return numpy_helper.from_array(array, name=name)
    home = segments.home(array)
    where = place(home.segment, home.name)
    tensor = onnx.TensorProto(
        name=name,
        dims=array.shape,
        data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
        data_location=onnx.TensorProto.EXTERNAL,
    )
    for key, value in (("location", where.location), ("offset", where.offset), ("length", where.length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _bare(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    bare = onnx.ValueInfoProto(name=value.name)
    bare.type.CopyFrom(value.type)
    return bare


_CONV_DEFAULTS: Mapping[str, Callable[[Any], bool]] = {
    "dilations": lambda value: all(entry == 1 for entry in value),
    "strides": lambda value: all(entry == 1 for entry in value),
    "pads": lambda value: not any(value),
    "group": lambda value: value == 1,
    "kernel_shape": lambda value: True,  # the weight's own shape says it
}
"""Attributes of a convolution that say what holds without them."""


def _is_default(op_type: str, attribute: onnx.AttributeProto) -> bool:
    if op_type != "Conv" or attribute.name not in _CONV_DEFAULTS:
        return False
    return _CONV_DEFAULTS[attribute.name](onnx.helper.get_attribute_value(attribute))
