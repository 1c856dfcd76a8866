"""Weights that the device makes itself: the same bits as the graph's own operators give, made once, within bounds."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from accordion.device.rebuilding import Rebuilder, files, lookup, rebuilder
from accordion.device.sessions import make_session
from accordion.errors import FormatError, StorageError
from accordion.packaging.codecs import PRECISIONS, Precision, by_name, encode_planes
from accordion.packaging.encode import Encodings, Group, Point, encode_graphs
from accordion.packaging.graph import Graph, Pool
from accordion.packaging.parts import parts_of

X = np.random.default_rng(3).random((2, 3, 7, 7), dtype=np.float32)
SHAPES = {"stem": (4, 3, 3, 3), "one": (4, 4, 3, 3), "two": (4, 4, 3, 3), "odd": (4, 4, 1, 1), "three": (4, 4, 3, 3)}
FLOAT = TensorProto.FLOAT


def network(depth: int, pool: Pool) -> Graph:
    """A chain of convolutions, the first `depth` + 2 of `SHAPES`, then a matrix with an odd number of columns."""
    nodes, tensors, last = [], {}, "input"
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    biases = {name: rng.standard_normal(4).astype(np.float32) for name in SHAPES}
    head = rng.standard_normal((5, 7)).astype(np.float32)
    for name in [*SHAPES][: depth + 2]:
        tensors[f"{name}.w"], tensors[f"{name}.b"] = pool.intern(weights[name]), pool.intern(biases[name])
        same = [1, 1, 1, 1] if SHAPES[name][-1] == 3 else [0, 0, 0, 0]
        nodes.append(helper.make_node("Conv", [last, f"{name}.w", f"{name}.b"], [name], pads=same))
        last = name
    tensors["head.w"] = pool.intern(head)
    nodes.append(helper.make_node("ReduceMean", [last], ["mean"], axes=[1, 2], keepdims=0))
    nodes.append(helper.make_node("Gemm", ["mean", "head.w"], ["y"], transB=1))
    values = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in (("input", ["n", 3, 7, 7]), ("y", ["n", 5]))]
    return Graph(nodes, values[:1], values[1:], 17, 8, tensors)


def lay_out(folder: Path, precision: Precision) -> list[Path]:
    """The files of a ladder that grows in depth, then in planes; returns its graphs."""
    pool = Pool()
    graphs = [network(depth, pool) for depth in range(4)]
    blocks, vectors = Group("blocks", precision), Group("vectors", by_name("float16"))
    groups = {id(array): vectors if array.ndim == 1 else blocks for graph in graphs for array in graph.tensors.values()}
    points = [Point(depth, {"blocks": 1}) for depth in range(4)]
    points += [Point(3, {"blocks": planes}) for planes in range(2, len(precision) + 1)]
    encoded = encode_graphs(graphs, points, Encodings(groups, lambda array, one: encode_planes(one, array)), pool)
    paths = []
    for part in parts_of(encoded):
        paths.append(folder / part.graph_path)
        paths[-1].write_bytes(part.graph)
        if part.segment is not None:
            (folder / part.segment_path).write_bytes(part.segment)
    return paths


def constants_by_runtime(path: Path, names: list[str]) -> list[np.ndarray]:
    """What plain ONNX Runtime makes of the constant part of a graph, each operator as it is."""
    model = onnx.load(path, load_external_data=False)
    known = {tensor.name for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if all(name in known for name in node.input):
            nodes.append(node)
            known.update(node.output)
    body = helper.make_graph(nodes, "weights", [], [onnx.ValueInfoProto(name=name) for name in names], model.graph.initializer)
    alone = path.with_name("weights.onnx")
    alone.write_bytes(helper.make_model(body, opset_imports=model.opset_import, ir_version=8).SerializeToString())
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return list(onnxruntime.InferenceSession(alone, options).run(None, {}))


def bits(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(array.tobytes(), np.uint8)


@pytest.mark.parametrize("name", [name for name in PRECISIONS if name != "float32"])
def test_the_same_bits_as_the_runtime_makes_and_the_same_answers(name: str, tmp_path: Path) -> None:
    chain = Rebuilder(tmp_path)
    for path in lay_out(tmp_path, by_name(name)):
        alone, after_others = Rebuilder(tmp_path).rebuild(path.read_bytes()), chain.rebuild(path.read_bytes())
        assert alone is not None and after_others is not None and list(alone.values) == list(after_others.values)
        for value, one, other in zip(
            constants_by_runtime(path, list(alone.values)), alone.values.values(), after_others.values.values(), strict=True
        ):
            assert value.dtype == one.dtype and value.shape == one.shape
            assert np.array_equal(bits(value), bits(one))
            assert np.array_equal(bits(value), bits(other))
        plain = onnxruntime.InferenceSession(path).run(None, {"input": X})[0]
        for one in (Rebuilder(tmp_path), chain):
            session = make_session(tmp_path, path.name, one, 1)
            assert np.array_equal(session.run(None, {"input": X})[0], plain)


@pytest.mark.parametrize("name", ["int4+4+8", "sparse8"])
def test_a_session_does_not_go_on_reading_the_memory_that_it_was_given(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it copies is what lets the device drop these arrays; a runtime that stopped doing so would read what is no longer there."""
    given: list[np.ndarray] = []
    real = Rebuilder.rebuild

    def rebuild(one: Rebuilder, graph: bytes, path: str) -> Any:
        found = real(one, graph, path)
        assert found is not None
        copies = {value: array.copy() for value, array in found.values.items()}
        given.extend(copies.values())
        return replace(found, values=copies)

    monkeypatch.setattr(Rebuilder, "rebuild", rebuild)
    for path in lay_out(tmp_path, by_name(name)):
        session = make_session(tmp_path, path.name, Rebuilder(tmp_path), 1)
        before = session.run(None, {"input": X})[0]
        for array in given:
            array.fill(77)
        assert given and np.array_equal(session.run(None, {"input": X})[0], before)


