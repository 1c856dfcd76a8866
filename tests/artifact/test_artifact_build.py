"""Graphs, versions, layouts and files: what is written, and what is refused before anything is named."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from accordion.artifact import layout as layout_module
from accordion.artifact.atomic import write_file, write_named_by_content
from accordion.artifact.bounded import read_file
from accordion.artifact.build import ConfigurationParts, build_version, prefix_bytes
from accordion.artifact.digest import Verifier, sha256_digest
from accordion.artifact.graph import check_graph
from accordion.artifact.layout import Layout, signature_tag
from accordion.artifact.replaced import unread_bytes
from accordion.artifact.segment import encode_segment, parse_header
from accordion.artifact.verify import verify_package
from accordion.errors import ContentError, DigestError, FormatError, StorageError, UsageError

SEGMENT = encode_segment({"w": np.arange(2, dtype=np.float32)})
START = parse_header(SEGMENT, len(SEGMENT), "it")["w"].start
FILES = {"a.safetensors": len(SEGMENT)}


def model(location: str = "a.safetensors", dims: tuple[int, ...] = (2,), **place: Any) -> onnx.ModelProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": START, "length": 8, **place}.items():
        tensor.external_data.add(key=key, value=str(value))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "test", [x], [y], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def graph(**changes: Any) -> bytes:
    data: bytes = model(**changes).SerializeToString()
    return data


def check(made: onnx.ModelProto) -> None:
    check_graph(made.SerializeToString(), FILES, "it")


def test_a_graph_that_keeps_the_rules_is_taken() -> None:
    check(model())


def test_small_constants_may_stay_in_a_graph() -> None:
    made = model()
    made.graph.initializer.append(helper.make_tensor("axes", TensorProto.INT64, [4], [0, 1, 2, 3]))
    check(made)


def many_constants(made: onnx.ModelProto) -> None:
    for index in range(1100):
        made.graph.initializer.append(helper.make_tensor(f"c{index}", TensorProto.UINT8, [4000], bytes(4000), raw=True))


def constant_node(made: onnx.ModelProto) -> None:
    value = helper.make_tensor("v", TensorProto.UINT8, [5000], bytes(5000), raw=True)
    made.graph.node.append(helper.make_node("Constant", [], ["c"], value=value))


def constant_floats(made: onnx.ModelProto) -> None:
    made.graph.node.append(helper.make_node("Constant", [], ["c"], value_floats=[0.5] * 2000))


def external_attribute(made: onnx.ModelProto) -> None:
    value = TensorProto(data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    value.external_data.add(key="location", value="/etc/passwd")
    made.graph.node.append(helper.make_node("Constant", [], ["c"], value=value))


def branch(made: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [])
    made.graph.node.append(helper.make_node("If", ["x"], [], then_branch=inner, else_branch=inner))


def hidden_branch(made: onnx.ModelProto) -> None:
    made.graph.node[0].attribute.append(helper.make_attribute("body", helper.make_graph([], "inner", [], [])))


@pytest.mark.parametrize(
    "change, problem",
    [
        (many_constants, "holds weights"),
        (constant_node, "holds weights"),
        (constant_floats, "holds weights"),
        (external_attribute, "an attribute points to a file"),
        (branch, "branches and loops"),
        (hidden_branch, "branches and loops"),
        (lambda made: made.graph.initializer.append(made.graph.initializer[0]), "have one name"),
        (lambda made: made.graph.node.append(helper.make_node("Relu", ["x"], ["y"])), "is made twice"),
        (lambda made: made.graph.node.append(helper.make_node("Relu", ["x"], ["x"])), "is made twice"),
        (lambda made: made.graph.node.append(helper.make_node("Relu", ["z"], ["z"])), "before it is made"),
        (lambda made: made.graph.node.pop(), "nothing makes its output 'y'"),
        (lambda made: made.ClearField("graph"), "no graph"),
        (lambda made: made.ClearField("opset_import"), "no operator set"),
        (lambda made: made.training_info.add(), "training"),
        (lambda made: made.functions.add(name="f"), "functions"),
        (lambda made: made.graph.sparse_initializer.add(), "sparse"),
        (lambda made: made.graph.initializer[0].external_data.add(key="offset", value="0"), "in an unknown way"),
        (lambda made: made.graph.initializer[0].external_data.add(key="basepath", value="/"), "in an unknown way"),
        (lambda made: made.graph.initializer[0].ClearField("external_data"), "the path 'None'"),
        (lambda made: setattr(made.graph.initializer[0], "raw_data", b"12345678"), "holds weights"),
        (lambda made: setattr(made.graph.initializer[0], "data_type", TensorProto.STRING), "a shape or a type"),
        (lambda made: setattr(made.graph.initializer[0], "data_type", 99), "a shape or a type"),
        (lambda made: made.graph.initializer[0].dims.extend([1] * 40), "a shape or a type"),
        (lambda made: made.graph.initializer[0].dims.extend([2**40]), "a shape or a type"),
        (lambda made: made.graph.initializer[0].dims.extend([-1]), "a shape or a type"),
    ],
)
def test_a_graph_that_breaks_a_rule_is_refused(change: Callable[[onnx.ModelProto], object], problem: str) -> None:
    made = model()
    change(made)
    with pytest.raises(FormatError, match=problem):
        check(made)


@pytest.mark.parametrize(
    "place",
    [
        {"location": "/a.safetensors"},
        {"location": "b.safetensors"},
        {"location": ""},
        {"offset": len(SEGMENT) - 7},
        {"offset": -1},
        {"offset": "0x10"},
        {"offset": "²"},
        {"offset": "9" * 16},
        {"length": 0},
        {"length": 9},
        {"length": "8 "},
        {"dims": (10**6,), "length": 4 * 10**6},
    ],
)
def test_external_data_outside_of_the_files_is_refused(place: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        check(model(**place))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100), st.integers(0, len(graph()) - 1), st.binary(min_size=1, max_size=6))
def test_any_bytes_are_a_graph_or_refused(data: bytes, position: int, patch: bytes) -> None:
    good = graph()
    for one in (
        data,
        good[:position],
        good[:position] + patch + good[position:],
        good[:position] + patch + good[position + len(patch) :],
    ):
        with contextlib.suppress(ContentError):
            check_graph(one, FILES, "it")


@pytest.fixture
def fields(make: ModuleType) -> dict[str, Any]:
    """A ladder for one configuration."""
    made: dict[str, Any] = make.ladder([make.rung(0, 2, 2, 0.5)], [("x", "float32", ["n", 2])], [("y", "float32", ["n", 2])])
    return made


PARTS = ConfigurationParts("a.onnx", graph(), {"a.safetensors": SEGMENT})


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_version_is_built_to_the_same_bytes_each_time(fields: dict[str, Any], tmp_path: Path) -> None:
    for name in ("one", "two"):
        build_version(Layout.create(tmp_path / name), "v1", ladder_fields=fields, configurations=[PARTS], documents={"doc": b"x"})
        assert verify_package(tmp_path / name) == []
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_one_graph_may_serve_several_configurations(make: ModuleType, fields: dict[str, Any], tmp_path: Path) -> None:
    fields["configurations"].append(make.rung(1, 2, 2, 0.6))
    more = ConfigurationParts("a.onnx", graph())
    manifest = build_version(Layout.create(tmp_path / "p"), "v1", ladder_fields=fields, configurations=[PARTS, more])
    assert prefix_bytes(fields, [PARTS, more]) == [manifest.offsets[3]] * 2
    assert len(manifest.layers) == 3  # ladder, one archive, one segment
    assert verify_package(tmp_path / "p") == []


def test_archives_may_be_given(make: ModuleType, fields: dict[str, Any], tmp_path: Path) -> None:
    fields["configurations"].append(make.rung(1, 2, 2, 0.6))
    parts = [PARTS, ConfigurationParts("b.onnx", graph(), {"b.safetensors": SEGMENT})]
    for archives, layers in ((None, 4), ([2], 4), ([1, 1], 5)):
        manifest = build_version(
            Layout.create(tmp_path / str(layers)), "v1", ladder_fields=fields, configurations=parts, archives=archives
        )
        assert len(manifest.layers) == layers
    with pytest.raises(FormatError, match="archives of 3 graphs"):
        build_version(Layout.create(tmp_path / "no"), "v1", ladder_fields=fields, configurations=parts, archives=[1, 2])


@pytest.mark.parametrize(
    "parts, documents, problem",
    [
        ([], {}, "the parts are for 0"),
        ([PARTS, PARTS], {}, "the parts are for 2"),
        ([ConfigurationParts("a.onnx", graph(), {"a.safetensors": SEGMENT + b"x"})], {}, "its tensors end at"),
        ([ConfigurationParts("a.onnx", graph(), {})], {}, "not among the files"),
        ([ConfigurationParts("a.onnx", b"", {})], {}, "is not an ONNX model"),
        ([ConfigurationParts("../a.onnx", graph(), {"a.safetensors": SEGMENT})], {}, "plain relative"),
        ([ConfigurationParts("a.onnx", graph(), {"a.safetensors": SEGMENT, "/b": SEGMENT})], {}, "plain relative"),
        ([ConfigurationParts("a.safetensors", graph(), {"a.safetensors": SEGMENT})], {}, "occurs twice"),
        ([ConfigurationParts("a.onnx", graph(offset=9999), {"a.safetensors": SEGMENT})], {}, "ends at byte"),
        ([PARTS], {"A.ONNX": b""}, "occurs twice"),
        ([PARTS], {"ladder.json": b""}, "occurs twice"),
        ([PARTS], {"a.safetensors": b""}, "occurs twice"),
        ([PARTS], {"a.onnx/x": b""}, "folder of"),
        ([PARTS], {"state.json": b""}, "reserved"),
        ([PARTS], {"../x": b""}, "plain relative"),
    ],
)
def test_parts_that_break_a_rule_are_refused_and_nothing_is_named(
    fields: dict[str, Any], tmp_path: Path, parts: list[ConfigurationParts], documents: dict[str, bytes], problem: str
) -> None:
    layout = Layout.create(tmp_path / "p")
    before = files(tmp_path / "p")
    with pytest.raises(FormatError, match=problem):
        build_version(layout, "v1", ladder_fields=fields, configurations=parts, documents=documents)
    assert files(tmp_path / "p") == before


def test_a_segment_twice_and_a_graph_in_two_forms_are_refused(make: ModuleType, fields: dict[str, Any], tmp_path: Path) -> None:
    fields["configurations"].append(make.rung(1, 2, 2, 0.6))
    layout = Layout.create(tmp_path / "p")
    other = ConfigurationParts("a.onnx", graph(checksum="0"), {})
    for second, problem in ((PARTS, "occurs twice"), (other, "different graphs")):
        with pytest.raises(FormatError, match=problem):
            build_version(layout, "v1", ladder_fields=fields, configurations=[PARTS, second])
    assert layout.tags() == {}


def test_a_ladder_that_breaks_a_rule_is_refused_and_nothing_is_named(fields: dict[str, Any], tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "p")
    before = files(tmp_path / "p")
    fields["configurations"][0]["quality"]["value"] = 7
    with pytest.raises(FormatError, match="outside of its interval"):
        build_version(layout, "v1", ladder_fields=fields, configurations=[PARTS])
    assert files(tmp_path / "p") == before


def test_a_bad_tag_is_wrong_usage(fields: dict[str, Any], tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "p")
    for tag in ("", "../x", ".x", "a b", "x" * 129, "v1\n"):
        with pytest.raises(UsageError, match="is no tag"):
            build_version(layout, tag, ladder_fields=fields, configurations=[PARTS])
    assert layout.tags() == {}


def test_a_tag_moves_and_a_missing_blob_is_refused(fields: dict[str, Any], tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "p")
    first = build_version(layout, "v1", ladder_fields=fields, configurations=[PARTS])
    second = build_version(layout, "v1", ladder_fields={**fields, "task": "other"}, configurations=[PARTS])
    assert layout.manifest().digest == second.digest != first.digest
    layout.blob_path(first.layers[0].digest).unlink()
    with pytest.raises(FormatError, match="lacks the blob"):
        layout.add_version("v0", first)
    assert list(layout.tags()) == ["v1"]


@pytest.mark.parametrize("written", [0, 1])
def test_a_layout_that_a_full_disk_stopped_is_made_whole_next_time(
    golden: Path, tmp_path: Path, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([True] * written)

    def full(path: Path, data: bytes) -> None:
        if not next(left, False):
            raise StorageError("the disk is full")
        write_file(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(layout_module, "write_file", full)
        with pytest.raises(StorageError):
            Layout.create(tmp_path / "p")
    (tmp_path / "p" / ".new-0123456789abcdef").write_bytes(b"of a write that was killed")
    assert Layout.create(tmp_path / "p").tags() == {}
    for spoil in ("mine.txt", "blobs/sha256/mine.txt"):
        (tmp_path / spoil.replace("/", "-")).joinpath("blobs", "sha256").mkdir(parents=True)
        (tmp_path / spoil.replace("/", "-") / spoil).write_text("mine")
        with pytest.raises(UsageError, match="is no package"):
            Layout.create(tmp_path / spoil.replace("/", "-"))


def test_two_that_make_one_layout_do_not_undo_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one begins while the first one is at it, and finds a version in what the first one made."""
    began, go_on = threading.Event(), threading.Event()
    first_one = threading.current_thread()

    def slow(path: Path, data: bytes) -> None:
        if threading.current_thread() is not first_one and path.name == "index.json":
            began.set()
            go_on.wait(1.0)
        write_file(path, data)

    monkeypatch.setattr(layout_module, "write_file", slow)
    other = threading.Thread(target=Layout.create, args=(tmp_path / "p",))
    other.start()
    assert began.wait(60)
    layout = Layout.create(tmp_path / "p")  # waits for the other
    layout.add_manifest("v1", b"{}")
    go_on.set()
    other.join(60)
    assert list(Layout.open(tmp_path / "p").tags()) == ["v1"]


