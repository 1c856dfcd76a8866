"""Sparse weights and factors: rebuilt by ONNX Runtime bit for bit, from the bytes that are counted, and refused when they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from accordion.artifact.bounds import Declared
from accordion.artifact.graph import check_graph
from accordion.artifact.segment import encode_segment, parse_header
from accordion.artifact.weights import SegmentFile, Weights, check_segment_bytes
from accordion.errors import FormatError
from accordion.packaging.codecs import Builder, Encoded, by_name
from accordion.packaging.graph import Graph, Pool
from accordion.packaging.render import Place, render
from accordion.packaging.segments import divide

Array = NDArray[Any]


def pruned(shape: tuple[int, ...], share: float, seed: int = 0) -> Array:
    weight = np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 0.1
    weight[np.abs(weight) < np.quantile(np.abs(weight), share)] = 0
    return weight


def packed(encoded: list[Encoded], precision: str, shape: tuple[int, ...]) -> tuple[bytes, bytes]:
    """A graph whose output is the rebuilt stack of tensors (plus an input that is zero), and its segment."""
    codec = by_name(precision).planes[0]
    pool = Pool()
    output = onnx.helper.make_tensor_value_info("y", 1, None)
    graph = Graph([], [onnx.helper.make_tensor_value_info("x", 1, ["n"])], [output], 17, 8)
    build = Builder(graph, pool)
    joined = {role: np.concatenate([one.parts[role].array for one in encoded]) for role in encoded[0].parts}
    made = codec.rebuild(build, {role: build.tensor(array, role) for role, array in joined.items()}, shape)
    graph.nodes = [*build.nodes, onnx.helper.make_node("Add", [made, "x"], ["y"])]
    segments = divide([graph])
    data = encode_segment(segments.tensors[0])
    places = {
        name: Place("a.safetensors", info.start, info.end - info.start) for name, info in parse_header(data, len(data), "a").items()
    }
    return render(graph, segments, lambda _, name: places[name]), data


def run(folder: Path, graph: bytes, segment: bytes) -> Array:
    (folder / "a.onnx").write_bytes(graph)
    (folder / "a.safetensors").write_bytes(segment)
    session = onnxruntime.InferenceSession(folder / "a.onnx", providers=["CPUExecutionProvider"])
    found: Array = session.run(None, {"x": np.zeros(1, np.float32)})[0]
    return found


def check(graph: bytes, segment: bytes, parameters: int) -> None:
    weights = Weights({"a.safetensors": SegmentFile.of(segment, check_segment_bytes(segment, "a"))})
    check_graph(graph, weights, "a.onnx", Declared(parameters, parameters))


@pytest.mark.parametrize("precision", ["sparse4", "sparse8"])
@pytest.mark.parametrize("shape", [(16, 16, 3, 3), (4, 3, 3, 3), (5, 7), (3, 1), (8, 8)])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0])
def test_onnx_runtime_rebuilds_a_stack_of_pruned_tensors_bit_for_bit(
    precision: str, shape: tuple[int, ...], share: float, tmp_path: Path
) -> None:
    weights = [pruned(shape, share, seed) if share < 1 or seed else np.zeros(shape, np.float32) for seed in range(3)]
    encoded = [by_name(precision).planes[0].encode(weight) for weight in weights]
    graph, segment = packed(encoded, precision, shape)
    check(graph, segment, sum(weight.size for weight in weights))
    np.testing.assert_array_equal(run(tmp_path, graph, segment), np.concatenate([one.value for one in encoded]))
    for weight, one in zip(weights, encoded, strict=True):
        assert (one.value[weight == 0] == 0).all()


def test_only_what_is_left_travels() -> None:
    weight = pruned((64, 64, 3, 3), 0.75)
    dense, sparse = (by_name(name).planes[0].encode(weight) for name in ("int4", "sparse4"))
    left = int((sparse.value != 0).sum())
    assert sparse.nbytes == weight.size // 8 + (left + 1) // 2 + 2 * 64
    assert sparse.nbytes < 0.52 * dense.nbytes
    np.testing.assert_array_equal(sparse.value, dense.value)


@pytest.mark.parametrize("precision", ["sparse4", "sparse8"])
@pytest.mark.parametrize("change", ["one bit more", "codes cut off"])
def test_a_mask_that_promises_more_than_travels_is_refused(precision: str, change: str) -> None:
    """All indices are made of the mask: a bit too many reads behind the end of the codes."""
    shape = (8, 2, 3, 3)
    encoded = by_name(precision).planes[0].encode(pruned(shape, 0.5))
    parts = {role: part.array.copy() for role, part in encoded.parts.items()}
    if change == "one bit more":
        parts["present"][:] = 255
    else:
        parts["codes"] = parts["codes"][:-1]
    changed = {role: type(encoded.parts[role])(array) for role, array in parts.items()}
    graph, segment = packed([Encoded(changed, encoded.value)], precision, shape)
    with pytest.raises(FormatError, match="are out of range"):
        check(graph, segment, 144)


def test_factors_travel_where_they_pay(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    weight = (rng.standard_normal((64, 6)) @ rng.standard_normal((6, 576)) / 20).astype(np.float32).reshape(64, 64, 3, 3)
    codec = by_name("lowrank8").planes[0]
    encoded, dense = codec.encode(weight), by_name("int8").planes[0].encode(weight)
    assert encoded.nbytes < 0.2 * dense.nbytes
    assert ((encoded.value - weight) ** 2).sum() <= 4 * ((dense.value - weight) ** 2).sum()
    graph, segment = packed([encoded], "lowrank8", weight.shape)
    check(graph, segment, weight.size)
    np.testing.assert_array_equal(run(tmp_path, graph, segment), encoded.value)


def test_factors_that_do_not_pay_stay_at_home(tmp_path: Path) -> None:
    weight = pruned((32, 32, 3, 3), 0.0)
    encoded, dense = (by_name(name).planes[0].encode(weight) for name in ("lowrank8", "int8"))
    np.testing.assert_array_equal(encoded.value, dense.value)
    assert encoded.nbytes == dense.nbytes
    np.testing.assert_array_equal(run(tmp_path, *packed([encoded], "lowrank8", weight.shape)), encoded.value)
