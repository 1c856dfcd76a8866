"""Packages that others write: folders in paths, raw graphs, layers that only travel along, fields beside ours."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from accordion.artifact.archive import pack
from accordion.artifact.bounds import Declared
from accordion.artifact.graph import check_graph
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import GRAPHS_TAR_ZSTD, WEIGHT_TAR_ZSTD
from accordion.artifact.tensor_spec import TensorSpec
from accordion.artifact.verify import verify_package
from accordion.artifact.weights import SegmentFile, Weights
from accordion.device import Model, fetch, verify_model
from accordion.errors import FormatError
from accordion.packaging.check import lay_out_prefixes
from odd_packages import GRAPH_RAW, WEIGHT_RAW, adding, write  # type: ignore[import-not-found]
from serving import serving

INPUT = np.array([[1, 2, 3, 4], [-1, 0.5, 0, 2]], np.float32)


def plain(tmp_path: Path, graph: str = "a.onnx", place: str = "a.safetensors", location: str | None = None) -> Layout:
    """One configuration: a graph at `graph` and a segment at `place`, which the graph calls `location`."""
    layout = Layout.create(tmp_path / "odd")
    (segment,), data, _ = adding(graph, [location or place], [1])
    write(layout, "latest", [(GRAPH_RAW, data, graph), (WEIGHT_RAW, segment, place)], [(3, graph)])
    return layout


@pytest.mark.parametrize(
    ("graph", "place", "location"),
    [("a.onnx", "a.safetensors", None), ("a.onnx", "w/a.safetensors", None), ("g/a.onnx", "g/a.safetensors", "a.safetensors")],
)
def test_a_graph_finds_its_files_from_its_own_folder(tmp_path: Path, graph: str, place: str, location: str | None) -> None:
    layout = plain(tmp_path, graph, place, location)
    assert verify_package(layout.path) == []
    manifest = layout.manifest()
    ((_, laid),) = lay_out_prefixes(layout, manifest, layout.ladder(manifest), tmp_path / "laid")
    assert (laid / graph).is_file() and (laid / place).is_file()
    with serving(layout.path) as url:
        fetch(f"{url}/odd", tmp_path / "m")
    product = adding(graph, ["x"], [1])[2]
    answer = onnxruntime.InferenceSession(str(tmp_path / "m" / graph)).run(None, {"x": INPUT})[0]
    assert np.array_equal(answer, INPUT @ product)
    with Model.open(tmp_path / "m") as model:
        assert np.array_equal(model.run(INPUT)["y"], INPUT @ product)
    assert verify_model(tmp_path / "m") == []


@pytest.mark.parametrize(("place", "location"), [("g/a.safetensors", "g/a.safetensors"), ("a.safetensors", "../a.safetensors")])
def test_a_graph_in_a_folder_names_nothing_from_the_root(tmp_path: Path, place: str, location: str) -> None:
    problems = verify_package(plain(tmp_path, "g/a.onnx", place, location).path)
    assert len(problems) == 1 and ("not among the files" in problems[0] or "not a plain relative path" in problems[0])


def test_types_that_modelpack_knows_travel_along_after_what_is_needed(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "odd")
    (segment,), data, _ = adding("a.onnx", ["a.safetensors"], [1])
    needed = [(GRAPH_RAW, data, "a.onnx"), (WEIGHT_RAW, segment, "a.safetensors")]
    prefix = "application/vnd.cncf.model."
    along = [
        (f"{prefix}code.v1.raw", b"print()", "train.py"),
        (f"{prefix}doc.v1.tar+zstd", pack({"notes.md": b"notes"}), None),
        (f"{prefix}dataset.v1.tar", b"a tar", None),
    ]
    write(layout, "latest", [*needed, *along], [(3, "a.onnx")])
    assert verify_package(layout.path) == []
    with serving(layout.path) as url:
        fetch(f"{url}/odd", tmp_path / "m")
    assert not (tmp_path / "m" / "train.py").exists()
    write(layout, "latest", [along[0], *needed], [(4, "a.onnx")])
    assert "which no configuration can need" in verify_package(layout.path)[0]
    write(layout, "latest", [*needed, ("application/octet-stream", b"?", None)], [(3, "a.onnx")])
    assert "unknown media type" in verify_package(layout.path)[0]


def test_a_gzip_layer_is_held_against_its_diff_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout.create(tmp_path / "odd")
    (segment,), data, _ = adding("a.onnx", ["a.safetensors"], [1])
    layers = [(GRAPH_RAW, data, "a.onnx"), (WEIGHT_RAW, segment, "a.safetensors")]
    kind = "application/vnd.cncf.model.doc.v1.tar+gzip"
    write(layout, "latest", [*layers, (kind, gzip.compress(b"tar" * 1000), None)], [(3, "a.onnx")])
    assert "diffId 3 is not the digest" in verify_package(layout.path)[0]  # it states the packed bytes' own
    write(layout, "latest", [*layers, (kind, b"no gzip", None)], [(3, "a.onnx")])
    assert "is corrupt" in verify_package(layout.path)[0]


def test_what_nothing_reads_does_not_stand_among_what_is_needed(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "odd")
    (segment, other), data, _ = adding("a.onnx", ["a.safetensors", "b.safetensors"], [1, 2])
    alone = adding("a.onnx", ["a.safetensors"], [1])[1]
    layers = [(GRAPH_RAW, alone, "a.onnx"), (WEIGHT_RAW, segment, "a.safetensors"), (WEIGHT_RAW, other, "b.safetensors")]
    write(layout, "latest", layers, [(4, "a.onnx")])
    assert "no graph up to here reads 'b.safetensors'" in verify_package(layout.path)[0]
    write(layout, "latest", [*layers, (GRAPH_RAW, data, "b.onnx")], [(3, "a.onnx"), (5, "b.onnx")])
    assert verify_package(layout.path) == []


def test_a_layer_of_weights_is_one_segment(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "odd")
    segments, data, _ = adding("a.onnx", ["a.safetensors", "b.safetensors"], [1, 2])
    both = pack(dict(zip(("a.safetensors", "b.safetensors"), segments, strict=True)))
    write(layout, "latest", [(GRAPH_RAW, data, "a.onnx"), (WEIGHT_TAR_ZSTD, both, None)], [(3, "a.onnx")])
    assert "holds 2 files" in verify_package(layout.path)[0]
    nothing = pack({})
    write(layout, "latest", [(GRAPH_RAW, data, "a.onnx"), (WEIGHT_TAR_ZSTD, nothing, None)], [(3, "a.onnx")])
    assert "holds 0 files" in verify_package(layout.path)[0]


@pytest.mark.parametrize(
    ("other", "match"),
    [("A.onnx", "occurs twice"), ("a.onnx/b.onnx", "is a file and the folder of"), ("a.safetensors/b.onnx", "the folder of")],
)
def test_paths_that_meet_in_layers_apart(tmp_path: Path, other: str, match: str) -> None:
    """What lies in an archive is not in the manifest, so only who unpacks it sees it; on many disks one file overwrites the other."""
    layout = Layout.create(tmp_path / "odd")
    (segment,), data, _ = adding("a.onnx", ["a.safetensors"], [1])
    layers = [(GRAPH_RAW, data, "a.onnx"), (WEIGHT_RAW, segment, "a.safetensors")]
    for path, problems in (("c.onnx", 0), (other, 1)):
        write(layout, "latest", [*layers, (GRAPHS_TAR_ZSTD, pack({path: data}), None)], [(3, "a.onnx")])
        found = verify_package(layout.path)
        assert len(found) == problems and all(match in line for line in found), found


@pytest.mark.parametrize("lacks", ["descriptor", "config"])
def test_the_config_has_what_modelpack_requires(tmp_path: Path, lacks: str) -> None:
    layout = plain(tmp_path)
    (segment,), data, _ = adding("a.onnx", ["a.safetensors"], [1])
    fields: dict[str, Any] = {"descriptor": {}, "modelfs": {"type": "layers", "diffIds": []}, "config": {}}
    del fields[lacks]
    layers = [(GRAPH_RAW, data, "a.onnx"), (WEIGHT_RAW, segment, "a.safetensors")]
    write(layout, "latest", layers, [(3, "a.onnx")], config=fields)
    assert any(repr(lacks) in problem for problem in verify_package(layout.path))


def test_fields_beside_ours_are_kept(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "odd")
    (segment,), data, _ = adding("a.onnx", ["a.safetensors"], [1])
    layers = [(GRAPH_RAW, data, "a.onnx"), (WEIGHT_RAW, segment, "a.safetensors")]
    write(layout, "latest", layers, [(3, "a.onnx")], quality={"source": "a paper"})
    found = layout.ladder(layout.manifest()).to_json()
    assert found["configurations"][0]["quality"]["source"] == "a paper"


def test_a_name_that_is_no_tag_leaves_the_other_versions_alone(tmp_path: Path) -> None:
    layout = plain(tmp_path)
    (segment,), data, _ = adding("a.onnx", ["a.safetensors"], [2])
    layers = [(GRAPH_RAW, data, "a.onnx"), (WEIGHT_RAW, segment, "a.safetensors")]
    write(layout, "other", layers, [(3, "a.onnx")], name="docker.io/me/odd:1.0+cpu")
    assert set(layout.tags()) == {"latest"}
    assert verify_package(layout.path) == []
    with pytest.raises(FormatError, match="schema version True"):
        type(layout.ladder(layout.manifest())).parse(b'{"schema_version": true}')


def test_what_a_graph_says_of_its_output_may_be_nothing_or_nonsense_and_what_it_computes_counts(tmp_path: Path) -> None:
    (segment,), data, _ = adding("a.onnx", ["a.safetensors"], [1])
    model = onnx.load_from_string(data)
    x, y = (TensorSpec(name, "f4", ("n", 4)) for name in "xy")
    weights = Weights({"a.safetensors": SegmentFile.of(segment)})

    def check(inputs: tuple[TensorSpec, ...] = (x,), output: TensorSpec = y) -> None:
        check_graph(model.SerializeToString(), weights, "it", Declared(16, 16, "input", inputs, (output,)))

    for _ in range(2):
        check()
        check(output=replace(y, shape=("n", "c")))
        check(output=replace(y, labels=()))
        with pytest.raises(FormatError, match="is of float32, the ladder says int8"):
            check(output=replace(y, dtype="int8"))
        with pytest.raises(FormatError, match="is 4 long along axis 1, the ladder says 5"):
            check(output=replace(y, shape=("n", 5)))
        with pytest.raises(FormatError, match="has 4 values and 2 labels"):
            check(output=replace(y, shape=("n", "c"), labels=("a", "b")))
        model.graph.output[0].ClearField("type")  # once more with nothing said
    model.graph.output[0].type.tensor_type.elem_type = 999
    check()
    with pytest.raises(FormatError, match="needs the input"):
        model.graph.input.add(name="x" * 10**6).CopyFrom(model.graph.input[0])
        model.graph.input[1].name = "x" * 10**6
        check()
