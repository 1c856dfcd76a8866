"""Constant folding: what an exporter writes as a chain of operators over constants becomes the constant."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from accordion.packaging.graph import Graph, Pool

__all__ = ["fold_constants"]

SMALL_BYTES = 1024
"""Results up to this size are always worth having: shapes, axes, paddings."""


def fold_constants(graph: Graph, pool: Pool) -> None:
    """Replaces operators whose inputs are all constant by their result, and aliases of constants by the constant.

    A result larger than `SMALL_BYTES` is taken only if it costs no more bytes than what it replaces: an expanded constant would
    have to be delivered, and a transposed weight that is also read as it is would be delivered twice.
    """
    renamed: dict[str, str] = {}
    uses = graph.uses()
    outputs = {value.name for value in graph.outputs}
    kept = []
    for node in graph.nodes:
        if any(name in renamed for name in node.input):
            names = [renamed.get(name, name) for name in node.input]
            del node.input[:]
            node.input.extend(names)
        if node.op_type == "Identity" and node.input[0] in graph.tensors and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
            uses[node.input[0]] += uses[node.output[0]] - 1
            continue
        results = _evaluate(node, graph, uses)
        if results is None:
            kept.append(node)
        else:
            graph.tensors.update((name, pool.intern(np.asarray(value))) for name, value in results.items())
    graph.nodes = kept
    graph.drop_unread()


def _evaluate(node: onnx.NodeProto, graph: Graph, uses: Counter[str]) -> dict[str, NDArray[Any]] | None:
    """The outputs of `node` if it is constant and worth folding, else None."""
    if node.op_type.startswith(("Random", "Bernoulli", "Multinomial")):
        return None
    read = [name for name in node.input if name]
    if any(name not in graph.tensors for name in read) or (not read and node.op_type != "Constant"):
        return None
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [node],
            "constant",
            [onnx.helper.make_tensor_value_info(name, _element_type(graph.tensors[name]), None) for name in dict.fromkeys(read)],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        ),
        opset_imports=[onnx.helper.make_opsetid("", graph.opset)],
        ir_version=graph.ir_version,
    )
    names = [name for name in node.output if name]
    try:
        values = ReferenceEvaluator(model).run(None, {name: graph.tensors[name] for name in read})
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return None  # the runtime will do it then
    if not all(isinstance(value, np.ndarray | np.generic) for value in values):
        return None
    after = sum(value.nbytes for value in values)
    replaced = sum(graph.tensors[name].nbytes for name in set(read) if uses[name] == 1)
    if node.op_type != "Constant" and after > max(SMALL_BYTES, replaced):
        return None
    return dict(zip(names, values, strict=True))


def _element_type(array: NDArray[Any]) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))
