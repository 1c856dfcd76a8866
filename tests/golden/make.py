"""Makes the golden packages, the same bytes each time: `python tests/golden/make.py OUT`.

All numbers are small multiples of powers of two, so that sums come out the same in any order, and numpy, not ONNX Runtime, says
what each configuration answers. `OUT/<name>` is a package directory; `expected.json` beside its index is no part of it:

    {"zstd": "1.5.7", "versions": {TAG: [{"graph", "inputs": {NAME: TENSOR}, "outputs": {NAME: TENSOR}}]}}

with one row for each configuration, and TENSOR as {"dtype", "shape", "values"}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from accordion.artifact.build import ConfigurationParts, build_version
from accordion.artifact.layout import Layout
from accordion.artifact.segment import encode_segment, parse_header
from accordion.packaging.codecs import by_name, encode_planes
from accordion.packaging.encode import Encodings, Group, Point, encode_graphs
from accordion.packaging.graph import Graph, Pool
from accordion.packaging.parts import parts_of

Array = NDArray[Any]
NAMES = ("precision", "trees", "cache", "versions", "long", "encodings")
CREATED = "2026-01-01T00:00:00Z"
KINDS = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "int64": TensorProto.INT64}
Shape = Sequence[int | str]
Spec = tuple[str, str, Shape]  # name, type, shape


class Files:
    """The segments so far, and where each tensor lies in them."""

    def __init__(self) -> None:
        self.segments: dict[str, bytes] = {}
        self.places: dict[str, tuple[str, int, Array]] = {}

    def add(self, path: str, tensors: Mapping[str, Array]) -> dict[str, bytes]:
        """A new segment with these tensors; a tensor of a known name replaces it for the graphs that follow."""
        data = encode_segment(tensors)
        for name, info in parse_header(data, len(data), path).items():
            self.places[name] = (path, info.start, tensors[name])
        self.segments[path] = data
        return {path: data}

    def initializer(self, name: str) -> TensorProto:
        """The tensor as a graph names it: a place in a segment."""
        path, start, array = self.places[name]
        made = TensorProto(name=name, data_type=KINDS[str(array.dtype)], dims=array.shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", path), ("offset", start), ("length", array.nbytes)):
            made.external_data.add(key=key, value=str(value))
        return made

    def graph(self, nodes: Sequence[NodeProto], inputs: Sequence[Spec], outputs: Sequence[Spec]) -> bytes:
        """A graph of these nodes; what they use of the segments becomes its initializers."""
        used = [name for name in dict.fromkeys(name for node in nodes for name in node.input) if name in self.places]
        made = helper.make_graph(nodes, "golden", _values(inputs), _values(outputs), [self.initializer(name) for name in used])
        return serialise(helper.make_model(made, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]))


def serialise(model: ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def _values(specs: Sequence[Spec]) -> list[Any]:
    return [helper.make_tensor_value_info(name, KINDS[kind], list(shape)) for name, kind, shape in specs]


def node(operator: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def numbers(shape: Sequence[int], seed: int, most: int = 4, unit: float = 0.25) -> Array:
    """Multiples of `unit` from -most to most units, in no order that would hide a transposition."""
    count = int(np.prod(shape))
    steps = [(seed * 7919 + index * index * 31 + index * 17) % 1009 % (2 * most + 1) - most for index in range(count)]
    return (np.array(steps, np.float32) * np.float32(unit)).reshape(shape)


def rung(index: int, parameters: int, macs: int, value: float, precision: str = "float32") -> dict[str, Any]:
    return {
        "index": index,
        "blocks": {"total": index, "by_stage": [index]},
        "precision": precision,
        "parameters": parameters,
        "macs": macs,
        "macs_per": "input",
        "quality": {
            "metric": "accuracy",
            "direction": "higher",
            "unit": "1",
            "value": value,
            "interval": [round(value - 0.02, 4), round(value + 0.02, 4)],
            "confidence": 0.95,
            "interval_method": "clopper-pearson",
            "samples": 1000,
            "dataset": "made up",
            "split": "test",
        },
    }


def specs_json(specs: Sequence[Spec], labels: Sequence[str] | None = None) -> list[dict[str, Any]]:
    return [
        {"name": name, "dtype": kind, "shape": list(shape), "layout": "", "range": None, "labels": labels and list(labels)}
        for name, kind, shape in specs
    ]


def ladder(rungs: Sequence[Mapping[str, Any]], inputs: Sequence[Spec], outputs: Sequence[Spec], **extra: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "task": "classification",
        "order": "right-to-left",
        "inputs": specs_json(inputs),
        "outputs": specs_json(outputs, extra.pop("labels", None)),
        "configurations": list(rungs),
        **extra,
    }


def tensor_json(array: Array) -> dict[str, Any]:
    return {"dtype": str(array.dtype), "shape": list(array.shape), "values": array.ravel().tolist()}


def row(graph: str, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Any]:
    return {
        "graph": graph,
        "inputs": {name: tensor_json(array) for name, array in inputs.items()},
        "outputs": {name: tensor_json(array.astype(np.float32)) for name, array in outputs.items()},
    }


def write_expected(folder: Path, versions: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    value = {"zstd": ".".join(map(str, zstandard.ZSTD_VERSION)), "versions": versions}
    (folder / "expected.json").write_bytes(json.dumps(value, separators=(",", ":")).encode() + b"\n")


def write_version(layout: Layout, tag: str, *, configurations: Sequence[ConfigurationParts], **fields: Any) -> None:
    """With graphs in archives of 1, 2, 4, 8, …: packages so small would have a single one, and readers must know of several."""
    archives: list[int] = []
    while left := len(configurations) - sum(archives):
        archives.append(min(left, 2 ** len(archives)))
    build_version(layout, tag, configurations=configurations, archives=archives, **fields)


def precision(folder: Path) -> None:
    """One layer of weights as 8 bits; configuration 1 adds 8 more to the weights that are already there."""
    files = Files()
    planes = [
        ((numbers((4, 3), seed, 100, 1.0) + 128).astype(np.uint8), np.float32(scale)) for seed, scale in ((1, 2**-5), (2, 2**-12))
    ]
    bias, x = numbers((3,), 3), numbers((2, 4), 4)
    inputs, outputs = [("x", "float32", ["n", 4])], [("logits", "float32", ["n", 3])]
    parts, expected = [], []
    nodes: list[NodeProto] = []
    weights = np.zeros((4, 3))
    for k, (plane, scale) in enumerate(planes):
        tensors = {f"plane{k}": plane, f"scale{k}": np.array(scale, np.float32), f"zero{k}": np.array(-128 * scale, np.float32)}
        segments = files.add(f"{k:03}.safetensors", tensors | ({"bias": bias} if k == 0 else {}))
        nodes.append(node("Cast", f"plane{k}", f"cast{k}", to=TensorProto.FLOAT))
        nodes.append(node("Mul", f"cast{k} scale{k}", f"scaled{k}"))
        nodes.append(node("Add", f"scaled{k} zero{k}", f"weights{k}"))
        if k:
            nodes.append(node("Add", f"sum{k - 1} weights{k}", f"sum{k}"))
        else:
            nodes.append(node("Identity", "weights0", "sum0"))
        weights = weights + (plane.astype(np.float64) - 128) * float(scale)
        end = [node("MatMul", f"x sum{k}", "product"), node("Add", "product bias", "logits")]
        parts.append(ConfigurationParts(f"{k:03}.onnx", files.graph([*nodes, *end], inputs, outputs), segments))
        expected.append(row(f"{k:03}.onnx", {"x": x}, {"logits": x @ weights + bias}))
    rungs = [rung(0, 15, 12, 0.8, "int8"), rung(1, 15, 12, 0.9, "int16")]
    write_version(
        Layout.create(folder),
        "latest",
        ladder_fields=ladder(rungs, inputs, outputs, labels=["red", "green", "blue"], source="by hand"),
        configurations=parts,
        documents={"README.md": b"# Two planes of precision\n"},
        name="precision",
        created=CREATED,
    )
    write_expected(folder, {"latest": expected})


def trees(folder: Path) -> None:
    """A decision forest: each tree looks at three features, finds the leaf by a table of turns, and adds the leaf's votes."""
    files = Files()
    inputs, outputs = [("x", "float32", ["n", 5])], [("votes", "float32", ["n", 2])]
    x = numbers((6, 5), 11)
    # Rows are the tree's three questions (the first at the root), columns its four leaves: 1 for yes, -1 for no, 0 not asked.
    turns = np.array([[1, 1, -1, -1], [1, -1, 0, 0], [0, 0, 1, -1]], np.float32)
    wanted = np.array([2, 1, 1, 0], np.float32)
    parts, expected, rungs = [], [], []
    nodes: list[NodeProto] = []
    votes = np.zeros((6, 2))
    total = 0
    for k, count in enumerate((1, 1, 2)):
        tensors: dict[str, Array] = {} if k else {"turns": turns, "wanted": wanted}
        for t in range(total, total + count):
            features = np.array([(t + 2) % 5, (2 * t + 1) % 5, (3 * t + 4) % 5], np.int64)
            thresholds, leaves = numbers((3,), 20 + t, 3), numbers((4, 2), 40 + t, 8, 0.125)
            tensors |= {f"features{t}": features, f"thresholds{t}": thresholds, f"leaves{t}": leaves}
            nodes += [
                node("Gather", f"x features{t}", f"asked{t}", axis=1),
                node("LessOrEqual", f"asked{t} thresholds{t}", f"yes{t}"),
                node("Cast", f"yes{t}", f"number{t}", to=TensorProto.FLOAT),
                node("MatMul", f"number{t} turns", f"score{t}"),
                node("Equal", f"score{t} wanted", f"leaf{t}"),
                node("Cast", f"leaf{t}", f"picked{t}", to=TensorProto.FLOAT),
                node("MatMul", f"picked{t} leaves{t}", f"votes{t}"),
                node("Add", f"sum{t - 1} votes{t}", f"sum{t}") if t else node("Identity", "votes0", "sum0"),
            ]
            for index, values in enumerate(x):
                left, first, second = values[features] <= thresholds
                leaf = (0 if first else 1) if left else (2 if second else 3)
                votes[index] += leaves[leaf]
        total += count
        segments = files.add(f"{k:03}.safetensors", tensors)
        graph = files.graph([*nodes, node("Identity", f"sum{total - 1}", "votes")], inputs, outputs)
        parts.append(ConfigurationParts(f"{k:03}.onnx", graph, segments))
        expected.append(row(f"{k:03}.onnx", {"x": x}, {"votes": votes.copy()}))
        rungs.append(rung(k, 16 + 14 * total, 20 * total, round(0.7 + 0.1 * k, 2)))
    write_version(Layout.create(folder), "latest", ladder_fields=ladder(rungs, inputs, outputs), configurations=parts, name="trees")
    write_expected(folder, {"latest": expected})