@pytest.mark.parametrize("name", ["int4+4+8", "int8", "float16"])
def test_nothing_is_left_for_the_runtime_to_rebuild(name: str, tmp_path: Path) -> None:
    for path in lay_out(tmp_path, by_name(name)):
        found = Rebuilder(tmp_path).rebuild(path.read_bytes())
        assert found is not None
        assert {node.op_type for node in onnx.load_from_string(found.graph).graph.node} == {"Conv", "ReduceMean", "Gemm"}


def test_an_upgrade_reads_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = lay_out(tmp_path, by_name("int4+4+8"))
    read: list[str] = []
    real = files.Files.read
    monkeypatch.setattr(files.Files, "read", lambda one, path, *rest: read.append(path) or real(one, path, *rest))
    chain = Rebuilder(tmp_path)
    for k, path in enumerate(paths):
        read.clear()
        chain.rebuild(path.read_bytes())
        assert set(read) == {f"{k:03d}.safetensors"}
    read.clear()
    Rebuilder(tmp_path).rebuild(paths[-1].read_bytes())
    assert set(read) == {f"{k:03d}.safetensors" for k in range(len(paths))}


def test_what_is_too_much_to_keep_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilder, "KEPT_BYTES", 1000)
    paths = lay_out(tmp_path, by_name("int4"))
    chain = Rebuilder(tmp_path)
    for path in paths:
        found, alone = chain.rebuild(path.read_bytes()), Rebuilder(tmp_path).rebuild(path.read_bytes())
        assert found is not None and alone is not None
        assert all(np.array_equal(found.values[name], alone.values[name]) for name in alone.values)
        assert sum(array.nbytes for array in chain._kept.values()) <= 1000


