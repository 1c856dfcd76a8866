"""A package of depth and precision: from any configuration to any later one, by what is missing and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from accordion.artifact.build import ConfigurationParts, build_version
from accordion.artifact.layout import Layout
from accordion.artifact.verify import verify_package
from accordion.device import Model, Request, fetch, upgrade, verify_model
from accordion.packaging.codecs import by_name, encode_planes
from accordion.packaging.encode import Encodings, Group, Point, encode_graphs
from accordion.packaging.graph import Graph, Pool
from accordion.packaging.parts import parts_of
from chain import rung  # type: ignore[import-not-found]
from serving import serving

WIDTH = 160
PATH = (Point(0, {"w": 1}), Point(1, {"w": 1}), Point(1, {"w": 2}), Point(2, {"w": 2}), Point(2, {"w": 3}))
PAIRS = sorted(np.random.default_rng(4).permutation(list(itertools.combinations(range(len(PATH)), 2)))[:6].tolist())


def weights() -> list[Any]:
    return [np.random.default_rng(j).standard_normal((WIDTH, WIDTH)).astype(np.float32) / WIDTH for j in range(3)]


def value(weight: Any, planes: int) -> Any:
    return sum((one.value for one in encode_planes(by_name("int4+4+8"), weight)[:planes]), np.zeros_like(weight))


def expected(x: Any, point: Point) -> Any:
    for weight in weights()[: point.depth + 1]:
        x = x + x @ value(weight, point.planes["w"])
    return x


def graph(depth: int, pool: Pool) -> Graph:
    nodes, tensors, last = [], {}, "x"
    for j, weight in enumerate(weights()[: depth + 1]):
        tensors[f"w{j}"] = pool.intern(weight)
        nodes.append(helper.make_node("MatMul", [last, f"w{j}"], [f"m{j}"]))
        nodes.append(helper.make_node("Add", [last, f"m{j}"], ["y" if j == depth else f"a{j}"]))
        last = f"a{j}"
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in "xy")
    return Graph(nodes, [x], [y], 17, 8, tensors)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compact") / "compact"
    pool = Pool()
    graphs = [graph(depth, pool) for depth in range(3)]
    group = Group("w", by_name("int4+4+8"))
    groups = {id(array): group for one in graphs for array in one.tensors.values()}
    encodings = Encodings(groups, lambda array, precision: encode_planes(precision, array))
    parts = parts_of(encode_graphs(graphs, PATH, encodings, pool))
    spec = {"dtype": "float32", "shape": ["n", WIDTH], "layout": "", "range": None, "labels": None}
    rows = [
        {
            **rung(k),
            "parameters": (p.depth + 1) * WIDTH**2,
            "macs": (p.depth + 1) * WIDTH**2,
            "precision": f"{p.planes['w']} planes",
        }
        for k, p in enumerate(PATH)
    ]
    build_version(
        Layout.create(path),
        "latest",
        ladder_fields={
            "schema_version": 1, "task": "test", "order": "by hand", "inputs": [{"name": "x", **spec}], "outputs": [{"name": "y", **spec}],
            "configurations": rows,
        },
        configurations=[
            ConfigurationParts(p.graph_path, p.graph, {} if p.segment is None else {p.segment_path: p.segment}) for p in parts
        ],
    )  # fmt: skip
    assert verify_package(path) == []
    return path


@pytest.fixture(scope="module")
def url(package: Path) -> Iterator[str]:
    with serving(package) as address:
        yield f"{address}/compact"


@pytest.fixture(scope="module")
def direct(url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Each configuration, fetched by itself."""
    whole = tmp_path_factory.mktemp("direct")
    fetch(url, whole / "last")
    with Model.open(whole / "last") as model:
        sizes = [one.bytes for one in model.ladder.configurations]
    for k, size in enumerate(sizes):
        assert fetch(url, whole / str(k), Request(max_bytes=size)).configuration == k
    return {k: whole / str(k) for k in range(len(sizes))}


def files(folder: Path) -> dict[str, bytes]:
    """What a model folder holds, but for the book that is kept of when it came."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("state.json", ".lock")
    }


def test_every_configuration_is_the_sum_of_its_planes(direct: dict[int, Path]) -> None:
    x = np.random.default_rng(9).standard_normal((3, WIDTH)).astype(np.float32)
    for k, point in enumerate(PATH):
        with Model.open(direct[k]) as model:
            np.testing.assert_allclose(model.run(x, k)["y"], expected(x, point), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("start, end", PAIRS)
def test_an_upgrade_gives_what_a_direct_fetch_gives(
    url: str, direct: dict[int, Path], tmp_path: Path, start: int, end: int
) -> None:
    with Model.open(direct[end]) as model:
        sizes = [one.bytes for one in model.ladder.configurations]
    model_path = tmp_path / "m"
    fetch(url, model_path, Request(max_bytes=sizes[start]))
    result = upgrade(model_path, to=end)
    assert files(model_path) == files(direct[end])
    assert result.configuration == end
    difference = sizes[end] - sizes[start]
    assert difference <= result.bytes_received <= 1.01 * difference
    assert verify_model(model_path) == []
