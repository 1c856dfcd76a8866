"""Small graphs by hand: weights in one segment, whole numbers in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from accordion.artifact.bounds import Declared
from accordion.artifact.graph import check_graph
from accordion.artifact.segment import encode_segment, parse_header
from accordion.artifact.weights import SegmentFile, Weights, check_segment_bytes

DECLARED = Declared(parameters=64, macs=64)
I64 = np.int64


class Made:
    """A graph over x [n, 8] → y with the tensors given: floats and bytes in a segment, whole numbers of 64 bits in the graph."""

    def __init__(self, nodes: Sequence[onnx.NodeProto], tensors: dict[str, np.ndarray[Any, Any]], opset: int = 17) -> None:
        outside = {name: array for name, array in tensors.items() if array.dtype != np.int64}
        self.segment = encode_segment(outside)
        self.places = parse_header(self.segment, len(self.segment), "the segment")
        rows = [self.external(name, array) for name, array in outside.items()]
        rows += [numpy_helper.from_array(array, name) for name, array in tensors.items() if name not in outside]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])
        graph = helper.make_graph(list(nodes), "bomb", [x], [onnx.ValueInfoProto(name=nodes[-1].output[0])], rows)
        self.model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)

    def external(self, name: str, array: np.ndarray[Any, Any]) -> TensorProto:
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor = TensorProto(name=name, data_type=kind, dims=array.shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", "a"), ("offset", self.places[name].start), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    def check(self, declared: Declared = DECLARED) -> None:
        weights = Weights({"a": SegmentFile.of(self.segment, check_segment_bytes(self.segment, "the segment"))})
        check_graph(self.model.SerializeToString(), weights, "it", declared)


def node(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def used(last: str) -> list[onnx.NodeProto]:
    """What was rebuilt meets the input."""
    return [node("ReduceMax", last, "one", keepdims=0), node("Cast", "one", "number", to=1), node("Add", "x number", "y")]


W = np.arange(64, dtype=np.float32).reshape(8, 8)
B = np.arange(64, dtype=np.uint8)


def shape(*sizes: int) -> np.ndarray[Any, Any]:
    return np.array(sizes, I64)
