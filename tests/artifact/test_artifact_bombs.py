"""Graphs that are small and would become large, slow or nonsense: each is refused before anything runs, in little memory."""

from __future__ import annotations

import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_graphs import I64, B, Made, W, node, shape, used  # type: ignore[import-not-found]

from accordion.artifact.bounds import Declared
from accordion.artifact.graph import check_graph
from accordion.artifact.segment import encode_segment
from accordion.artifact.weights import check_segment_bytes
from accordion.errors import FormatError

HUGE = shape(2**20, 2**20)
DOUBLING = [node("Concat", f"c{i} c{i}", f"c{i + 1}", axis=0) for i in range(30)]
ADDING = [node("Expand", "w side", "a0"), *(node("Add", "a0 a0", f"a{i}") for i in range(1, 200))]

REBUILDS: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray[Any, Any]]]] = {
    "expand": ([node("Expand", "one0 huge", "e"), *used("e")], {"one0": W[:1, :1].copy(), "huge": HUGE}),
    "tile": ([node("Tile", "w times", "e"), *used("e")], {"w": W, "times": HUGE}),
    "constant of shape": ([node("ConstantOfShape", "huge", "e"), *used("e")], {"huge": HUGE, "w": W}),
    "range": ([node("Range", "from to step", "e"), *used("e")], {
        "from": np.array(0, I64), "to": np.array(2**40, I64), "step": np.array(1, I64), "w": W}),
    "resize": ([node("Reshape", "w four", "f"), helper.make_node("Resize", ["f", "", "", "sizes"], ["e"]), *used("e")], {
        "w": W, "four": shape(1, 1, 8, 8), "sizes": shape(1, 1, 2**20, 2**20)}),
    "pad": ([node("Pad", "w pads", "e"), *used("e")], {"w": W, "pads": shape(0, 2**40, 0, 0)}),
    "gather": ([node("Expand", "index huge", "i"), node("Gather", "w i", "e"), *used("e")], {
        "w": W, "index": shape(0), "huge": HUGE}),
    "gather of gathers": (
        [node("Gather", "w i", "g0"), *(node("Gather", f"g{j} i", f"g{j + 1}") for j in range(12)), *used("g12")],
        {"w": W, "i": shape(*[0] * 500).reshape(20, 25)},
    ),
    "doubling concat": ([node("Identity", "w", "c0"), *DOUBLING, *used("c30")], {"w": W}),
    "outer product": (
        [node("Reshape", "w col", "u"), node("Expand", "u wide", "a"), node("Transpose", "a", "b", perm=[1, 0]),
         node("MatMul", "b a", "e"), *used("e")],
        {"w": W, "col": shape(64, 1), "wide": shape(64, 50_000)},
    ),
    "broadcast": ([node("Expand", "w l", "a"), node("Expand", "w r", "b"), node("Where", "c a b", "e"), *used("e")], {
        "w": W, "l": shape(1, 4096, 1, 8, 8), "r": shape(4096, 1, 1, 8, 8), "c": np.zeros((4096, 4096, 1, 1, 1), np.uint8)[:1, :1].astype(bool)}),
    "scatter": ([node("ConstantOfShape", "huge", "z"), node("ScatterND", "z i v", "e"), *used("e")], {
        "huge": HUGE, "i": shape(0, 0).reshape(1, 2), "v": np.ones(1, np.float32)}),
    "one-hot": ([node("Cast", "b", "i", to=7), node("OneHot", "i depth values", "e"), *used("e")], {
        "b": B, "depth": np.array(2**36, I64), "values": np.array([0, 1], np.float32)}),
    "many steps": ([*ADDING, *used("a199")], {"w": W, "side": shape(512, 8, 8)}),
    "eye": ([node("ConstantOfShape", "side", "z"), node("EyeLike", "z", "e"), *used("e")], {"side": shape(2**16, 2**16), "w": W}),
    "convolution": (
        [node("Reshape", "w four", "f"), node("Conv", "f k", "e", pads=[2**15] * 4), *used("e")],
        {"w": W, "four": shape(1, 1, 8, 8), "k": np.ones((1, 1, 1, 1), np.float32)},
    ),
    "pooling with a wide window": (
        [node("Reshape", "w four", "f"), node("AveragePool", "f", "e", kernel_shape=[2**20, 2**20], pads=[2**20] * 4), *used("e")],
        {"w": W, "four": shape(1, 1, 8, 8)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REBUILDS)
def test_weights_that_would_become_large_are_refused_in_little_memory(name: str) -> None:
    made = Made(*REBUILDS[name])
    check_graph(
        helper.make_model(helper.make_graph([], "empty", [], []), opset_imports=made.model.opset_import).SerializeToString(), {}, ""
    )
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=r"^it: .*(grows beyond|operations|can't be told)"):
            made.check()
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 32 * 1024  # kB; what C++ takes counts too


def test_the_bound_grows_with_what_was_delivered() -> None:
    nodes = [node("Expand", "w wide", "e"), *used("e")]
    wide = shape(16, 2**10, 64)
    with pytest.raises(FormatError, match="grows beyond"):
        Made(nodes, {"w": np.zeros((1, 64), np.float32), "wide": shape(2**7, 2**10, 64), "k": W}).check()
    Made(nodes, {"w": np.zeros((2**10, 64), np.float32), "wide": wide}).check(Declared(2**16, 2**16))


RUNS: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray[Any, Any]]]] = {
    "expanded input": ([node("Expand", "x huge", "y")], {"huge": shape(2**20, 2**16, 8), "w": W}),
    "tiled input": ([node("Tile", "x times", "y")], {"times": shape(1, 2**28), "w": W}),
    "padded input": ([node("Pad", "x pads", "y")], {"pads": shape(0, 2**40, 0, 0), "w": W}),
    "outer product of the input": (
        [node("Tile", "x times", "a"), node("Transpose", "a", "b"), node("MatMul", "b a", "y")],
        {"times": shape(1, 2**12), "w": W},
    ),
    "power of the batch": (
        [node("Shape", "x", "s", start=0, end=1), node("Mul", "s s", "s2"), node("Mul", "s2 s2", "s4"), node("Mul", "s4 s4", "s8"),
         node("Mul", "s8 s4", "s12"), node("ConstantOfShape", "s12", "big"), node("Concat", "s eight", "back", axis=0),
         node("ReduceMax", "big", "m", keepdims=0), node("Add", "x m", "y")],
        {"eight": shape(8), "w": W},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_a_graph_may_not_work_far_more_than_its_ladder_says(name: str) -> None:
    with pytest.raises(FormatError, match=r"^it: .*(at once for one input|where the ladder says)"):
        Made(*RUNS[name]).check()


def test_work_within_what_the_ladder_says_passes() -> None:
    tensors = {"w": np.zeros((8, 2**18), np.float32)}
    nodes = [node("MatMul", "x w", "a"), node("MatMul", "a v", "b"), node("MatMul", "b w", "c"), node("MatMul", "c v", "y")]
    tensors["v"] = np.zeros((2**18, 8), np.float32)
    Made(nodes, tensors).check(Declared(2**22, 2**23))
    many = [node("MatMul", "x w", "a0"), *(node("Tanh", f"a{i}", f"a{i + 1}") for i in range(200)), node("Identity", "a200", "y")]
    with pytest.raises(FormatError, match="where the ladder says 4 for one input"):
        Made(many, tensors).check(Declared(2**22, 4))


def test_parameters_that_nothing_was_delivered_for_are_refused() -> None:
    with pytest.raises(FormatError, match=r"it: its configuration claims 1000000000 parameters"):
        Made([node("MatMul", "x w", "y")], {"w": W}).check(Declared(10**9, 64))


REFUSED: dict[str, Callable[[], Made]] = {
    "loop": lambda: Made([node("Loop", "", "y", body=helper.make_graph([], "b", [], []))], {"w": W}),
    "random": lambda: Made([node("RandomUniformLike", "x", "y")], {"w": W}),
    "size by value": lambda: Made([node("NonZero", "x", "y")], {"w": W}),
    "size from a segment": lambda: Made([node("Cast", "b", "s", to=7), node("Expand", "x s", "y")], {"b": B[:2].copy()}),
    "size from the input": lambda: Made([node("Cast", "x", "s", to=7), node("ConstantOfShape", "s", "y")], {"w": W}),
    "unknown operator": lambda: Made([node("Bomb", "x", "y")], {"w": W}),
    "operator of a later set": lambda: Made([node("Gelu", "x", "y")], {"w": W}),
    "too few inputs": lambda: Made([node("MatMul", "x", "y")], {"w": W}),
    "shapes that don't fit": lambda: Made([node("MatMul", "x v", "y")], {"v": W[:7].copy()}),
    "odd number of nibbles": lambda: Made(
        [node("BitShift", "b four", "high", direction="RIGHT"), node("Reshape", "high to", "r"), *used("r")],
        {"b": B[:63].copy(), "four": np.array(4, np.uint8), "to": shape(8, 8)},
    ),
    "parts that don't add up": lambda: Made(
        [helper.make_node("Split", ["w", "parts"], ["p", "q"], axis=0), *used("p")], {"w": W, "parts": shape(4, 5)}
    ),
    "negative size": lambda: Made([node("Pad", "w pads", "p"), *used("p")], {"w": W, "pads": shape(0, -9, 0, 0)}),
    "zero point of another type": lambda: Made(
        [node("DequantizeLinear", "b s z", "p"), *used("p")],
        {"b": B, "s": np.ones((), np.float32), "z": np.array(-1, np.int8)},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_bounded_or_does_not_fit_is_refused(name: str) -> None:
    with pytest.raises(FormatError, match=r"^it: "):
        REFUSED[name]().check()


def gather(index: np.ndarray[Any, Any], **attributes: Any) -> Made:
    return Made([node("Cast", "i", "index", to=7), node("Gather", "w index", "g", **attributes), *used("g")], {"w": W, "i": index})


def test_indices_over_constants_are_in_range_or_refused() -> None:
    gather(np.array([0, 7], np.uint8)).check()
    gather(np.array([-8], np.int8)).check()
    for index in (np.array([0, 8], np.uint8), np.array([-9], np.int8)):
        with pytest.raises(FormatError, match=r"the indices of the Gather that makes 'g' are out of range"):
            gather(index).check()
    with pytest.raises(FormatError, match=r"an axis that is not there|does not fit"):
        gather(np.array([0], np.uint8), axis=5).check()


def test_indices_that_are_summed_up_are_followed() -> None:
    """Distances between the weights that are left, as a sparse form has them."""

    def made(steps: list[int]) -> Made:
        nodes = [
            node("Cast", "steps", "wide", to=7), node("CumSum", "wide axis", "where"), node("Unsqueeze", "where last", "at"),
            node("ConstantOfShape", "size", "zeros"), node("ScatterND", "zeros at v", "dense"), *used("dense"),
        ]  # fmt: skip
        tensors = {
            "steps": np.array(steps, np.uint8), "axis": np.array(0, I64), "last": shape(1), "size": shape(64), "v": np.ones(3, np.float32),
        }  # fmt: skip
        return Made(nodes, tensors)

    made([5, 30, 28]).check()
    with pytest.raises(FormatError, match=r"the ScatterND that makes 'dense' are out of range: they go from 5 to 64"):
        made([5, 30, 29]).check()


def test_indices_that_stand_in_the_graph_are_compared() -> None:
    with pytest.raises(FormatError, match="out of range"):
        Made([node("Gather", "w i", "g"), *used("g")], {"w": W, "i": shape(8)}).check()


def test_indices_made_by_what_is_not_followed_are_refused() -> None:
    nodes = [node("MatMul", "w w", "m"), node("Cast", "m", "i", to=7), node("Gather", "w i", "g"), *used("g")]
    with pytest.raises(FormatError, match="made by 'MatMul', which can't be followed"):
        Made(nodes, {"w": W}).check()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(dtype: str, value: float) -> None:
    array = np.ones(3000, dtype)
    check_segment_bytes(encode_segment({"scale": array, "b": B}), "it")
    array[2999] = value
    with pytest.raises(FormatError, match="'scale' holds a NaN or an infinity, at element 2999"):
        check_segment_bytes(encode_segment({"scale": array, "b": B}), "it")


@pytest.mark.parametrize(
    "kind, width, bad", [("BF16", 2, b"\x80\x7f"), ("F8_E4M3", 1, b"\xff"), ("F8_E5M2", 1, b"\x7c"), ("F8_E5M2", 1, b"\xfe")]
)
def test_narrow_floats_that_are_none_are_refused(kind: str, width: int, bad: bytes) -> None:
    for last, fine in ((bytes(width), True), (bad, False)):
        header = f'{{"s":{{"dtype":"{kind}","shape":[4],"data_offsets":[0,{4 * width}]}}}}'.encode().ljust(96)
        data = len(header).to_bytes(8, "little") + header + bytes(3 * width) + last
        if fine:
            check_segment_bytes(data, "it")
        else:
            with pytest.raises(FormatError, match="at element 3"):
                check_segment_bytes(data, "it")


@pytest.mark.parametrize("value, problem", [(np.nan, "'s' holds a NaN"), (np.inf, "makes weights of an infinity")])
def test_a_scale_that_stands_in_the_graph_is_finite_too(value: float, problem: str) -> None:
    made = Made([node("Mul", "w s", "scaled"), *used("scaled")], {"w": W, "s": np.array(1, np.float32)})
    made.model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array(value, np.float32), "s"))
    with pytest.raises(FormatError, match=problem):
        made.check()


def test_an_infinity_may_mask_what_is_computed() -> None:
    nodes = [
        node("Constant", "", "low", value=numpy_helper.from_array(np.array(-np.inf, np.float32))),
        node("Where", "m x low", "y"),
    ]
    Made(nodes, {"m": np.ones(8, bool)}).check()


def test_bytes_that_a_graph_reads_as_floats_are_finite_too() -> None:
    made = Made([node("Add", "x w", "y")], {"w": np.frombuffer(np.full(8, np.nan, np.float32).tobytes(), np.uint8)})
    tensor = made.model.graph.initializer[0]
    tensor.data_type, tensor.dims[:] = TensorProto.FLOAT, [8]
    with pytest.raises(FormatError, match="'w' holds a NaN"):
        made.check()


def test_a_segment_on_disk_is_looked_through_piece_by_piece(tmp_path: Path) -> None:
    from accordion.artifact.weights import check_segment

    array = np.ones(4 * 2**20, np.float32)
    array[-1] = np.inf
    path = tmp_path / "s"
    path.write_bytes(encode_segment({"w": array}))
    tracemalloc.start()
    try:
        with path.open("rb") as stream, pytest.raises(FormatError, match="at element 4194303"):
            check_segment(stream, path.stat().st_size, "it")
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
