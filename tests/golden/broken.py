"""Packages that each break one rule, written with the standard library and zstandard alone, so that nothing stops them.

`broken(OUT)` makes them and says what is where. Where a rule itself is to be found broken, all digests and sizes around it are
right.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
import zstandard

LADDER = "application/vnd.accordion.ladder.v1+json"
RAW = "application/vnd.cncf.model.weight.v1.raw"
WEIGHTS_TAR = "application/vnd.cncf.model.weight.v1.tar+zstd"
GRAPHS_TAR = "application/vnd.cncf.model.weight.config.v1.tar+zstd"
DOC = "application/vnd.cncf.model.doc.v1.raw"
CONFIG = "application/vnd.cncf.model.config.v1+json"
PATH = "org.cncf.model.filepath"
LADDER_SIZE = 4096  # bytes that ladders are filled up to, so that they can state sizes that hold their own
BOMB = 20 * 2**20  # bytes: more than a ladder may have


@dataclass(frozen=True)
class Layer:
    media_type: str
    data: bytes
    path: str | None = None


@dataclass(frozen=True)
class Parts:
    """One version, taken apart: the ladder's values (sizes follow when it is written) and the layers behind it."""

    ladder: Mapping[str, Any]
    layers: tuple[Layer, ...]
    ladder_type: str = LADDER
    bytes_off_by: int = 0
    ladder_encoding: Callable[[bytes], bytes] = lambda text: text
    config: Callable[[dict[str, Any]], Any] = lambda value: value
    manifest: Callable[[dict[str, Any]], Any] = lambda value: value
    index: Callable[[dict[str, Any]], Any] = lambda value: value
    tag: str = "latest"

    def with_layer(self, index: int, layer: Layer) -> Parts:
        return replace(self, layers=(*self.layers[:index], layer, *self.layers[index + 1 :]))

    def with_rung(self, k: int, **changes: Any) -> Parts:
        rungs = [{**row, **changes} if index == k else row for index, row in enumerate(self.ladder["configurations"])]
        return replace(self, ladder={**self.ladder, "configurations": rungs})

    def with_graph(self, change: Callable[[onnx.ModelProto], None]) -> Parts:
        """The first graph changed."""
        ((name, data),) = untar(self.layers[0].data)
        model = onnx.ModelProto.FromString(data)
        change(model)
        return self.with_layer(0, Layer(GRAPHS_TAR, tar((name, model.SerializeToString()))))

    def _ladder(self) -> bytes:
        ends = [LADDER_SIZE]
        for layer in self.layers:
            ends.append(ends[-1] + len(layer.data))
        rungs = [
            {**row, "bytes": row.get("bytes", ends[min(row["layers"], len(ends)) - 1] + self.bytes_off_by)}
            for row in self.ladder["configurations"]
        ]
        text = json.dumps({**self.ladder, "configurations": rungs}, separators=(",", ":")).encode()
        assert len(text) <= LADDER_SIZE
        return self.ladder_encoding(text.ljust(LADDER_SIZE))

    def write(self, folder: Path) -> Path:
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True)

        def stored(data: bytes) -> dict[str, Any]:
            name = hashlib.sha256(data).hexdigest()
            (blobs / name).write_bytes(data)
            return {"digest": f"sha256:{name}", "size": len(data)}

        layers, diff_ids = [], []
        for layer in (Layer(self.ladder_type, self._ladder()), *self.layers):
            annotations = {"annotations": {PATH: layer.path}} if layer.path is not None else {}
            layers.append({"mediaType": layer.media_type, **stored(layer.data), **annotations})
            plain = zstandard.ZstdDecompressor().decompress(layer.data) if layer.media_type.endswith("zstd") else layer.data
            diff_ids.append("sha256:" + hashlib.sha256(plain).hexdigest())
        config = {
            "descriptor": {"name": "broken"},
            "modelfs": {"type": "layers", "diffIds": diff_ids},
            "config": {"architecture": "elastic", "format": "onnx", "paramSize": "15", "precision": "float32"},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.cncf.model.manifest.v1+json",
            "config": {"mediaType": CONFIG, **stored(json.dumps(self.config(config)).encode())},
            "layers": layers,
        }
        entry = {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.cncf.model.manifest.v1+json",
            **stored(json.dumps(self.manifest(manifest)).encode()),
            "annotations": {"org.opencontainers.image.ref.name": self.tag},
        }
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
        (folder / "index.json").write_text(json.dumps(self.index(index)))
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        return folder


