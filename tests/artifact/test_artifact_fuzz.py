"""Graphs and segments of the golden packages, changed at random: taken or refused in one line, and nothing else."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accordion.artifact.bounds import Declared
from accordion.artifact.graph import check_graph
from accordion.artifact.weights import SegmentFile, Weights, check_segment, check_segment_bytes
from accordion.errors import ContentError

NAMES = ("precision", "trees", "cache")
DECLARED = Declared(10_000, 10_000)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module")
def seeds(golden: Path, broken: ModuleType) -> dict[str, tuple[bytes, dict[str, bytes]]]:
    """Name → the largest graph and all segments of a golden package."""
    made = {}
    for name in NAMES:
        parts = broken.take_apart(golden / name)
        graphs = [data for layer in parts.layers if layer.media_type == broken.GRAPHS_TAR for _, data in broken.untar(layer.data)]
        made[name] = max(graphs, key=len), {str(layer.path): layer.data for layer in parts.layers if layer.media_type == broken.RAW}
    return made


def checked(graph: bytes, segments: dict[str, bytes]) -> bool:
    """Whether it is taken."""
    try:
        files = {path: SegmentFile.of(data, check_segment_bytes(data, path)) for path, data in segments.items()}
        check_graph(graph, Weights(files), "it", DECLARED)
    except ContentError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
        return False
    return True


def changed(data: st.DataObject, original: bytes) -> bytes:
    """Bytes flipped, taken out, put in, or moved."""
    made = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, max(0, len(made) - 1)))
        kind = data.draw(st.sampled_from(["flip", "delete", "insert", "copy"]))
        if kind == "flip" and made:
            made[position] ^= data.draw(st.integers(1, 255))
        elif kind == "delete":
            del made[position : position + data.draw(st.integers(1, 8))]
        elif kind == "insert":
            made[position:position] = data.draw(st.binary(min_size=1, max_size=8))
        else:
            other = data.draw(st.integers(0, max(0, len(made) - 1)))
            made[position:position] = made[other : other + data.draw(st.integers(1, 64))]
    return bytes(made)


@pytest.mark.parametrize("name", NAMES)
def test_the_seeds_are_taken(seeds: dict[str, tuple[bytes, dict[str, bytes]]], name: str) -> None:
    assert checked(*seeds[name])


@FUZZ
@given(name=st.sampled_from(NAMES), data=st.data())
def test_a_graph_of_changed_bytes_is_taken_or_refused(
    seeds: dict[str, tuple[bytes, dict[str, bytes]]], name: str, data: st.DataObject
) -> None:
    graph, segments = seeds[name]
    checked(changed(data, graph), segments)


@FUZZ
@given(name=st.sampled_from(NAMES), data=st.data())
def test_a_graph_of_changed_nodes_is_taken_or_refused(
    seeds: dict[str, tuple[bytes, dict[str, bytes]]], name: str, data: st.DataObject
) -> None:
    graph, segments = seeds[name]
    model = onnx.ModelProto.FromString(graph)
    operators = sorted({schema.name for schema in onnx.defs.get_all_schemas()})
    number = st.one_of(st.integers(-3, 3), st.sampled_from([2**31, 2**40, 2**62, -(2**62), 2**63 - 1, -(2**63)]))
    for _ in range(data.draw(st.integers(1, 3))):
        node = data.draw(st.sampled_from(list(model.graph.node)))
        kind = data.draw(st.sampled_from(["operator", "attribute", "input", "dims", "less", "more"]))
        if kind == "operator":
            node.op_type = data.draw(st.sampled_from(operators))
        elif kind == "attribute":
            name_of = data.draw(
                st.sampled_from(["axis", "to", "perm", "pads", "kernel_shape", "num_outputs", "batch_dims", "start"])
            )
            value = data.draw(st.one_of(number, st.lists(number, min_size=1, max_size=4), st.text(max_size=3)))
            node.attribute.append(onnx.helper.make_attribute(name_of, value))
        elif kind == "input" and node.input:
            node.input[data.draw(st.integers(0, len(node.input) - 1))] = data.draw(
                st.sampled_from([*node.input, "", *model.graph.node[0].output])
            )
        elif kind == "dims":
            tensor = data.draw(st.sampled_from(list(model.graph.initializer)))
            tensor.dims[:] = data.draw(st.lists(number, max_size=3))
        elif kind == "less" and node.input:
            del node.input[-1]
        else:
            constant = onnx.helper.make_tensor("more", onnx.TensorProto.INT64, [1], [data.draw(number)])
            model.graph.initializer.append(constant)
            node.input.append("more")
    checked(model.SerializeToString(), segments)


@FUZZ
@given(name=st.sampled_from(NAMES), data=st.data())
def test_a_segment_of_changed_bytes_is_taken_or_refused(
    seeds: dict[str, tuple[bytes, dict[str, bytes]]], name: str, data: st.DataObject
) -> None:
    graph, segments = seeds[name]
    path = data.draw(st.sampled_from(sorted(segments)))
    other = changed(data, segments[path])
    checked(graph, {**segments, path: other})
    try:
        check_segment(io.BytesIO(other), len(other), "it")
    except ContentError as error:
        assert "\n" not in str(error)
