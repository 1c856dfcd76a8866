"""ONNX graphs from an attacker, by name: each is refused before ONNX Runtime sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from small_graphs import Made, W, node, shape, used  # type: ignore[import-not-found]

from accordion.artifact.graph import MOST_NODES, check_graph
from accordion.errors import FormatError

Change = Callable[[onnx.ModelProto], None]


def sound() -> Made:
    """y = x + max(w)."""
    return Made(used("w"), {"w": W})


def refused(model: onnx.ModelProto | bytes, match: str) -> None:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(FormatError, match=match) as caught:
        check_graph(data, {"a": 1000}, "it")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_what_these_attacks_begin_with_is_taken() -> None:
    sound().check()


# Files ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["../a", "/etc/passwd", "b/../../a", "~/a", "C:\\a", "file:///a", "a\0", ".", "", "./a", "a/", "//a"]
)
def test_external_data_out_of_the_folder(path: str) -> None:
    model = sound().model
    model.graph.initializer[0].external_data[0].value = path
    refused(model, "path")


@pytest.mark.parametrize("key", ["basepath", "location", "offset"])
def test_external_data_said_twice_or_in_an_unknown_way(key: str) -> None:
    model = sound().model
    model.graph.initializer[0].external_data.add(key=key, value="..")
    refused(model, "says in an unknown way where it lies")


@pytest.mark.parametrize("offset", ["-1", "1e3", "0x10", " 1", "9" * 16, "1000", "٣"])
def test_external_data_at_an_odd_place(offset: str) -> None:
    model = sound().model
    model.graph.initializer[0].external_data[1].value = offset
    refused(model, r"no offset or length that is a number|ends at byte")


def test_external_data_in_an_attribute() -> None:
    tensor = sound().model.graph.initializer[0]
    made = Made([node("Constant", "", "c", value=tensor), *used("c")], {"w": W})
    refused(made.model, "an attribute points to a file")


def test_a_link_out_of_the_folder_is_not_what_was_fetched(tmp_path: Path) -> None:
    """A package can hold no link; where somebody else puts one, the file behind it has another digest."""
    from accordion.artifact.digest import sha256_digest
    from accordion.artifact.manifest import CONFIG_MEDIA_TYPE, LADDER_JSON, Descriptor, Manifest
    from accordion.device.state import FileEntry, State
    from accordion.device.store import Store
    from accordion.errors import DigestError

    digest = sha256_digest(b"what was fetched")
    manifest = Manifest.build(Descriptor(CONFIG_MEDIA_TYPE, digest, 1), [Descriptor(LADDER_JSON, digest, 16)], {})
    state = State("n", "http://h", None, manifest.digest, None, 0, {"w.safetensors": FileEntry(16, digest, digest)})
    (tmp_path / "w.safetensors").symlink_to("/etc/passwd")
    with pytest.raises(DigestError, match="not what was fetched"):
        Store(tmp_path, manifest, state).check_file("w.safetensors")


# Sizes ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [[2**62, 4], [2**32, 2**32], [2**63 - 1], [-1], [8, -8], [1] * 33, [2**40, 2]])
def test_a_tensor_of_a_size_that_nothing_can_have(dims: list[int]) -> None:
    model = sound().model
    model.graph.initializer[0].dims[:] = dims
    refused(model, "has a shape or a type that nothing can have")


@pytest.mark.parametrize("dims", [[2**62, 2**62], [2**63 - 1], [2**31, 2**31, 4]])
def test_an_input_of_a_size_that_nothing_can_have(dims: list[int]) -> None:
    made = sound()
    made.model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, dims))
    with pytest.raises(FormatError, match=r"at once for one input|does not fit|nothing can have"):
        made.check()


@pytest.mark.parametrize("times", [2**61, 2**62, 2**63 - 1])
def test_a_size_that_overflows_on_the_way(times: int) -> None:
    """8 x 2^61 is 0 in 64 bits: what wraps around must not pass for small."""
    with pytest.raises(FormatError):
        Made([node("Tile", "w times", "t"), *used("t")], {"w": W, "times": shape(times, times)}).check()


@pytest.mark.parametrize("more", [4096, 2**16])
def test_weights_inside_of_the_graph(more: int) -> None:
    model = sound().model
    model.graph.initializer.append(helper.make_tensor("more", TensorProto.UINT8, [more], bytes(more), raw=True))
    if more <= 4096:
        check_graph(model.SerializeToString(), {"a": 1000}, "it")
    else:
        refused(model, "holds weights in the graph itself")


def test_many_small_weights_inside_of_the_graph() -> None:
    model = sound().model
    for index in range(1100):
        model.graph.initializer.append(helper.make_tensor(f"m{index}", TensorProto.UINT8, [4000], bytes(4000), raw=True))
    refused(model, "holds weights in the graph itself")


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8])
def test_weights_in_pieces_that_are_each_small_enough(kind: int) -> None:
    """A few masks and means may stand in the graph, a layer's weights may not, however they are cut."""

    def model(count: int, how: str) -> onnx.ModelProto:
        made = sound().model
        for index in range(count):
            tensor = helper.make_tensor(f"m{index}", kind, [20, 10], [1] * 200)
            if how == "tensor":
                made.graph.initializer.append(tensor)
            elif how == "constant":
                made.graph.node.append(helper.make_node("Constant", [], [f"m{index}"], value=tensor))
            else:
                made.graph.node.append(helper.make_node("Constant", [], [f"m{index}"], value_floats=[1.0] * 200))
        return made

    for how in ("tensor", "constant", "floats"):
        check_graph(model(10, how).SerializeToString(), {"a": 1000}, "it")
        refused(model(100, how), "holds weights in the graph itself")