def test_many_bytes_are_looked_up_in_pairs_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    table = rng.standard_normal((256, 2)).astype(np.float32)
    source = rng.integers(0, 256, lookup.PAIRED + 1).astype(np.uint8)
    looked = lookup.Looked(source, table, (len(source) * 2,))
    assert np.array_equal(looked.up(), table[source].reshape(-1))
    monkeypatch.setattr(lookup, "AT_ONCE", 1000)
    assert np.array_equal(looked.up(), table[source].reshape(-1))


def test_files_that_are_gone_or_cut_off_are_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lay_out(tmp_path, by_name("int4"))[0]
    segment = tmp_path / "000.safetensors"
    data = segment.read_bytes()
    for limit in (2**23, 0):  # read whole, and in parts
        monkeypatch.setattr(files, "WHOLE_FILE", limit)
        segment.write_bytes(data[:-1])
        with pytest.raises(FormatError, match="shorter"):
            Rebuilder(tmp_path).rebuild(path.read_bytes())
    segment.unlink()
    with pytest.raises(StorageError, match=r"000\.safetensors"):
        Rebuilder(tmp_path).rebuild(path.read_bytes())


def constant(name: str, array: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def model_of(nodes: list[onnx.NodeProto], constants: list[TensorProto], output: str, opset: int = 17) -> bytes:
    """The nodes' result plus an input."""
    nodes = [*nodes, helper.make_node("Add", [output, "x"], ["y"])]
    values = [helper.make_tensor_value_info(name, FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString())


def answer(model: bytes, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """As the runtime gives it by itself, and after rebuilding."""
    (folder / "g.onnx").write_bytes(model)
    feed = {"x": np.zeros((), np.float32)}
    session = make_session(folder, "g.onnx", Rebuilder(folder), 1)
    return onnxruntime.InferenceSession(model).run(None, feed)[0], session.run(None, feed)[0]


W = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
U = np.arange(8, dtype=np.uint8).reshape(4, 2) * 31
ONE = np.array(1.5, np.float32)


@pytest.mark.parametrize(
    "nodes, constants",
    [
        ([helper.make_node("Reshape", ["w", "s"], ["v"])], {"w": W, "s": np.array([2, -1])}),
        ([helper.make_node("Reshape", ["w", "s"], ["v"])], {"w": W, "s": np.array([0, 3])}),
        ([helper.make_node("Reshape", ["w", "s"], ["v"])], {"w": W, "s": np.array([3, 4])}),
        ([helper.make_node("Concat", ["w", "w"], ["v"], axis=0)], {"w": W}),
        ([helper.make_node("Concat", ["w", "w"], ["v"], axis=-1)], {"w": W}),
        ([helper.make_node("Concat", ["w", "z"], ["v"], axis=1)], {"w": W, "z": W + 1}),
        ([helper.make_node("Split", ["w"], ["v", "rest"], axis=1), helper.make_node("Identity", ["rest"], ["r"])], {"w": W[:, :2]}),
        ([helper.make_node("Split", ["w", "n"], ["v", "rest"], axis=0)], {"w": W, "n": np.array([1, 3])}),
        ([helper.make_node("Mul", ["w", "row"], ["v"])], {"w": W, "row": W[:1]}),
        ([helper.make_node("Mul", ["w", "column"], ["v"])], {"w": W, "column": W[:, :1]}),
        ([helper.make_node("Sub", ["one", "w"], ["v"])], {"w": W, "one": ONE}),
        ([helper.make_node("Cast", ["n"], ["v"], to=FLOAT)], {"n": np.array(7, np.uint8)}),
        (
            [helper.make_node("Slice", ["w", "from", "to", "axis"], ["v"])],
            {"w": W, "from": np.array([1]), "to": np.array([3]), "axis": np.array([1])},
        ),
        ([helper.make_node("Add", ["w", "w"], ["a"]), helper.make_node("Sub", ["a", "w"], ["v"])], {"w": W}),
        (
            [
                helper.make_node("Mul", ["w", "one"], ["a"]),
                helper.make_node("Add", ["a", "a"], ["b"]),
                helper.make_node("Mul", ["a", "b"], ["v"]),
            ],
            {"w": W, "one": ONE},
        ),
        (
            [helper.make_node("BitShift", ["u", "n"], ["a"], direction="RIGHT"), helper.make_node("Cast", ["a"], ["v"], to=FLOAT)],
            {"u": U, "n": np.array(3, np.uint8)},
        ),
        (
            [helper.make_node("BitShift", ["u", "n"], ["a"], direction="LEFT"), helper.make_node("Cast", ["a"], ["v"], to=FLOAT)],
            {"u": U, "n": np.array(3, np.uint8)},
        ),
        (
            [helper.make_node("Mod", ["u", "n"], ["a"]), helper.make_node("Cast", ["a"], ["v"], to=FLOAT)],
            {"u": U, "n": np.array(7, np.uint8)},
        ),
        (
            [
                helper.make_node("Mod", ["u", "n"], ["a"]),
                helper.make_node("Concat", ["a", "u"], ["b"], axis=1),
                helper.make_node("Slice", ["b", "from", "to", "axis"], ["c"]),
                helper.make_node("Cast", ["c"], ["v"], to=FLOAT),
            ],
            {"u": U, "n": np.array(7, np.uint8), "from": np.array([1]), "to": np.array([3]), "axis": np.array([1])},
        ),
        (
            [helper.make_node("Cast", ["h"], ["a"], to=FLOAT), helper.make_node("Mul", ["a", "one"], ["v"])],
            {"h": np.array([65504, 1e-7, -0.0], np.float16), "one": np.array(3e38, np.float32)},
        ),
    ],
)
def test_operators_in_other_ways_than_codecs_use_them(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], tmp_path: Path
) -> None:
    model = model_of(nodes, [constant(name, array) for name, array in constants.items()], "v")
    wanted, found = answer(model, tmp_path)
    assert wanted.shape == found.shape and np.array_equal(bits(wanted), bits(found))


@pytest.mark.parametrize("sizes", [[1, 3], [2, 2]])
def test_parts_of_stated_sizes(sizes: list[int], tmp_path: Path) -> None:
    """Before opset 13, an attribute said them."""
    nodes = [helper.make_node("Split", ["w"], ["rest", "v"], axis=0, split=sizes)]
    wanted, found = answer(model_of(nodes, [constant("w", W)], "v", opset=12), tmp_path)
    assert wanted.shape == found.shape and np.array_equal(bits(wanted), bits(found))


def test_a_shape_that_is_an_attribute(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["w"], ["v"], shape=[2, 6])]
    assert Rebuilder(tmp_path).rebuild(model_of(nodes, [constant("w", W)], "v", opset=4)) is None


def test_a_tensor_that_may_be_given_is_left_to_whoever_gives_it(tmp_path: Path) -> None:
    """Before IR version 4 every tensor was an input of the graph too, and many graphs still have it so."""
    nodes = [helper.make_node("Mul", ["w", "one"], ["a"]), helper.make_node("Mul", ["u", "one"], ["v"])]
    nodes.append(helper.make_node("Sub", ["v", "a"], ["z"]))
    model = onnx.load_from_string(model_of(nodes, [constant("w", W), constant("u", W + 1), constant("one", ONE)], "z"))
    model.graph.input.append(helper.make_tensor_value_info("w", FLOAT, W.shape))
    wanted, found = answer(bytes(model.SerializeToString()), tmp_path)
    assert np.array_equal(bits(wanted), bits(found))
    session = make_session(tmp_path, "g.onnx", Rebuilder(tmp_path), 1)
    assert np.array_equal(session.run(None, {"x": np.zeros((), np.float32), "w": W + 1})[0], np.zeros_like(W))


def outside(name: str, array: np.ndarray, folder: Path) -> TensorProto:
    """A tensor in a file of its own."""
    (folder / name).write_bytes(array.tobytes())
    found = numpy_helper.from_array(array, name)
    found.ClearField("raw_data")
    found.data_location = TensorProto.EXTERNAL
    for key, value in (("location", name), ("length", str(array.nbytes))):
        found.external_data.add(key=key, value=value)
    return found


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_a_number_is_no_tensor_with_one_row(kind: type, where: str, tmp_path: Path) -> None:
    number, row = np.array(3, kind), np.array([2], np.float32)
    nodes = [
        helper.make_node("Cast", ["number"], ["a"], to=FLOAT),
        helper.make_node("Mul", ["a", "one"], ["b"]),
        helper.make_node("Add", ["b", "row"], ["v"]),
    ]
    made = constant("number", number) if where == "inside" else outside("number", number, tmp_path)
    (tmp_path / "g.onnx").write_bytes(model_of(nodes, [made, outside("row", row, tmp_path), constant("one", ONE)], "v"))
    feed = {"x": np.zeros((), np.float32)}
    wanted = onnxruntime.InferenceSession(tmp_path / "g.onnx").run(None, feed)[0]
    found = make_session(tmp_path, "g.onnx", Rebuilder(tmp_path), 1).run(None, feed)[0]
    assert wanted.shape == found.shape and np.array_equal(bits(wanted), bits(found))


def test_a_graph_that_makes_nothing_of_constants_is_left_alone(tmp_path: Path) -> None:
    assert Rebuilder(tmp_path).rebuild(model_of([], [constant("w", W)], "w")) is None


def test_operators_piled_on_each_other_end_at_a_bound(tmp_path: Path) -> None:
    """Deeper than calls may go, and doubling what is to be done with each operator: the rest is the runtime's, which has bounds."""
    add, side = partial(helper.make_node, "Add"), partial(helper.make_node, "Concat", axis=1)
    one = constant("one", ONE)
    sums = [add([f"a{i}", f"a{i}"], [f"a{i + 1}"]) for i in range(3000)]
    steps = [add([f"b{i}", "one"], [f"b{i + 1}"]) for i in range(3000)]
    cut = [constant(name, np.array([number])) for name, number in (("from", 0), ("to", 3), ("axis", 1))]
    doubled = []
    for i in range(200):
        doubled.append(side([f"c{i}", f"c{i}"], [f"d{i}"]))
        doubled.append(helper.make_node("Slice", [f"d{i}", "from", "to", "axis"], [f"c{i + 1}"]))
    for nodes, first, last in ((sums, "a0", "a3000"), (steps, "b0", "b3000"), (doubled, "c0", "c200")):
        model = model_of(nodes, [constant(first, W), one, *cut], last)
        found = Rebuilder(tmp_path).rebuild(model)
        assert found is not None
        left = len(onnx.load_from_string(found.graph).graph.node)
        assert len(nodes) // 2 < left < len(nodes)


def test_pieces_of_pieces_end_at_a_bound(tmp_path: Path) -> None:
    rows = constant("r0", np.zeros((512, 1), np.float32))
    nodes = []
    for i in range(30):
        parts = [f"p{i}.{j}" for j in range(512)]
        nodes.append(helper.make_node("Split", [f"r{i}"], parts, axis=0))
        nodes.append(helper.make_node("Concat", [name for name in parts for _ in range(64)], [f"s{i}"], axis=0))
        nodes.append(helper.make_node("Reshape", [f"s{i}", "shape"], [f"r{i + 1}"]))
    model = model_of(nodes, [rows, constant("shape", np.array([512, 64**1]))], "r1")
    found = Rebuilder(tmp_path).rebuild(model)
    assert found is not None and len(onnx.load_from_string(found.graph).graph.node) > len(nodes) // 2