def cache(folder: Path) -> None:
    """Two layers of linear attention over all tokens so far; each layer has a cache, so the graphs' inputs and outputs differ."""
    files = Files()
    embedding, head = numbers((6, 4), 51, 2, 0.5), numbers((4, 6), 52, 2, 0.5)
    tokens = np.array([1, 4, 5], np.int64)
    parts, expected, rungs = [], [], []
    inputs: list[Spec] = [("tokens", "int64", ["s"])]
    outputs: list[Spec] = [("logits", "float32", ["s", 6])]
    given: dict[str, Array] = {"tokens": tokens}
    answers: dict[str, Array] = {}
    nodes = [node("Gather", "embedding tokens", "hidden0", axis=0)]
    hidden = embedding[tokens].astype(np.float64)
    for k in range(2):
        tensors = {f"keys{k}": numbers((4, 4), 60 + k, 2, 0.5), f"values{k}": numbers((4, 4), 70 + k, 2, 0.5)}
        segments = files.add(f"{k:03}.safetensors", ({} if k else {"embedding": embedding, "head": head}) | tensors)
        inputs = [*inputs, (f"cache{k}", "float32", ["past", 4])]
        outputs = [*outputs, (f"new_cache{k}", "float32", ["all", 4])]
        given[f"cache{k}"] = numbers((2, 4), 80 + k, 2, 0.5)
        nodes += [
            node("Concat", f"cache{k} hidden{k}", f"new_cache{k}", axis=0),
            node("MatMul", f"new_cache{k} keys{k}", f"key{k}"),
            node("Transpose", f"key{k}", f"turned{k}", perm=[1, 0]),
            node("MatMul", f"hidden{k} turned{k}", f"score{k}"),
            node("Relu", f"score{k}", f"weight{k}"),
            node("MatMul", f"new_cache{k} values{k}", f"value{k}"),
            node("MatMul", f"weight{k} value{k}", f"mixed{k}"),
            node("Add", f"hidden{k} mixed{k}", f"hidden{k + 1}"),
        ]
        everything = np.concatenate([given[f"cache{k}"], hidden])
        answers[f"new_cache{k}"] = everything
        weight = np.maximum(hidden @ (everything @ tensors[f"keys{k}"]).T, 0)
        hidden = hidden + weight @ (everything @ tensors[f"values{k}"])
        graph = files.graph([*nodes, node("MatMul", f"hidden{k + 1} head", "logits")], inputs, outputs)
        parts.append(ConfigurationParts(f"{k:03}.onnx", graph, segments))
        expected.append(row(f"{k:03}.onnx", dict(given), {"logits": hidden @ head, **answers}))
        own = {"inputs": specs_json(inputs), "outputs": specs_json(outputs)} if k else {}
        rungs.append({**rung(k, 48 + 32 * (k + 1), 100 * (k + 1), 0.6 + 0.1 * k), "macs_per": "token", **own})
    fields = ladder(rungs, inputs[:2], outputs[:2])
    write_version(Layout.create(folder), "latest", ladder_fields=fields, configurations=parts, name="cache", created=CREATED)
    write_expected(folder, {"latest": expected})


