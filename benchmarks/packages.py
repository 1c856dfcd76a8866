"""Packages of any size and length, for measuring what these cost: chains of matrices or convolutions with drawn numbers.

They keep every rule of the specification and run; their qualities mean nothing, and only sizes and times are measured on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from accordion.artifact.build import ConfigurationParts, build_version
from accordion.artifact.layout import Layout
from accordion.artifact.segment import encode_segment, parse_header
from accordion.packaging.codecs import Encoded, Integer, Part, Precision, by_name
from accordion.packaging.encode import Encodings, Group, Point, encode_graphs
from accordion.packaging.graph import Graph, Pool
from accordion.packaging.parts import parts_of

__all__ = ["write_package", "write_planes"]

WIDTH = 64  # of what flows through the chain
SIDE = 8  # of the pictures that flow through a chain of convolutions


def write_package(path: Path, segment_bytes: Sequence[int], *, seed: int = 0, tag: str = "latest") -> Path:
    """A version whose configuration k needs k + 1 segments of about these sizes (256 bytes at least)."""
    rng = np.random.default_rng(seed)
    rows = [max(1, size // (4 * WIDTH)) for size in segment_bytes]
    segments = [encode_segment({"w": rng.standard_normal((count, WIDTH), dtype=np.float32)}) for count in rows]
    spec = {"dtype": "float32", "shape": ["n", WIDTH], "layout": "", "range": None, "labels": None}
    parts = [
        ConfigurationParts(f"{k:04}.onnx", _graph(k, rows, segments), {f"{k:04}.safetensors": segments[k]})
        for k in range(len(rows))
    ]
    build_version(
        Layout.create(path),
        tag,
        ladder_fields={
            "schema_version": 1,
            "task": "benchmark",
            "order": "right-to-left",
            "inputs": [{"name": "x", **spec}],
            "outputs": [{"name": "y", **spec}],
            "configurations": [_rung(k, len(rows), sum(rows[: k + 1]) * WIDTH) for k in range(len(rows))],
        },
        configurations=parts,
    )
    return path


def write_planes(path: Path, blocks: int, channels: int, *, seed: int = 0) -> Path:
    """A chain of `blocks` convolutions 3 × 3 as `accordion package --codec planes` writes it: each depth with 4 bits a weight, then
    the complete one with 4 and with 8 bits more. Codes and scales are drawn, so nothing is compressed.
    """
    rng = np.random.default_rng(seed)
    pool, precision = Pool(), by_name("int4+4+8")
    weights = [pool.intern(rng.random((channels, channels, 3, 3), dtype=np.float32)) for _ in range(blocks)]
    group = Group("stage1", precision)

    def drawn(weight: np.ndarray, wanted: Precision) -> list[Encoded]:
        found = []
        for codec in wanted.planes:
            assert isinstance(codec, Integer)
            codes = rng.integers(0, 256, (channels, weight[0].size * codec.bits // 8), dtype=np.uint8)
            scales = rng.uniform(0.01, 1, channels).astype(np.float16)
            found.append(Encoded({"codes": Part(codes), "scales": Part(scales, "values")}, weight))
        return found

    points = [Point(depth, {"stage1": 1}) for depth in range(blocks)]
    points += [Point(blocks - 1, {"stage1": planes}) for planes in range(2, len(precision) + 1)]
    graphs = [_convolutions(weights[: depth + 1]) for depth in range(blocks)]
    parts = parts_of(encode_graphs(graphs, points, Encodings({id(one): group for one in weights}, drawn), pool))
    spec = {"dtype": "float32", "shape": ["n", channels, SIDE, SIDE], "layout": "", "range": None, "labels": None}
    rows = []
    for k, point in enumerate(points):
        parameters = (point.depth + 1) * weights[0].size
        row = _rung(k, len(points), parameters)
        rows.append({**row, "macs": parameters * SIDE * SIDE, "precision": "+".join(["int4", "4", "8"][: point.planes["stage1"]])})
    build_version(
        Layout.create(path),
        "latest",
        ladder_fields={
            "schema_version": 1,
            "task": "benchmark",
            "order": "right-to-left",
            "inputs": [{"name": "x", **spec}],
            "outputs": [{"name": "y", **spec}],
            "configurations": rows,
        },
        configurations=[
            ConfigurationParts(
                part.graph_path, part.graph, {} if part.segment is None else {part.segment_path: part.segment}, compress=True
            )
            for part in parts
        ],
    )
    return path


def _convolutions(weights: Sequence[np.ndarray]) -> Graph:
    """x + conv(x), one behind the other."""
    nodes, last = [], "x"
    for k in range(len(weights)):
        end = "y" if k == len(weights) - 1 else f"a{k}"
        nodes.append(helper.make_node("Conv", [last, f"w{k}"], [f"c{k}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Add", [f"c{k}", last], [end]))
        last = end
    shape = ["n", weights[0].shape[0], SIDE, SIDE]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    return Graph(nodes, values[:1], values[1:], 17, 9, {f"w{k}": weight for k, weight in enumerate(weights)})


def _graph(k: int, rows: Sequence[int], segments: Sequence[bytes]) -> bytes:
    """x + Σ (x · wᵀ) · w over the segments so far."""
    nodes, initializers, last = [], [], "x"
    for j in range(k + 1):
        name = f"{j:04}.safetensors"
        info = parse_header(segments[j][: 4096 + 8], len(segments[j]), name)["w"]
        tensor = TensorProto(name=f"w{j}", data_type=TensorProto.FLOAT, dims=[rows[j], WIDTH], data_location=TensorProto.EXTERNAL)
        for key, value in (("location", name), ("offset", str(info.start)), ("length", str(info.end - info.start))):
            tensor.external_data.add(key=key, value=value)
        initializers.append(tensor)
        nodes += [
            helper.make_node("Gemm", [last, f"w{j}"], [f"h{j}"], transB=1),
            helper.make_node("MatMul", [f"h{j}", f"w{j}"], [f"m{j}"]),
            helper.make_node("Add", [last, f"m{j}"], ["y" if j == k else f"a{j}"]),
        ]
        last = f"a{j}"
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", values[:1], values[1:], initializers)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString())


def _rung(k: int, count: int, parameters: int) -> dict[str, Any]:
    value = round((k + 1) / (count + 1), 6)
    quality = {
        "metric": "accuracy",
        "direction": "higher",
        "unit": "fraction",
        "value": value,
        "interval": [value, value],
        "confidence": 0.95,
        "interval_method": "none: a benchmark",
        "samples": 1,
        "dataset": "none",
        "split": "none",
    }
    return {
        "index": k,
        "blocks": {"total": k + 1, "by_stage": [k + 1]},
        "precision": "float32",
        "parameters": parameters,
        "macs": 2 * parameters,
        "macs_per": "input",
        "quality": quality,
    }
