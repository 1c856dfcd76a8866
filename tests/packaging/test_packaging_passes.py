from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from accordion.errors import FormatError, UsageError
from accordion.packaging.constants import fold_constants
from accordion.packaging.graph import Pool, parse
from accordion.packaging.segments import divide, is_inline


def _model(nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], domain: str = "") -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


WEIGHT = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)


def _ops(model: bytes) -> tuple[list[str], dict[str, np.ndarray]]:
    pool = Pool()
    graph = parse(model, pool)
    fold_constants(graph, pool)
    return [node.op_type for node in graph.nodes], graph.tensors


def test_a_chain_over_constants_becomes_the_constant() -> None:
    nodes = [
        helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([2], np.int64))),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"], value=numpy_helper.from_array(np.array([3], np.int64))),
        helper.make_node("Cast", ["zeros"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["cast"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    ops, tensors = _ops(_model(nodes, {}))
    assert ops == ["Add"]
    assert {name: array.tolist() for name, array in tensors.items()} == {"sum": 6.0}


def test_aliases_of_constants_vanish() -> None:
    nodes = [
        helper.make_node("Identity", ["w"], ["a"]),
        helper.make_node("Identity", ["a"], ["b"]),
        helper.make_node("MatMul", ["x", "b"], ["y"]),
    ]
    ops, tensors = _ops(_model(nodes, {"w": WEIGHT}))
    assert ops == ["MatMul"] and list(tensors) == ["w"]


def test_a_weight_is_transposed_here_only_if_nobody_reads_it_as_it_is() -> None:
    transposed = [helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]), helper.make_node("MatMul", ["x", "t"], ["y"])]
    ops, tensors = _ops(_model(transposed, {"w": WEIGHT}))
    assert ops == ["MatMul"] and np.array_equal(tensors["t"], WEIGHT.T)
    both = [helper.make_node("MatMul", ["x", "w"], ["z"]), transposed[0], helper.make_node("MatMul", ["z", "t"], ["y"])]
    ops, tensors = _ops(_model(both, {"w": WEIGHT}))
    assert ops == ["MatMul", "Transpose", "MatMul"] and list(tensors) == ["w"]


def test_a_constant_is_not_blown_up() -> None:
    shape = np.array([300, 64], np.int64)
    nodes = [helper.make_node("Expand", ["row", "shape"], ["wide"]), helper.make_node("Add", ["x", "wide"], ["y"])]
    ops, _ = _ops(_model(nodes, {"row": WEIGHT[0], "shape": shape}))
    assert ops == ["Expand", "Add"]


def test_random_numbers_stay_random() -> None:
    nodes = [helper.make_node("RandomNormalLike", ["row"], ["noise"]), helper.make_node("Add", ["x", "noise"], ["y"])]
    ops, _ = _ops(_model(nodes, {"row": WEIGHT[0]}))
    assert ops == ["RandomNormalLike", "Add"]


def test_equal_contents_are_one_tensor_and_equal_bytes_of_another_shape_are_not() -> None:
    nodes = [
        helper.make_node("Add", ["x", "a"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["q"]),
        helper.make_node("Add", ["q", "c"], ["y"]),
    ]
    row = WEIGHT[0]
    graph = parse(_model(nodes, {"a": row, "b": row.copy(), "c": row.reshape(1, 64)}), Pool())
    assert graph.tensors["a"] is graph.tensors["b"]
    segments = divide([graph, graph])
    assert [list(segment) for segment in segments.tensors] == [["a", "c"], []]


def test_two_contents_of_one_name_live_in_one_segment_side_by_side() -> None:
    pool = Pool()
    nodes = [helper.make_node("Add", ["x", "a"], ["y"])]
    first, second = (parse(_model(nodes, {"a": WEIGHT[row]}), pool) for row in (0, 1))
    first.tensors["other"], first.nodes[0].input[0] = second.tensors["a"], "other"
    assert first.add("a", second.tensors["a"]) == "a.2"
    assert list(divide([first]).tensors[0]) == ["other", "a"]


def test_narrow_types_come_last_so_that_all_tensors_are_aligned() -> None:
    nodes = [helper.make_node("Where", ["m", "x", "w"], ["y"])]
    graph = parse(_model(nodes, {"m": np.ones((3, 1025), bool), "w": WEIGHT}), Pool())
    assert list(divide([graph]).tensors[0]) == ["w", "m"]


@pytest.mark.parametrize(
    "array, inline",
    [
        (np.zeros(128, np.int64), True),
        (np.zeros(129, np.int64), False),
        (np.zeros((), np.float32), True),
        (np.zeros(1, np.float32), True),
        (np.zeros(2, np.float32), False),
        (np.zeros(1024, bool), True),
        (np.arange(4, dtype=np.int8), False),
        (np.zeros(64, np.int8), True),
        (np.zeros(2, np.uint8), False),
    ],
)
def test_what_stays_in_the_graph(array: np.ndarray, inline: bool) -> None:
    assert is_inline(array) is inline


def test_operators_outside_onnx_are_refused() -> None:
    node = helper.make_node("Own", ["x"], ["y"], domain="com.example")
    with pytest.raises(UsageError, match=r"outside ONNX: com\.example"):
        parse(_model([node], {}, domain="com.example"), Pool())


def test_branches_are_refused() -> None:
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["o"])], "b", [], [out])
    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)
    with pytest.raises(UsageError, match="branches or loops"):
        parse(_model([node], {"flag": np.array(True)}), Pool())


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(FormatError, match="no ONNX model"):
        parse(b"\xff\xff", Pool())
