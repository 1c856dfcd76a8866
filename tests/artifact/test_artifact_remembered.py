"""What is remembered from one graph of a ladder to the next saves work, and never an answer that would have been another."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from small_graphs import DECLARED, B, Made, W, node, shape, used  # type: ignore[import-not-found]

from accordion.artifact import graph as graph_module
from accordion.artifact.bounds import Declared
from accordion.artifact.graph import check_graph
from accordion.artifact.remembered import ENTRY, Remembered
from accordion.artifact.weights import SegmentFile, Weights, check_segment_bytes
from accordion.errors import FormatError

BIG = Declared(parameters=64, macs=10**6)


def files(made: Made) -> dict[str, SegmentFile]:
    return {"a": SegmentFile.of(made.segment, check_segment_bytes(made.segment, "the segment"))}


def check(made: Made, remembered: Remembered, declared: Declared = BIG) -> None:
    check_graph(made.model.SerializeToString(), Weights(files(made), remembered=remembered), "it", declared)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operators for which ONNX's inference was asked."""
    found: list[str] = []
    real = onnx.shape_inference.infer_node_outputs

    def counted(schema: Any, proto: onnx.NodeProto, *arguments: Any, **more: Any) -> Any:
        found.append(proto.op_type)
        return real(schema, proto, *arguments, **more)

    monkeypatch.setattr(onnx.shape_inference, "infer_node_outputs", counted)
    return found


def chain(count: int, prefix: str = "v") -> Made:
    """`count` products with the same matrix, under names of their own."""
    nodes = [node("MatMul", f"{'x' if not i else prefix + str(i)} w", f"{prefix}{i + 1}") for i in range(count)]
    return Made(nodes, {"w": W})


def test_equal_nodes_are_looked_at_once_whatever_their_names(asked: list[str]) -> None:
    remembered = Remembered()
    check(chain(1), remembered)
    first = len(asked)
    check(chain(9), remembered)
    check(chain(5, "other"), remembered)
    assert first == len(asked) == 2  # for one row, and for several


def test_over_other_values_a_node_is_another(asked: list[str]) -> None:
    remembered = Remembered()
    for wide in (8, 16):
        check(Made([node("MatMul", "x w", "y")], {"w": np.ones((8, wide), np.float32)}), remembered)
    assert asked == ["MatMul"] * 4


def expanded(*sizes: int) -> Made:
    return Made([node("Expand", "w to", "e"), *used("e")], {"w": W, "to": shape(*sizes)})


def test_the_elements_of_shapes_count() -> None:
    """The same nodes over the same tensors, but for the numbers in one of them."""
    remembered = Remembered()
    check(expanded(4, 8, 8), remembered)
    with pytest.raises(FormatError, match="grows beyond"):
        check(expanded(2**20, 8, 8), remembered)
    check(expanded(4, 8, 8), remembered)


def test_what_failed_fails_again() -> None:
    remembered = Remembered()
    for _ in range(2):
        with pytest.raises(FormatError, match="does not fit its inputs"):
            check(Made([node("MatMul", "x w", "y")], {"w": np.ones((3, 3), np.float32)}), remembered)
        with pytest.raises(FormatError, match="is not one that a package's graph may use"):
            check(Made([node("RandomNormalLike", "x", "y")], {"w": W}), remembered)


def test_what_a_graph_takes_in_all_is_counted_anew() -> None:
    remembered = Remembered()
    few = [node("Expand", "w to", "e"), *used("e")]
    many = [
        *(node("Expand", "w to", f"e{i}") for i in range(40)),
        node("Sum", " ".join(f"e{i}" for i in range(40)), "e"),
        *used("e"),
    ]
    tensors = {"w": W, "to": shape(2**11, 8, 8)}
    check(Made(few, tensors), remembered)
    with pytest.raises(FormatError, match="grows beyond"):
        check(Made(many, tensors), remembered)


def test_what_a_graph_computes_is_counted_anew() -> None:
    def wide(count: int) -> Made:
        pairs = [
            (node("MatMul", f"{f'v{i}' if i else 'x'} a", f"h{i}"), node("MatMul", f"h{i} b", f"v{i + 1}")) for i in range(count)
        ]
        wide = np.ones((8, 512), np.float32)
        return Made([one for pair in pairs for one in pair], {"a": wide, "b": wide.T.copy()})

    remembered, working = Remembered(), Declared(parameters=8192, macs=1)
    check(wide(2), remembered, working)
    with pytest.raises(FormatError, match="it computes more than"):
        check(wide(2000), remembered, working)


def test_numbers_inside_of_a_graph_are_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def shaped(count: int) -> Made:
        rows = [helper.make_node("Constant", [], [f"c{i}"], value_ints=list(range(100))) for i in range(count)]
        return Made([*rows, node("Identity", "x", "y")], {"w": W})

    monkeypatch.setattr(graph_module, "INLINE_TOTAL", 5000)
    remembered = Remembered()
    check(shaped(3), remembered)
    with pytest.raises(FormatError, match="holds weights in the graph itself"):
        check(shaped(9), remembered)


def test_a_tensor_that_was_seen_must_lie_in_this_configurations_files() -> None:
    made, remembered = chain(1), Remembered()
    check(made, remembered)
    there = files(made)
    for others, problem in (({}, "not among the files"), ({"a": SegmentFile.of(made.segment[:-1])}, "ends at byte")):
        with pytest.raises(FormatError, match=problem):
            check_graph(made.model.SerializeToString(), Weights(dict(others), remembered=remembered), "it", DECLARED)
    check_graph(made.model.SerializeToString(), Weights(there, remembered=remembered), "it", DECLARED)


def test_another_operator_set_is_asked_anew(asked: list[str]) -> None:
    remembered = Remembered()
    for opset in (17, 18):
        check(Made([node("MatMul", "x w", "y")], {"w": W}, opset), remembered)
    assert len(asked) == 4


def test_what_strangers_say_fills_no_more_than_the_room() -> None:
    remembered = Remembered(room=20_000)
    for seed in range(20):
        made = Made([node("Cast", "b", "e", to=1), *used("e")], {"b": np.repeat(B, seed + 1)})
        check(made, remembered, Declared(parameters=64 * (seed + 1), macs=10**6))
    kept = [remembered.nodes, remembered.places, remembered.values, remembered.walked]
    assert 0 <= remembered.room < ENTRY + 500
    assert sum(map(len, kept)) <= 20_000 // ENTRY