def test_what_cannot_be_read_is_not_called_wrong(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(self: Layout, tag: str) -> None:
        raise StorageError("can't read it: Permission denied")

    monkeypatch.setattr(Layout, "manifest", unreadable)
    with pytest.raises(StorageError):
        verify_package(golden / "versions")


def test_values_that_no_graph_reads_any_more() -> None:
    later = encode_segment({"scale": np.ones(2, np.float32), "more": np.ones(3, np.float64)})
    start = parse_header(later, len(later), "it")["scale"].start
    segments = {"a.safetensors": SEGMENT, "g/b.safetensors": later}
    assert unread_bytes(segments, {"a.onnx": graph()}) == {"a.safetensors": 0, "g/b.safetensors": 8 + 24}
    there = {"g/b.onnx": graph(location="b.safetensors", offset=start)}
    assert unread_bytes(segments, there) == {"a.safetensors": 8, "g/b.safetensors": 24}
    assert unread_bytes(segments, {"a.onnx": graph(), **there}) == {"a.safetensors": 0, "g/b.safetensors": 24}


def test_versions_are_found_by_tag_and_digest(golden: Path) -> None:
    layout = Layout.open(golden / "versions")
    first = layout.resolve("v1")
    assert layout.resolve(first.digest) == layout.resolve("@" + first.digest) == first
    for reference in (None, "v3", sha256_digest(b"none"), signature_tag(first.digest)):
        with pytest.raises(UsageError):
            layout.resolve(reference)


def test_reading_a_blob_is_bounded_and_checked(golden: Path, tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "p")
    layer = Layout.open(golden / "trees").manifest().layers[0]
    data = Layout.open(golden / "trees").read_blob(layer, limit=layer.size)
    with pytest.raises(FormatError, match="lacks the blob"):
        layout.read_blob(layer, limit=layer.size)
    with pytest.raises(FormatError, match="at most"):
        layout.read_blob(layer, limit=layer.size - 1)
    for wrong in (data + b"x", data[:-1], bytes(len(data))):
        layout.blob_path(layer.digest).write_bytes(wrong)
        with pytest.raises(DigestError):
            layout.read_blob(layer, limit=layer.size)
        assert layout.write_blob(data) == (layer.digest, layer.size)
        assert layout.read_blob(layer, limit=layer.size) == data


def test_a_signature_is_checked_but_is_no_version(golden: Path, tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "p")
    payload, size = layout.write_blob(b"payload")
    row = {"mediaType": "application/x", "digest": payload, "size": size}
    layout.add_manifest(signature_tag(payload), json.dumps({"schemaVersion": 2, "config": row, "layers": [row]}).encode())
    assert layout.tags() == {} and list(layout.references()) == [signature_tag(payload)]
    assert [problem.split(" ", 1)[1] for problem in verify_package(tmp_path / "p")] == ["holds no version"]
    layout.blob_path(payload).write_bytes(b"changed")
    assert any("is corrupt" in problem for problem in verify_package(tmp_path / "p"))


def test_something_else_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError):
        Layout.create(tmp_path)
    with pytest.raises(FormatError):
        Layout.open(tmp_path)
    with pytest.raises(UsageError):
        Layout.open(tmp_path / "none")
    assert files(tmp_path) == {"letter.txt": b"dear"}


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"first", b"second"):
        write_file(path, data)
        assert files(tmp_path) == {"file": data}
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644 & ~mask


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_failing_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    (tmp_path / "file").write_bytes(b"before")

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(StorageError, match="No space left"):
        write_file(tmp_path / "file", b"after")
    assert files(tmp_path) == {"file": b"before"}