def versions(folder: Path) -> None:
    """A residual network in two versions, which differ in their last block and share all that comes before."""
    inputs, outputs = [("x", "float32", ["n", 4])], [("logits", "float32", ["n", 3])]
    x = numbers((3, 4), 91)
    expected: dict[str, list[dict[str, Any]]] = {}
    for tag, seed in (("v1", 200), ("v2", 300)):
        files = Files()
        head = numbers((4, 3), 92)
        hidden = x.astype(np.float64)
        nodes: list[NodeProto] = []
        parts, expected[tag], rungs = [], [], []
        for k in range(3):
            tensors = {"bias": numbers((3,), 100 + k)}  # changed by each configuration
            if k == 0:
                tensors["head"] = head
            else:
                block = tensors[f"block{k}"] = numbers((4, 4), seed if k == 2 else 110)
                nodes += [
                    node("MatMul", f"{f'hidden{k - 1}' if k > 1 else 'x'} block{k}", f"product{k}"),
                    node("Relu", f"product{k}", f"active{k}"),
                    node("Add", f"{f'hidden{k - 1}' if k > 1 else 'x'} active{k}", f"hidden{k}"),
                ]
                hidden = hidden + np.maximum(hidden @ block, 0)
            segments = files.add(f"{k:03}.safetensors", tensors)
            end = [node("MatMul", f"{f'hidden{k}' if k else 'x'} head", "product"), node("Add", "product bias", "logits")]
            parts.append(ConfigurationParts(f"{k:03}.onnx", files.graph([*nodes, *end], inputs, outputs), segments))
            expected[tag].append(row(f"{k:03}.onnx", {"x": x}, {"logits": hidden @ head + tensors["bias"]}))
            rungs.append(rung(k, 15 + 19 * k, 12 + 16 * k, round(0.7 + 0.1 * k + (0.05 if tag == "v2" else 0), 2)))
        write_version(
            Layout.create(folder),
            tag,
            ladder_fields=ladder(rungs, inputs, outputs),
            configurations=parts,
            documents={"README.md": f"# Version {tag}\n".encode()},
            name="versions",
        )
    write_expected(folder, expected)


