"""A package made by hand: a chain of six matrices, each configuration one longer than the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from accordion.artifact.build import ConfigurationParts, build_version
from accordion.artifact.layout import Layout
from accordion.artifact.segment import encode_segment, parse_header
from accordion.device import Model

K, WIDTH = 6, 100


def weights(seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / WIDTH for _ in range(K)]


def expected(seed: int, x: Any, k: int) -> Any:
    for w in weights(seed)[: k + 1]:
        x = x + x @ w
    return x


def graph_bytes(k: int, segments: list[bytes]) -> bytes:
    nodes, initializers, last = [], [], "x"
    for j in range(k + 1):
        path = f"{j:03}.safetensors"
        info = parse_header(segments[j], len(segments[j]), path)["w"]
        tensor = TensorProto(name=f"w{j}", data_type=TensorProto.FLOAT, dims=info.shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", path), ("offset", str(info.start)), ("length", str(info.end - info.start))):
            tensor.external_data.add(key=key, value=value)
        initializers.append(tensor)
        nodes.append(helper.make_node("MatMul", [last, f"w{j}"], [f"m{j}"]))
        nodes.append(helper.make_node("Add", [last, f"m{j}"], ["y" if j == k else f"a{j}"]))
        last = f"a{j}"
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", values[:1], values[1:], initializers)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString())


def rung(k: int, macs_times: int = 1) -> dict[str, Any]:
    value = round(0.5 + 0.08 * k, 3)
    quality = {
        "metric": "accuracy", "direction": "higher", "unit": "1", "value": value, "interval": [value - 0.02, value + 0.02],
        "confidence": 0.95, "interval_method": "Clopper-Pearson", "samples": 1000, "dataset": "made by hand", "split": "test",
    }  # fmt: skip
    return {
        "index": k, "blocks": {"total": k + 1, "by_stage": [k + 1]}, "precision": "float32", "parameters": (k + 1) * WIDTH**2,
        "macs": macs_times * (k + 1) * WIDTH**2, "macs_per": "input", "quality": quality,
    }  # fmt: skip


def add_version(
    path: Path,
    tag: str,
    seed: int,
    shared: int = 0,
    *,
    family: str | None = None,
    padding: int = 0,
    macs_times: int = 1,
    compress: bool = False,
    takes: tuple[float, float] | None = None,
) -> None:
    """A version whose first `shared` segments are those of seed 0; as one form of a family it may have more bytes or more work.
    `takes` is what the ladder says of the input's values."""
    made = [*weights(0)[:shared], *weights(seed)[shared:]]
    more = {"padding": np.zeros(padding, np.float32)} if padding else {}
    segments = [encode_segment({"w": w, **more}) for w in made]
    spec = {"dtype": "float32", "shape": ["n", WIDTH], "layout": "", "range": None, "labels": None}
    build_version(
        Layout.create(path),
        tag,
        ladder_fields={
            "schema_version": 1,
            "task": "test",
            "order": "right-to-left",
            "inputs": [{"name": "x", **spec, "range": takes and list(takes)}],
            "outputs": [{"name": "y", **spec}],
            "configurations": [rung(k, macs_times) for k in range(K)],
            **({} if family is None else {"family": family}),
        },
        configurations=[
            ConfigurationParts(f"{k:03}.onnx", graph_bytes(k, segments), {f"{k:03}.safetensors": segments[k]}, compress=compress)
            for k in range(K)
        ],
        archives=(1, 2, K - 3),
    )


X = np.random.default_rng(7).standard_normal((3, WIDTH)).astype(np.float32)


def answers(model: Path, k: int, seed: int = 0) -> None:
    with Model.open(model) as opened:
        np.testing.assert_allclose(opened.run(X, k)["y"], expected(seed, X, k), rtol=1e-4, atol=1e-4)
