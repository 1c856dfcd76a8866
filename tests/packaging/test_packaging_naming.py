"""Names of values: what a graph computes stays as it was, and what graphs have in common reads the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from accordion.artifact.archive import compress
from accordion.elastic import CifarResNet, ElasticNetwork, nested
from accordion.packaging.graph import Graph, Pool
from accordion.packaging.naming import Naming
from accordion.packaging.prepare import prepare

WIDE = [(1, 1, 0), (2, 1, 1), (2, 2, 2), (3, 3, 3)]


@pytest.fixture(scope="module")
def graphs() -> list[Graph]:
    torch.manual_seed(0)
    module = CifarResNet(20, 10, widths=(8, 16, 32))
    network = ElasticNetwork(module, nested("some", module.stages, WIDE)).eval()
    return prepare(network, torch.rand(2, 3, 32, 32)).graphs


def home_of(graphs: Sequence[Graph]):
    """A name for each content, by where it first occurs: as segments would give it."""
    names: dict[int, str] = {}
    for k, graph in enumerate(graphs):
        for array in graph.tensors.values():
            names.setdefault(id(array), f"{k}.{len(names)}")
    return lambda array: names[id(array)]


def named(graph: Graph, names: dict[str, str]) -> list[str]:
    """The nodes as text."""
    return [
        f"{node.op_type} {[names[name] for name in node.input if name]} {[names[name] for name in node.output]}"
        for node in graph.nodes
    ]


def test_every_value_has_a_name_of_its_own(graphs: list[Graph]) -> None:
    naming = Naming(graphs, home_of(graphs))
    for graph in graphs:
        names = naming.of(graph)
        used = {name for node in graph.nodes for name in (*node.input, *node.output) if name}
        assert used <= set(names)
        contents = {id(graph.tensors[name]) if name in graph.tensors else name for name in used}
        assert len({names[name] for name in used}) == len(contents)
        assert all(names[value.name] == value.name for value in (*graph.inputs, *graph.outputs))


def test_what_two_graphs_have_in_common_reads_the_same(graphs: list[Graph]) -> None:
    """Of the nodes of a configuration, few change in the next one: those that read what is new, and what pads or ends a stage that
    another follows."""
    naming = Naming(graphs, home_of(graphs))
    texts = [set(named(graph, naming.of(graph))) for graph in graphs]
    for before, after in zip(texts[1:], texts[2:], strict=False):
        assert len(before - after) < len(before) / 3
    assert len(texts[-1]) > 50


def test_archives_are_smaller_than_with_running_numbers(graphs: list[Graph]) -> None:
    def packed(names_of) -> int:
        return len(compress("\n".join(row for graph in graphs for row in named(graph, names_of(graph))).encode()))

    def numbered(graph: Graph) -> dict[str, str]:
        values = [name for node in graph.nodes for name in (*node.input, *node.output) if name]
        home = home_of(graphs)
        return {
            name: home(graph.tensors[name]) if name in graph.tensors else f"v{k}" for k, name in enumerate(dict.fromkeys(values))
        }

    assert packed(Naming(graphs, home_of(graphs)).of) < 0.9 * packed(numbered)


def test_names_of_inputs_are_never_taken() -> None:
    """An input that is called as a value or a constant would be."""
    pool = Pool()
    weight, one = pool.intern(np.ones((4, 4), np.float32)), pool.intern(np.array(2.0, np.float32))
    first = helper.make_node("MatMul", ["aa", "w"], ["h"])
    nodes = [first, helper.make_node("Mul", ["h", "two"], ["g"]), helper.make_node("Add", ["g", "ba_1"], ["y"])]
    inputs = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4]) for name in ("aa", "ba_1", "ba", "a", "b", "b_1")
    ]
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 4])]
    graph = Graph(nodes, inputs, outputs, 17, 8, {"w": weight, "two": one})
    names = Naming([graph], lambda array: "0.0").of(graph)
    assert len(set(names.values())) == len(names)
    assert {names["h"], names["g"], names["two"]}.isdisjoint(value.name for value in inputs)


def test_more_layers_than_one_character_can_number() -> None:
    pool = Pool()
    nodes, tensors, before = [], {}, "x"
    for k in range(200):
        tensors[f"w{k}"] = pool.intern(np.full((2, 2), k, np.float32))
        nodes += [helper.make_node("MatMul", [before, f"w{k}"], [f"m{k}"]), helper.make_node("Relu", [f"m{k}"], [f"r{k}"])]
        before = f"r{k}"
    info = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 2]) for name in ("x", before)]
    graph = Graph(nodes, info[:1], info[1:], 17, 8, tensors)
    home = {id(array): f"0.{name}" for name, array in tensors.items()}
    names = Naming([graph], lambda array: home[id(array)]).of(graph)
    assert len(set(names.values())) == len(names)
    assert {len(names[name]) for node in nodes[:-1] for name in node.output} == {3}