def test_a_file_that_a_person_names_has_its_limit_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 10)
    assert read_file(tmp_path / "f", 10) == b"x" * 10
    assert read_file(tmp_path / "f", 11) == b"x" * 10
    for limit in (9, 0):
        with pytest.raises(UsageError, match=f"longer than the {limit} bytes"):
            read_file(tmp_path / "f", limit)


def test_a_failing_source_leaves_nothing_behind(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"some"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_named_by_content(tmp_path, chunks(), lambda: tmp_path / "file")
    assert files(tmp_path) == {}


def test_writing_where_nothing_can_be_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        write_file(tmp_path / "none" / "file", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError):
        write_file(tmp_path / "folder", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_bytes_are_verified_while_they_arrive() -> None:
    verifier = Verifier(sha256_digest(b"abcdef"), 6, "it")
    verifier.update(b"abc")
    assert (verifier.received, verifier.missing) == (3, 3)
    with pytest.raises(DigestError, match="ends after 3 of 6"):
        verifier.finish()
    verifier.update(b"def")
    verifier.finish()
    with pytest.raises(DigestError, match="longer than the 6"):
        verifier.update(b"g")
    wrong = Verifier(sha256_digest(b"abcdef"), 6, "it")
    wrong.update(b"abcdeF")
    with pytest.raises(DigestError, match="is corrupt"):
        wrong.finish()