@pytest.mark.parametrize("dims", [[0], [], [1], [0, 200]])
def test_a_constant_with_other_elements_than_it_says(dims: list[int]) -> None:
    model = sound().model
    odd = TensorProto(name="m", data_type=TensorProto.FLOAT, dims=dims, raw_data=b"\1" * 800)
    model.graph.node.append(helper.make_node("Constant", [], ["m"], value=odd))
    refused(model, "other elements than its shape and type say")


def test_a_tensor_of_a_million_axes_is_refused_before_they_are_multiplied() -> None:
    model = sound().model
    model.graph.initializer.append(TensorProto(name="m", data_type=TensorProto.FLOAT, dims=[2**40] * 1_000_000))
    refused(model, "holds weights in the graph itself")


def test_shapes_and_short_constants_inside_of_the_graph_are_no_weights() -> None:
    model = sound().model
    for index in range(200):
        model.graph.initializer.append(helper.make_tensor(f"i{index}", TensorProto.INT64, [100], [1] * 100))
        model.graph.initializer.append(helper.make_tensor(f"f{index}", TensorProto.FLOAT, [16], [1.0] * 16))
    check_graph(model.SerializeToString(), {"a": 1000}, "it")


def test_a_tensor_with_fewer_elements_than_it_says() -> None:
    model = sound().model
    model.graph.initializer.append(TensorProto(name="m", data_type=TensorProto.INT64, dims=[4], raw_data=b"\0" * 8))
    refused(model, "other elements than its shape and type say")


# What it is made of --------------------------------------------------------------------------------------------------------


def subgraph(operator: str) -> Made:
    body = helper.make_graph([node("Identity", "x", "z")], "b", [], [helper.make_tensor_value_info("z", 1, None)])
    names = {"If": ("then_branch", "else_branch"), "Loop": ("body",), "Scan": ("body",)}[operator]
    more = {"num_scan_inputs": 1} if operator == "Scan" else {}
    return Made([node(operator, "x", "y", **dict.fromkeys(names, body), **more)], {"w": W})


@pytest.mark.parametrize("operator", ["If", "Loop", "Scan"])
def test_branches_and_loops(operator: str) -> None:
    refused(subgraph(operator).model, "branches and loops have no bound")


def test_graphs_within_graphs_without_end() -> None:
    def field(number: int, data: bytes) -> bytes:
        size, length = len(data), b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + data

    graph = b""
    for _ in range(200):
        graph = field(1, field(5, field(6, graph)))  # a graph with a node with an attribute that is a graph
    refused(sound().model.SerializeToString() + field(7, graph), r"branches and loops|is not an ONNX model")


def _function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("", "Add", ["a"], ["b"], [node("Add", "a a", "b")], model.opset_import))


def _training(model: onnx.ModelProto) -> None:
    model.training_info.add()


def _sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add()


def _strings(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("s", TensorProto.STRING, [1], [b"x" * 100]))
    model.graph.node.insert(0, node("Identity", "s", "t"))


def _sequence_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_sequence_value_info("q", TensorProto.FLOAT, [1]))


def _sequence_operator(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, node("SequenceConstruct", "x x", "q"))


def _optional(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, node("Optional", "x", "q"))


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "number"


