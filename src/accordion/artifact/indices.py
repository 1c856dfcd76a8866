"""Indices made of constants: sparse forms, tables, decision trees. One out of range must not wait until a session trips over it.

An index that stands in the graph is compared at once. One that is made of a segment's bytes is computed here, by ONNX's reference
implementation, which the bounds of `accordion.artifact.bounds` have made safe: no value is larger than the rebuilt weights may be.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accordion.artifact.bounds import Bounds, bits_of
from accordion.artifact.operators import names
from accordion.artifact.weights import Weights
from accordion.errors import FormatError

if TYPE_CHECKING:
    import onnx

__all__ = ["check_indices"]

# Operator → which input holds the indices; which attribute and default say along which axis (None: the leading axes, one each).
_INDEXED: dict[str, tuple[int, int | None]] = {
    "Gather": (1, 0),
    "GatherElements": (1, 0),
    "GatherND": (1, None),
    "ScatterElements": (1, 0),
    "ScatterND": (1, None),
}
# What indices may be made with: all of it plain numpy in the reference implementation, in time linear in its output.
_SIMPLE = names(
    """
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Cast Concat Constant ConstantOfShape CumSum Div Equal Expand Gather
    Greater Identity Less Max Min Mod Mul Neg Not Or Range Reshape Shape Slice Split Squeeze Sub Tile Transpose
    Unsqueeze Where Xor
    """
)


def check_indices(model: onnx.ModelProto, bounds: Bounds, weights: Weights | None, what: str) -> None:
    """FormatError naming `what` if an index over constants is out of range, or is made in a way that can't be followed."""
    makers = {name: node for node in model.graph.node for name in node.output if name}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in _INDEXED or node.domain == "ai.onnx.ml":
            continue
        position, default = _INDEXED[node.op_type]
        name = node.input[position]
        value, data = bounds.values[name], bounds.values[node.input[0]]
        if not value.constant:
            continue  # what a device puts in is its own; the runtime compares it
        where = f"{what}: the indices of the {node.op_type} that makes {node.output[0][:80]!r}"
        found = value.known
        if found is None:
            chain = _chain(name, makers, tensors, where)
            key = _key(chain, tensors, data.shape, node)
            if weights is None or key in weights.checked:
                continue
            found = _computed(chain, name, tensors, weights, bounds.imports, where)
            weights.checked.add(key)
        _compare(found, data.shape, node, default, where)


def _compare(found: NDArray[Any], shape: tuple[int, ...], node: onnx.NodeProto, default: int | None, where: str) -> None:
    if not np.issubdtype(found.dtype, np.integer):
        raise FormatError(f"{where} are not whole numbers")
    if default is None:
        batch = next((row.i for row in node.attribute if row.name == "batch_dims"), 0)
        sizes = np.array(shape[batch : batch + found.shape[-1]], np.int64)
        if len(sizes) != found.shape[-1]:
            raise FormatError(f"{where} name more axes than there are")
    else:
        axis = next((row.i for row in node.attribute if row.name == "axis"), default)
        if not -len(shape) <= axis < len(shape):
            raise FormatError(f"{where} are along an axis that is not there")
        sizes = np.array(shape[axis], np.int64)
    if ((found < -sizes) | (found >= sizes)).any():
        raise FormatError(f"{where} are out of range: they go from {int(found.min())} to {int(found.max())}")


def _chain(name: str, makers: dict[str, onnx.NodeProto], tensors: dict[str, Any], where: str) -> list[onnx.NodeProto]:
    """The nodes that make `name`, in order."""
    needed: dict[int, onnx.NodeProto] = {}
    waiting = [name]
    seen = set(waiting)
    while waiting:
        one = waiting.pop()
        if one in tensors or one not in makers:
            continue
        node = makers[one]
        if node.op_type not in _SIMPLE:
            raise FormatError(f"{where} are made by {node.op_type[:40]!r}, which can't be followed")
        needed[id(node)] = node
        for read in node.input:
            if read and read not in seen:
                seen.add(read)
                waiting.append(read)
    order = {id(node): index for index, node in enumerate(makers.values())}
    return sorted(needed.values(), key=lambda node: order[id(node)])


def _key(chain: list[onnx.NodeProto], tensors: dict[str, Any], shape: tuple[int, ...], node: onnx.NodeProto) -> bytes:
    made = hashlib.sha256(repr((node.op_type, shape)).encode())
    for attribute in node.attribute:
        made.update(attribute.SerializeToString(deterministic=True))
    for one in chain:
        made.update(one.SerializeToString(deterministic=True))
    for name in sorted({name for one in (*chain, node) for name in one.input if name in tensors}):
        made.update(tensors[name].SerializeToString(deterministic=True))
    return made.digest()


def _computed(
    chain: list[onnx.NodeProto], name: str, tensors: dict[str, Any], weights: Weights, imports: list[Any], where: str
) -> NDArray[Any]:
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    if name in tensors:
        return _array(tensors[name], weights, where)
    read = sorted({one for node in chain for one in node.input if one in tensors})
    feeds = {one: _array(tensors[one], weights, where) for one in read}
    inputs = [helper.make_tensor_value_info(one, tensors[one].data_type, array.shape) for one, array in feeds.items()]
    graph = helper.make_graph(chain, "indices", inputs, [helper.make_empty_tensor_value_info(name)])
    try:
        with np.errstate(all="ignore"):
            (found,) = ReferenceEvaluator(helper.make_model(graph, opset_imports=imports)).run(None, feeds)
    except Exception as error:  # whatever hostile attributes provoke in it
        raise FormatError(f"{where} can't be computed") from error
    return np.asarray(found)


def _array(tensor: Any, weights: Weights, where: str) -> NDArray[Any]:
    from onnx import TensorProto, helper, numpy_helper

    if tensor.data_location != TensorProto.EXTERNAL:
        return np.asarray(numpy_helper.to_array(tensor))
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    if kind.itemsize * 8 != bits_of(tensor.data_type):
        raise FormatError(f"{where} are made of packed or odd types, which can't be followed")
    place = {row.key: row.value for row in tensor.external_data}
    data = weights.read(place["location"], int(place.get("offset", "0")), int(place["length"]))
    return np.frombuffer(data, kind).reshape(tuple(tensor.dims))
