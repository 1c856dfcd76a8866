"""An ONNX graph apart from its weights, as the passes of this folder change it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from accordion.errors import FormatError, UsageError

__all__ = ["Graph", "Pool", "parse"]

Array = NDArray[Any]


class Pool:
    """Keeps one copy of every tensor content, so that all configurations share theirs; equal content is the same object."""

    def __init__(self) -> None:
        self._arrays: dict[bytes, Array] = {}

    def intern(self, array: Array) -> Array:
        """The array kept for this dtype, shape and content."""
        contiguous = array if array.flags.c_contiguous else array.copy()
        digest = hashlib.sha256(f"{contiguous.dtype.str}{contiguous.shape}".encode() + contiguous.tobytes()).digest()
        kept = self._arrays.setdefault(digest, contiguous)
        kept.flags.writeable = False
        return kept


@dataclass(slots=True)
class Graph:
    """Nodes in executable order; `tensors` by the name that the nodes use, their content interned in one pool."""

    nodes: list[onnx.NodeProto]
    inputs: list[onnx.ValueInfoProto]
    outputs: list[onnx.ValueInfoProto]
    opset: int
    ir_version: int
    tensors: dict[str, Array] = field(default_factory=dict)

    def uses(self) -> Counter[str]:
        """How often each value is read, the graph's own outputs included."""
        read = Counter(name for node in self.nodes for name in node.input if name)
        read.update(value.name for value in self.outputs)
        return read

    def drop_unread(self) -> None:
        """Removes nodes and tensors whose values nobody reads."""
        read = {value.name for value in self.outputs}
        kept = []
        for node in reversed(self.nodes):
            if read.intersection(node.output):
                kept.append(node)
                read.update(node.input)
        self.nodes = kept[::-1]
        self.tensors = {name: array for name, array in self.tensors.items() if name in read}

    def add(self, name: str, array: Array) -> str:
        """Adds a tensor under `name`, or under the next free name after it if that has other content; returns the name taken."""
        taken, count = name, 1
        while taken in self.tensors and self.tensors[taken] is not array:
            count += 1
            taken = f"{name}.{count}"
        self.tensors[taken] = array
        return taken


def parse(model: bytes, pool: Pool) -> Graph:
    """The graph of an exported model, its tensors interned in `pool`.

    FormatError if these bytes are no ONNX model; UsageError if it needs what a package can't carry.
    """
    try:
        proto = onnx.load_from_string(model)
    except Exception as error:  # protobuf's own DecodeError has no public home
        raise FormatError(f"the exporter wrote no ONNX model: {error}") from error
    foreign = sorted({node.domain for node in proto.graph.node if node.domain not in ("", "ai.onnx")})
    if foreign or proto.functions:
        raise UsageError(f"the network needs operators outside ONNX: {', '.join(foreign) or 'functions'}")
    if any(attribute.type in _SUBGRAPHS for node in proto.graph.node for attribute in node.attribute):
        raise UsageError("the network's graph has branches or loops; a package's graph must be a plain sequence of operators")
    opset = _default_opset(proto.opset_import)
    tensors = {tensor.name: pool.intern(numpy_helper.to_array(tensor)) for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in tensors]
    return Graph(list(proto.graph.node), inputs, list(proto.graph.output), opset, proto.ir_version, tensors)


_SUBGRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def _default_opset(imports: Iterable[onnx.OperatorSetIdProto]) -> int:
    for entry in imports:
        if entry.domain in ("", "ai.onnx"):
            return int(entry.version)
    raise FormatError("the exporter wrote a model without an operator set")
