"""What flows through a network on real data: the second moments of what its weights are multiplied with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from accordion.data import Split
from accordion.packaging.answers import run_graph, session_of
from accordion.packaging.encode import weights_of
from accordion.packaging.graph import Graph

__all__ = ["PICTURES", "calibration_pictures", "hessians"]

PICTURES = 256
AT_ONCE = 32  # pictures: their inner values are all kept meanwhile
MOST_ROWS = 4096  # patches of one convolution that are looked at, of those that a batch has

Array = NDArray[Any]


def calibration_pictures(train: Split, count: int = PICTURES) -> NDArray[np.uint8]:
    """Pictures of the training split in random order, the same every time."""
    return train.x[np.random.default_rng(0).permutation(len(train))[:count]]


def hessians(
    joint: Graph, pictures: NDArray[np.uint8], progress: Callable[[str], None] = lambda line: None
) -> Mapping[int, NDArray[np.float64]]:
    """For the weights of `joint`, by the identity of their arrays: the mean of x·xᵀ [n, n] over the inputs x that a row is
    multiplied with. Grouped convolutions, whose rows have different inputs, are left out.
    """
    wanted = {name: node for name, node in weights_of(joint).items() if _rows_share_inputs(node)}
    progress(f"calibrating {len(wanted)} layers on {len(pictures)} training pictures")
    inner = list(dict.fromkeys(node.input[0] for node in wanted.values()))
    graph_inputs = {value.name for value in joint.inputs}
    session = session_of(joint, only=(), inner=[name for name in inner if name not in graph_inputs])
    sums: dict[str, NDArray[np.float64]] = {}
    rows: dict[str, int] = {}
    rng = np.random.default_rng(0)
    for start in range(0, len(pictures), AT_ONCE):
        batch = pictures[start : start + AT_ONCE]
        names = [name for name in inner if name not in graph_inputs]
        values = dict(zip(names, run_graph(session, batch, names), strict=True))
        values |= {name: batch.astype(np.float32) / np.float32(255) for name in graph_inputs}
        for name, node in wanted.items():
            x = _patches(values[node.input[0]], node, joint.tensors[name])
            if len(x) > MOST_ROWS:
                x = x[rng.choice(len(x), MOST_ROWS, replace=False)]
            sums[name] = sums.get(name, 0.0) + (x.T @ x).astype(np.float64)
            rows[name] = rows.get(name, 0) + len(x)
    return {id(joint.tensors[name]): total / rows[name] for name, total in sums.items()}


def _rows_share_inputs(node: onnx.NodeProto) -> bool:
    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Conv":
        return bool(given.get("group", 1) == 1 and "auto_pad" not in given)
    return bool(node.op_type == "Gemm" and given.get("transB", 0) == 1 and not given.get("transA", 0))


def _patches(x: Array, node: onnx.NodeProto, weight: Array) -> NDArray[np.float32]:
    """The inputs that each row of `weight` is multiplied with, [m, n]."""
    if node.op_type == "Gemm":
        return x.reshape(len(x), -1)
    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    pads = given.get("pads", [0, 0, 0, 0])
    padded = F.pad(torch.from_numpy(x), (pads[1], pads[3], pads[0], pads[2]))
    columns = F.unfold(
        padded, weight.shape[2:], dilation=tuple(given.get("dilations", (1, 1))), stride=tuple(given.get("strides", (1, 1)))
    )
    flat: NDArray[np.float32] = columns.permute(0, 2, 1).reshape(-1, columns.shape[1]).numpy()
    return flat