def tar(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """A zstd-compressed tar; `kind` is every member's type."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, data in members:
            member = tarfile.TarInfo(path)
            member.type, member.linkname = kind, link
            member.size = len(data) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(data))
    return zstandard.ZstdCompressor(level=3).compress(plain.getvalue())


def untar(data: bytes) -> list[tuple[str, bytes]]:
    made = []
    with tarfile.open(fileobj=io.BytesIO(zstandard.ZstdDecompressor().decompress(data))) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            assert stream is not None
            made.append((member.name, stream.read()))
    return made


def take_apart(package: Path) -> Parts:
    """A whole package's only version."""
    (entry,) = json.loads((package / "index.json").read_bytes())["manifests"]

    def blob(descriptor: Mapping[str, Any]) -> bytes:
        return (package / "blobs" / "sha256" / descriptor["digest"].removeprefix("sha256:")).read_bytes()

    first, *rows = json.loads(blob(entry))["layers"]
    text = blob(first)
    if first["mediaType"].endswith("+zstd"):
        text = zstandard.ZstdDecompressor().decompress(text)
    ladder = json.loads(text)
    for row in ladder["configurations"]:
        del row["bytes"]
    return Parts(ladder, tuple(Layer(row["mediaType"], blob(row), row.get("annotations", {}).get(PATH)) for row in rows))


def safetensors(header: Mapping[str, Any], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _bomb(model: onnx.ModelProto) -> None:
    """A terabyte of zeros, added to the weights' first row."""
    shape = onnx.helper.make_tensor("wide", onnx.TensorProto.INT64, [2], [2**20, 2**18])
    model.graph.initializer.append(shape)
    _insert(model, onnx.helper.make_node("ConstantOfShape", ["wide"], ["zeros"]))


def _doubling(model: onnx.ModelProto) -> None:
    """Forty steps, each twice as large as the one before."""
    name = model.graph.initializer[0].name
    for step in range(40):
        _insert(model, onnx.helper.make_node("Concat", [name, name], [f"twice{step}"], axis=0))
        name = f"twice{step}"


def _work(model: onnx.ModelProto) -> None:
    """Ten thousand times the input, multiplied with itself."""
    model.graph.initializer.append(onnx.helper.make_tensor("times", onnx.TensorProto.INT64, [2], [1, 10_000]))
    for node in (
        onnx.helper.make_node("Tile", ["x", "times"], ["wide"]),
        onnx.helper.make_node("Transpose", ["wide"], ["tall"]),
        onnx.helper.make_node("MatMul", ["tall", "wide"], ["square"]),
    ):
        _insert(model, node)


def _loop(model: onnx.ModelProto) -> None:
    body = onnx.helper.make_graph([], "body", [], [])
    _insert(model, onnx.helper.make_node("Loop", [], ["forever"], body=body))


def _random(model: onnx.ModelProto) -> None:
    _insert(model, onnx.helper.make_node("RandomNormal", [], ["noise"], shape=[2]))


def _index(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(onnx.helper.make_tensor("row", onnx.TensorProto.INT64, [1], [4]))
    _insert(model, onnx.helper.make_node("Gather", [model.graph.initializer[0].name, "row"], ["picked"]))


def _delivered_index(model: onnx.ModelProto) -> None:
    """The weights' own bytes as row numbers."""
    name = model.graph.initializer[0].name
    _insert(model, onnx.helper.make_node("Cast", [name], ["rows"], to=onnx.TensorProto.INT32))
    _insert(model, onnx.helper.make_node("Gather", [name, "rows"], ["picked"]))


def _odd(model: onnx.ModelProto) -> None:
    """One element less than the shape has."""
    model.graph.initializer.append(onnx.helper.make_tensor("odd", onnx.TensorProto.INT64, [1], [11]))
    _insert(model, onnx.helper.make_node("Reshape", [model.graph.initializer[0].name, "odd"], ["codes"]))


def _insert(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """As early as its inputs allow."""
    made = [index + 1 for index, other in enumerate(model.graph.node) if set(other.output) & set(node.input)]
    model.graph.node.insert(max(made, default=0), node)


def _with_float(data: bytes, name: str, bits: int) -> bytes:
    """A segment whose tensor `name`, one float32, has other bits."""
    header, rest = _header(data)
    start = header[name]["data_offsets"][0]
    return data[: len(data) - len(rest)] + rest[:start] + bits.to_bytes(4, "little") + rest[start + 4 :]


@dataclass
class Maker:
    parts: Parts
    out: Path
    made: dict[str, Path] = field(default_factory=dict)

    def add(self, name: str, parts: Parts) -> Path:
        self.made[name] = parts.write(self.out / name.replace(" ", "-"))
        return self.made[name]

    def spoil(self, name: str, change: Callable[[Path, bytes], object]) -> None:
        """The second segment's blob changed on disk; nothing else is."""
        folder = self.add(name, self.parts)
        data = self.parts.layers[3].data
        change(folder / "blobs" / "sha256" / hashlib.sha256(data).hexdigest(), data)


def _header(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


def _foreign_node(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.example"


def _foreign_import(model: onnx.ModelProto) -> None:
    model.opset_import.add(domain="com.example", version=1)


def _inline(model: onnx.ModelProto) -> None:
    model.graph.initializer.add(name="more", data_type=onnx.TensorProto.FLOAT, dims=[5000], raw_data=bytes(20_000))


def _inline_beside(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = bytes(20_000)


def _function(model: onnx.ModelProto) -> None:
    model.functions.add(name="own", domain="")


def _external(**values: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        for place in model.graph.initializer[0].external_data:
            place.value = values.get(place.key, place.value)

    return change


def _longer(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.dims[:] = [1000]
    _external(length=str(1000 * {onnx.TensorProto.UINT8: 1}.get(tensor.data_type, 4)))(model)


def broken(out: Path, package: Path | None = None) -> dict[str, Path]:
    """Name → directory, one for each way of being wrong; `package` is the whole one that they come from (`precision`)."""
    whole = take_apart(package or Path(__file__).parent / "precision")
    graphs, first, more_graphs, second, document = whole.layers
    make = Maker(whole, out)

    make.spoil("truncated blob", lambda path, data: path.write_bytes(data[:-1]))
    make.spoil("flipped byte", lambda path, data: path.write_bytes(data[:-1] + bytes([data[-1] ^ 1])))
    make.spoil("extended blob", lambda path, data: path.write_bytes(data + b"\0"))
    make.spoil("missing blob", lambda path, data: path.unlink())

    make.add("swapped layers", replace(whole, layers=(graphs, second, more_graphs, first, document)))
    make.add(
        "swapped files",
        replace(whole, layers=(graphs, replace(first, path=second.path), more_graphs, replace(second, path=first.path))),
    )
    make.add("missing layer", replace(whole, layers=(graphs, more_graphs, first, second)))
    make.add("document instead of a segment", whole.with_layer(1, replace(first, media_type=DOC, path="other.bin")))
    make.add(
        "document before the end", replace(whole, layers=(graphs, first, document, more_graphs, second)).with_rung(1, layers=6)
    )
    make.add("second ladder", whole.with_layer(4, Layer(LADDER, b"{}")))
    make.add("unknown media type", whole.with_layer(4, replace(document, media_type="application/x-python-pickle")))
    make.add("no ladder first", replace(whole, ladder_type=DOC))

    make.add("duplicate path", whole.with_layer(4, replace(document, path=first.path)))
    make.add("duplicate path but for case", whole.with_layer(4, replace(document, path=str(first.path).upper())))
    make.add("duplicate path in an archive", whole.with_layer(2, replace(more_graphs, data=tar(*untar(graphs.data)))))
    make.add("duplicate path within an archive", whole.with_layer(0, replace(graphs, data=tar(*untar(graphs.data) * 2))))
    make.add("file as a folder", whole.with_layer(4, replace(document, path=f"{first.path}/x")))
    for name, path in (
        ("escaping path", "../x"),
        ("escaping path inside", "a/../../x"),
        ("absolute path", "/tmp/x"),
        ("drive path", "C:\\x"),
        ("hidden path", ".incoming/x"),
        ("reserved path", "State.json"),
        ("reserved folder", "manifest.json/x"),
    ):
        make.add(name, whole.with_layer(4, replace(document, path=path)))
        make.add(
            f"{name} in an archive", whole.with_layer(2, replace(more_graphs, data=tar(*untar(more_graphs.data), (path, b"x"))))
        )
    make.add("no path", whole.with_layer(4, replace(document, path=None)))
    link = tar(("001.onnx", b""), kind=tarfile.SYMTYPE, link="/etc/passwd")
    make.add("link in an archive", whole.with_layer(2, replace(more_graphs, data=link)))
    make.add("folder in an archive", whole.with_layer(2, replace(more_graphs, data=tar(("folder", b""), kind=tarfile.DIRTYPE))))

    header, data = _header(first.data)
    names = list(header)
    overlapping = {**header, names[1]: header[names[0]]}
    make.add("overlapping tensors", whole.with_layer(1, replace(first, data=safetensors(overlapping, data))))
    make.add("hole between tensors", whole.with_layer(1, replace(first, data=safetensors({names[-1]: header[names[-1]]}, data))))
    wrong = {**header, names[0]: {**header[names[0]], "shape": [99]}}
    make.add("tensor of another size", whole.with_layer(1, replace(first, data=safetensors(wrong, data))))
    odd = {**header, names[0]: {**header[names[0]], "dtype": "OBJECT"}}
    make.add("tensor of an unknown type", whole.with_layer(1, replace(first, data=safetensors(odd, data))))
    make.add("segment with a tail", whole.with_layer(1, replace(first, data=first.data + b"tail")))
    make.add("segment that is none", whole.with_layer(1, replace(first, data=b"\x80\x04\x95pickle")))
    make.add(
        "segment in an archive that is none", whole.with_layer(4, Layer(WEIGHTS_TAR, tar(("more.safetensors", b"\x80\x04\x95"))))
    )

    compress = zstandard.ZstdCompressor().compress
    bomb = replace(whole, ladder_type=LADDER + "+zstd", ladder_encoding=lambda text: compress(text.ljust(BOMB)))
    make.add("zstd bomb", bomb)
    make.add(
        "zstd bomb as an archive",
        whole.with_layer(2, replace(more_graphs, data=tar(*untar(more_graphs.data), ("x.bin", bytes(BOMB))))),
    )
    twice = more_graphs.data + compress(b"more")
    make.add("bytes behind a zstd frame", whole.with_layer(2, replace(more_graphs, data=twice)))

    make.add("graph cycle", whole.with_graph(_cycle))
    make.add("foreign operator domain", whole.with_graph(_foreign_node))
    make.add("foreign operator set", whole.with_graph(_foreign_import))
    make.add("graph with inline weights", whole.with_graph(_inline))
    make.add("graph with inline weights beside a file", whole.with_graph(_inline_beside))
    make.add("graph with functions", whole.with_graph(_function))
    make.add("external data out of range", whole.with_graph(_external(offset=str(len(first.data)))))
    make.add("external data too long", whole.with_graph(_longer))
    make.add("external data in another folder", whole.with_graph(_external(location="../../../etc/passwd")))
    make.add("external data in a missing file", whole.with_graph(_external(location="later.safetensors")))
    make.add("external data at a negative place", whole.with_graph(_external(offset="-8")))
    make.add("external data of another length", whole.with_graph(_external(length="1")))
    make.add("graph that is none", whole.with_layer(0, replace(graphs, data=tar(("000.onnx", b"\x80\x04\x95pickle")))))
    unused = tar(("unused.onnx", untar(more_graphs.data)[0][1]))
    make.add(
        "graph that nothing runs",
        replace(whole, layers=(graphs, first, Layer(GRAPHS_TAR, unused), more_graphs, second, document)).with_rung(1, layers=6),
    )
    make.add(
        "graphs before they are needed",
        replace(whole, layers=(graphs, more_graphs, first, second, document)).with_rung(0, layers=4),
    )

    def other(kind: str, **changes: Any) -> Parts:
        return replace(whole, ladder={**whole.ladder, kind: [{**whole.ladder[kind][0], **changes}]})

    make.add("input of another name", other("inputs", name="z"))
    make.add("input of another type", other("inputs", dtype="int64"))
    make.add("input of another size", other("inputs", shape=["n", 7]))
    make.add("input of other axes", other("inputs", shape=["n", 1, 4]))
    make.add("output that is not there", other("outputs", name="probabilities"))
    make.add("output of another size", other("outputs", shape=["n", 99], labels=None))
    make.add("labels for other classes", other("outputs", labels=["one"]))
    make.add("labels for classes that vary", other("outputs", shape=["n", "c"], labels=["one"]))

    def unknown_output(model: onnx.ModelProto) -> None:
        model.graph.output[0].type.tensor_type.elem_type = 999

    def lying_output(model: onnx.ModelProto) -> None:
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 99

    make.add(
        "output of an unknown type and another name",
        replace(other("outputs", name="z"), layers=whole.with_graph(unknown_output).layers),
    )
    make.add(
        "output that lies about its size",
        replace(other("outputs", shape=["n", 99], labels=None), layers=whole.with_graph(lying_output).layers),
    )
    make.add("missing graph", whole.with_rung(1, graph="none.onnx"))

    make.add("graph that makes a terabyte", whole.with_graph(_bomb))
    make.add("graph that doubles", whole.with_graph(_doubling))
    make.add("graph that works more than stated", whole.with_graph(_work))
    make.add("graph with a loop", whole.with_graph(_loop))
    make.add("graph with random numbers", whole.with_graph(_random))
    make.add("index out of range", whole.with_graph(_index))
    make.add("delivered index out of range", whole.with_graph(_delivered_index))
    make.add("odd number of codes", whole.with_graph(_odd))
    make.add("parameters from nothing", whole.with_rung(0, parameters=10**9))
    for name, bits in (("scale that is no number", 0x7FC00000), ("infinite scale", 0xFF800000)):
        data = _with_float(first.data, "scale0", bits)
        make.add(name, whole.with_layer(1, replace(first, data=data)))
        make.add(f"{name} in an archive", whole.with_layer(1, Layer(WEIGHTS_TAR, tar(("000.safetensors", data)))))

    make.add("wrong sizes in the ladder", replace(whole, bytes_off_by=1))
    make.add("too few layers", whole.with_rung(1, layers=3))
    make.add("too many layers", whole.with_rung(1, layers=7))
    make.add("ladder not nested", whole.with_rung(0, layers=5).with_rung(1, layers=3))
    make.add("ladder out of order", whole.with_rung(1, index=0))
    make.add(
        "ladder of two metrics", whole.with_rung(1, quality={**whole.ladder["configurations"][1]["quality"], "metric": "loss"})
    )
    bare = [{key: value for key, value in spec.items() if key != "layout"} for spec in whole.ladder["inputs"]]
    make.add("input without a layout", replace(whole, ladder={**whole.ladder, "inputs": bare}))
    rows = copy.deepcopy(whole.ladder["configurations"])
    for k, row in enumerate(rows):
        row["quality"] |= {"unit": "fraction", "value": 1.5 + k, "interval": [1.4 + k, 1.6 + k]}
    make.add("more than all is right", replace(whole, ladder={**whole.ladder, "configurations": rows}))
    make.add("ladder of another schema", replace(whole, ladder={**whole.ladder, "schema_version": 2}))
    make.add("ladder without configurations", replace(whole, ladder={**whole.ladder, "configurations": []}))
    make.add(
        "value outside of its interval", whole.with_rung(1, quality={**whole.ladder["configurations"][1]["quality"], "value": 7})
    )
    make.add("not a number", whole.with_rung(1, quality={**whole.ladder["configurations"][1]["quality"], "value": float("nan")}))

    def other_diff_ids(config: dict[str, Any]) -> dict[str, Any]:
        config["modelfs"]["diffIds"][2:4] = reversed(config["modelfs"]["diffIds"][2:4])
        return config

    make.add("wrong diffIds", replace(whole, config=other_diff_ids))
    make.add("no diffIds", replace(whole, config=lambda value: {**value, "modelfs": {"type": "layers", "diffIds": []}}))
    make.add(
        "diffId that is none", replace(whole, config=lambda value: {**value, "modelfs": {"type": "layers", "diffIds": ["x"] * 6}})
    )
    make.add("config with a field of another schema", replace(whole, config=lambda value: {**value, "more": 1}))
    for name, part, field_, wrong_value in (
        ("config whose name is none", "descriptor", "name", 5),
        ("config without a format", "config", "format", None),
        ("config of no time", "descriptor", "createdAt", "yesterday"),
    ):
        make.add(
            name,
            replace(whole, config=lambda value, p=part, f=field_, w=wrong_value: {**value, p: {**value[p], f: w}}),  # type: ignore[misc]
        )
    make.add("config that is none", replace(whole, config=lambda value: [1, 2]))
    make.add("another artifact type", replace(whole, manifest=lambda value: {**value, "artifactType": "application/x-other"}))
    make.add("manifest that is none", replace(whole, manifest=lambda value: "manifest"))
    make.add("manifest without layers", replace(whole, manifest=lambda value: {**value, "layers": []}))
    make.add("negative size", replace(whole, manifest=lambda value: {**value, "config": {**value["config"], "size": -1}}))
    make.add("index without versions", replace(whole, index=lambda value: {**value, "manifests": []}))
    make.add("index with a tag twice", replace(whole, index=lambda value: {**value, "manifests": value["manifests"] * 2}))
    make.add("index that is none", replace(whole, index=lambda value: []))
    make.add("tag that is none", replace(whole, tag="../x"))

    folder = make.add("another layout version", whole)
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"9"}')
    folder = make.add("no layout", whole)
    (folder / "oci-layout").unlink()
    folder = make.add("no blobs", whole)
    shutil.rmtree(folder / "blobs")
    folder = make.add("corrupt manifest", whole)
    (entry,) = json.loads((folder / "index.json").read_bytes())["manifests"]
    path = folder / "blobs" / "sha256" / entry["digest"].removeprefix("sha256:")
    path.write_bytes(path.read_bytes().replace(b"latest", b"newest").replace(b'"schemaVersion": 2', b'"schemaVersion": 3'))
    return make.made