def long(folder: Path) -> None:
    """200 configurations, each of which adds two numbers."""
    files = Files()
    inputs, outputs = [("x", "float32", ["n", 2])], [("y", "float32", ["n", 2])]
    x = numbers((1, 2), 5)
    total = x.astype(np.float64)
    nodes: list[NodeProto] = []
    parts, expected, rungs = [], [], []
    for k in range(200):
        shift = numbers((2,), 1000 + k, 4, 0.5)
        segments = files.add(f"{k:03}.safetensors", {f"b{k}": shift})
        nodes.append(node("Add", f"{f'h{k - 1}' if k else 'x'} b{k}", f"h{k}"))
        total = total + shift
        graph = files.graph([*nodes, node("Identity", f"h{k}", "y")], inputs, outputs)
        parts.append(ConfigurationParts(f"{k:03}.onnx", graph, segments))
        expected.append(row(f"{k:03}.onnx", {"x": x}, {"y": total}))
        rungs.append(rung(k, 2 * (k + 1), 2 * (k + 1), round(0.5 + 0.002 * k, 4)))
    write_version(Layout.create(folder), "latest", ladder_fields=ladder(rungs, inputs, outputs), configurations=parts, name="long")
    write_expected(folder, {"latest": expected})


def encodings(folder: Path) -> None:
    """A stem and three residual blocks, in a version for each codec; `planes` goes through depth and precision in six steps."""
    inputs, outputs = [("x", "float32", ["n", 6])], [("logits", "float32", ["n", 5])]
    x = numbers((2, 6), 400)
    pool = Pool()
    layers = [pool.intern(numbers(shape, 410 + k, 90, 2.0**-8)) for k, shape in enumerate([(5, 6), (5, 5), (5, 5), (5, 5)])]
    bias = pool.intern(numbers((5,), 420))
    graphs = [_residual(layers[: k + 1], bias, inputs, outputs) for k in range(4)]
    expected: dict[str, list[dict[str, Any]]] = {}
    layout = Layout.create(folder)
    for tag, precision in (*((name, by_name(name)) for name in CODECS), ("planes", by_name("int4+4+8"))):
        stem, blocks, small = Group("stem", by_name("int8")), Group("blocks", precision), Group("vectors", by_name("float16"))
        groups = {id(layers[0]): stem, id(bias): small, **{id(one): blocks for one in layers[1:]}}
        made = Encodings(groups, lambda array, chosen: encode_planes(chosen, array))
        steps = [(k, 1) for k in range(4)] if tag != "planes" else [(0, 1), (1, 1), (1, 2), (2, 2), (3, 2), (3, 3)]
        points = [Point(depth, {"blocks": planes}) for depth, planes in steps]
        parts = [
            ConfigurationParts(part.graph_path, part.graph, {part.segment_path: part.segment} if part.segment else {}, {}, True)
            for part in parts_of(encode_graphs(graphs, points, made, pool))
        ]
        rungs, expected[tag] = [], []
        for index, point in enumerate(points):
            weights = [made.value(one, point.planes).astype(np.float64) for one in layers[: point.depth + 1]]
            hidden = x @ weights[0].T + made.value(bias, {}).astype(np.float64)
            for weight in weights[1:]:
                hidden = hidden + np.maximum(hidden @ weight.T, 0)
            expected[tag].append(row(f"{index:03}.onnx", {"x": x}, {"logits": hidden}))
            word = "+".join(["int4", "4", "8"][: steps[index][1]]) if tag == "planes" else tag
            rungs.append(rung(index, 35 + 25 * point.depth, 30 + 25 * point.depth, 0.6 + 0.05 * index, word))
        write_version(layout, tag, ladder_fields=ladder(rungs, inputs, outputs), configurations=parts, name="encodings")
    write_expected(folder, expected)


