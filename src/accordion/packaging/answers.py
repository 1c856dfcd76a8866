"""What a network answers with other weights: the joint graph in ONNX Runtime, each tensor replaced as somebody wishes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from accordion.data import Split
from accordion.errors import AccordionError
from accordion.packaging.graph import Graph

__all__ = ["Replace", "correct", "run_graph", "session_of"]

Array = NDArray[Any]
Replace = Callable[[str, Array], Array]
"""From a constant's name and content to the content that stands for it."""

BATCH = 250


def session_of(
    graph: Graph,
    replace: Replace = lambda name, array: array,
    *,
    only: Sequence[int] | None = None,
    inner: Sequence[str] = (),
) -> onnxruntime.InferenceSession:
    """A session over `graph` with its weights inside: its outputs, or those at the places `only`, then the inner values `inner`."""
    outputs = [*(graph.outputs if only is None else (graph.outputs[index] for index in only))]
    outputs += [onnx.ValueInfoProto(name=name) for name in inner]
    part = Graph(list(graph.nodes), graph.inputs, outputs, graph.opset, graph.ir_version, dict(graph.tensors))
    part.drop_unread()
    tensors = [numpy_helper.from_array(np.asarray(replace(name, array)), name) for name, array in part.tensors.items()]
    body = onnx.helper.make_graph(part.nodes, "joint", part.inputs, outputs, tensors)
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", part.opset)], ir_version=part.ir_version)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise AccordionError(f"ONNX Runtime can't load the network: {str(error).splitlines()[0]}") from error


def run_graph(
    session: onnxruntime.InferenceSession, pictures: NDArray[np.uint8], names: Sequence[str] | None = None
) -> list[Array]:
    """The outputs for pictures [n, …] of bytes."""
    x = pictures.astype(np.float32) / np.float32(255)
    found: list[Array] = session.run(list(names) if names else None, {session.get_inputs()[0].name: x})
    return found


def correct(session: onnxruntime.InferenceSession, split: Split) -> NDArray[np.bool_]:
    """Which pictures each output of the session gets right: [outputs, n], in the split's order."""
    parts = []
    for start in range(0, len(split), BATCH):
        logits = run_graph(session, split.x[start : start + BATCH])
        parts.append(np.stack([one.argmax(axis=1) == split.y[start : start + BATCH] for one in logits]))
    return np.concatenate(parts, axis=1)
