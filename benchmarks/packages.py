"""Packages of any size and length, for measuring what sizes and lengths cost: chains of matrices with drawn numbers.

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

__all__ = ["write_package"]

WIDTH = 64  # of what flows through the chain


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