CODECS = ("float16", "bfloat16", "float8", "int8", "int4")


def _residual(layers: Sequence[Array], bias: Array, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> Graph:
    """A linear layer with a bias, then blocks that add the positive part of a linear layer to what they got."""
    nodes = [node("Gemm", "x w0 bias", "h0", transB=1)]
    for k in range(1, len(layers)):
        nodes.append(node("Gemm", f"h{k - 1} w{k}", f"p{k}", transB=1))
        nodes += [node("Relu", f"p{k}", f"a{k}"), node("Add", f"h{k - 1} a{k}", f"h{k}")]
    nodes.append(node("Identity", f"h{len(layers) - 1}", "logits"))
    tensors = {"bias": bias, **{f"w{k}": one for k, one in enumerate(layers)}}
    return Graph(nodes, _values(inputs), _values(outputs), 17, 8, tensors)


def make_all(out: Path) -> None:
    """The golden packages as folders of `out`, which may hold none of them yet."""
    for name, make in (
        ("precision", precision),
        ("trees", trees),
        ("cache", cache),
        ("versions", versions),
        ("long", long),
        ("encodings", encodings),
    ):
        (out / name).mkdir(parents=True)
        make(out / name)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tests/golden/make.py OUT")
    make_all(Path(sys.argv[1]))