def _itself(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "one"


def _domain(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.microsoft"


def _operator_set(model: onnx.ModelProto) -> None:
    model.opset_import.add(domain="ai.onnx.contrib", version=1)


def _unknown(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "PyOp"


def _internal(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "MemcpyFromHost"


def _twice_made(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "one"


def _made_over_a_weight(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "w"


def _twice_given(model: onnx.ModelProto) -> None:
    model.graph.input.append(model.graph.input[0])


def _twice_delivered(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def _no_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "nothing"


def _operator_set_twice(model: onnx.ModelProto) -> None:
    model.opset_import.add(domain="ai.onnx", version=11)


STRUCTURE: dict[str, tuple[Change, str]] = {
    "functions of its own": (_function, "defines functions"),
    "training of its own": (_training, "defines functions or training"),
    "sparse tensors": (_sparse, "sparse"),
    "strings": (_strings, "that nothing can have"),
    "a sequence as input": (_sequence_input, "is no tensor of a stated shape"),
    "a sequence": (_sequence_operator, "is not one that a package's graph may use"),
    "an optional": (_optional, "is not one that a package's graph may use"),
    "a cycle": (_cycle, "a cycle, or a hole"),
    "a node that reads itself": (_itself, "a cycle, or a hole"),
    "an operator of another domain": (_domain, "is of the domain 'com.microsoft'"),
    "another operator set": (_operator_set, "'ai.onnx.contrib'"),
    "an unknown operator": (_unknown, "is not one that a package's graph may use"),
    "an operator of the runtime's own": (_internal, "is not one that a package's graph may use"),
    "a value made twice": (_twice_made, "is made twice"),
    "a value made over a weight": (_made_over_a_weight, "is made twice"),
    "two inputs of one name": (_twice_given, "two of its inputs have one name"),
    "two tensors of one name": (_twice_delivered, "two of its tensors have one name"),
    "an output from nowhere": (_no_output, "nothing makes its output"),
    "an operator set twice": (_operator_set_twice, "names an operator set twice"),
}


@pytest.mark.parametrize("name", STRUCTURE)
def test_structure(name: str) -> None:
    change, match = STRUCTURE[name]
    model = sound().model
    change(model)
    refused(model, match)


@pytest.mark.parametrize("version", [0, -1, 999, 2**62])
def test_an_operator_set_that_nobody_knows(version: int) -> None:
    model = sound().model
    model.opset_import[0].version = version
    refused(model, "of an operator set: 1 to")


@pytest.mark.parametrize("version", [0, 2, onnx.IR_VERSION + 1, 2**62])
def test_a_format_that_nobody_knows(version: int) -> None:
    model = sound().model
    model.ir_version = version
    refused(model, "of the ONNX IR version")


def test_too_many_nodes() -> None:
    model = sound().model
    model.graph.node.extend(node("Identity", "x", f"i{index}") for index in range(MOST_NODES))
    refused(model, f"more than {MOST_NODES} nodes")


@pytest.mark.parametrize("name", ["Add", "number", "w", "x", "y"])
def test_names_that_are_no_text(name: str) -> None:
    data = sound().model.SerializeToString().replace(name.encode(), b"\xff" * len(name))
    refused(data, "no text|is not an ONNX model")


@pytest.mark.parametrize("data", [b"", b"\0", b"\x3a\xff\xff\xff\xff\x0f", b"onnx" * 100, b"\x0b" * 1000])
def test_no_model_at_all(data: bytes) -> None:
    refused(data, "is not an ONNX model")


# What shapes are told with -------------------------------------------------------------------------------------------------

ODD = (0, -1, 2**31, 2**62, 2**63 - 1, -(2**63))
FOUR = shape(1, 1, 8, 8)
ATTRIBUTES: dict[str, dict[str, Callable[[int], Any]]] = {
    "Conv": {"strides": lambda v: [v, v], "dilations": lambda v: [v, v], "pads": lambda v: [v] * 4, "group": lambda v: v},
    "AveragePool": {"strides": lambda v: [v, v], "kernel_shape": lambda v: [v, v], "pads": lambda v: [v] * 4},
    "SpaceToDepth": {"blocksize": lambda v: v},
    "DepthToSpace": {"blocksize": lambda v: v},
    "Flatten": {"axis": lambda v: v},
    "LRN": {"size": lambda v: v},
}


@pytest.mark.parametrize("operator", ATTRIBUTES)
@pytest.mark.parametrize("odd", ODD)
def test_the_shapes_of_odd_attributes_end_in_bounds(operator: str, odd: int) -> None:
    """Taken or refused in one line: the inference in C++ neither fails nor lets a size through that it can't hold."""
    for name, value in ATTRIBUTES[operator].items():
        more = {"kernel_shape": [2, 2]} if operator == "AveragePool" and name != "kernel_shape" else {}
        reads = "f k" if operator == "Conv" else "f"
        nodes = [node("Reshape", "w four", "f"), node(operator, reads, "e", **{name: value(odd)}, **more), *used("e")]
        made = Made(nodes, {"w": W, "four": FOUR, "k": np.ones((1, 1, 3, 3), np.float32)})
        try:
            made.check()
        except FormatError as error:
            assert "\n" not in str(error)
