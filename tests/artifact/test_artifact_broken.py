"""Packages that each break one rule: verification says which, and never fails itself."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accordion.artifact import archive
from accordion.artifact.verify import verify_package
from accordion.errors import AccordionError, UsageError

PLAIN = "is not a plain relative path"
FOLDERS = {
    "escaping path": PLAIN,
    "escaping path inside": PLAIN,
    "absolute path": PLAIN,
    "drive path": PLAIN,
    "hidden path": PLAIN,
    "reserved path": "is reserved",
    "reserved folder": "is reserved",
}
PROBLEMS = {
    "truncated blob": "has 211 bytes, promised are 212",
    "flipped byte": "is corrupt",
    "extended blob": "has 213 bytes, promised are 212",
    "missing blob": "is missing",
    "swapped layers": "'000.safetensors', which is not among the files",
    "swapped files": "'000.safetensors', which is not among the files",
    "missing layer": "'000.safetensors', which is not among the files",
    "document instead of a segment": "'000.safetensors', which is not among the files",
    "document before the end": "layer 3 is a document",
    "second ladder": "layer 5 is a second ladder",
    "unknown media type": "unknown media type 'application/x-python-pickle'",
    "no ladder first": "not the ladder",
    "duplicate path": "'000.safetensors' occurs twice",
    "duplicate path but for case": "'000.SAFETENSORS' occurs twice",
    "duplicate path in an archive": "'000.onnx' occurs twice",
    "duplicate path within an archive": "'000.onnx' occurs twice",
    "file as a folder": "is a file and the folder of",
    **FOLDERS,
    **{f"{name} in an archive": problem for name, problem in FOLDERS.items()},
    "no path": "layer 5: the path",
    "link in an archive": "is not a regular file",
    "folder in an archive": "is not a regular file",
    "overlapping tensors": "overlaps the one before",
    "hole between tensors": "leaves a hole",
    "tensor of another size": "has 12 bytes, U8 [99] needs 99",
    "tensor of an unknown type": "unknown type 'OBJECT'",
    "segment with a tail": "its tensors end at",
    "segment that is none": "is not a safetensors file",
    "segment in an archive that is none": "'more.safetensors' is not a safetensors file",
    "zstd bomb": "the ladder unpacks to more than 16777216 bytes",
    "zstd bomb as an archive": "layer 3 unpacks to more than 1048576 bytes",
    "bytes behind a zstd frame": "goes on after the end of its zstd frame",
    "graph cycle": "a cycle",
    "foreign operator domain": "the operator 'Cast' is of the domain 'com.example'",
    "foreign operator set": "needs operators of the domain 'com.example'",
    "graph with inline weights": "'more' holds weights in the graph itself",
    "graph with inline weights beside a file": "holds weights in the graph itself",
    "graph with functions": "defines functions",
    "external data out of range": "'000.safetensors', which has 280",
    "external data too long": "'000.safetensors', which has 280",
    "external data in another folder": "'../../../etc/passwd' is not a plain relative path",
    "external data in a missing file": "'later.safetensors', which is not among the files",
    "external data at a negative place": "no offset or length that is a number",
    "external data of another length": "is 1 bytes long; its shape needs 12",
    "graph that is none": "is not an ONNX model",
    "graph that nothing runs": "layer 3 stands among its layers, but none of its graphs is needed that soon",
    "graphs before they are needed": "layer 2 stands among its layers, but none of its graphs is needed that soon",
    "input of another name": "000.onnx needs the input",
    "input of another type": "is of float32, the ladder says int64",
    "input of another size": "along axis",
    "input of other axes": "the ladder says 3",
    "output that is not there": "has no output 'probabilities'",
    "output of another size": "along axis",
    "labels for other classes": "labels",
    "labels for classes that vary": "labels",
    "output of an unknown type and another name": "has no output 'z'",
    "output that lies about its size": "along axis 1, the ladder says 99",
    "missing graph": "'none.onnx' is not among the layers",
    "graph that makes a terabyte": "the ConstantOfShape that makes 'zeros': what it makes of its constants grows beyond",
    "graph that doubles": "grows beyond",
    "graph that works more than stated": "the MatMul that makes 'square'",
    "graph with a loop": "branches and loops have no bound",
    "graph with random numbers": "'RandomNormal' is not one that a package's graph may use",
    "index out of range": "the Gather that makes 'picked' are out of range: they go from 4 to 4",
    "delivered index out of range": "the Gather that makes 'picked' are out of range",
    "odd number of codes": "the number of elements changes",
    "parameters from nothing": "claims 1000000000 parameters",
    "scale that is no number": "tensor 'scale0' holds a NaN or an infinity",
    "scale that is no number in an archive": "tensor 'scale0' holds a NaN or an infinity",
    "infinite scale": "tensor 'scale0' holds a NaN or an infinity",
    "infinite scale in an archive": "tensor 'scale0' holds a NaN or an infinity",
    "wrong sizes in the ladder": "says 4732 bytes, its 3 layers have 4731",
    "too few layers": "'001.onnx' is not among the layers",
    "too many layers": "needs 7 layers, the manifest has 6",
    "ladder not nested": "they must be nested",
    "ladder out of order": "configuration 1 has the index 0",
    "ladder of two metrics": "another metric",
    "input without a layout": "inputs[0] has no 'layout'",
    "more than all is right": "a quality of 1.5 is no fraction",
    "ladder of another schema": "schema version 2",
    "ladder without configurations": "no configurations",
    "value outside of its interval": "outside of its interval",
    "not a number": "NaN is not a JSON number",
    "wrong diffIds": "diffId 2",
    "no diffIds": "has 0 diffIds",
    "diffId that is none": "diffId 0",
    "config with a field of another schema": "'more', which ModelPack does not know",
    "config whose name is none": "'name' is not a text",
    "config without a format": "'format' is not a text",
    "config of no time": "not a date and time",
    "config that is none": "the config is not a JSON object",
    "another artifact type": "artifactType is 'application/x-other'",
    "manifest that is none": "the manifest is not a JSON object",
    "manifest without layers": "needs 1 to 10000 layers",
    "negative size": "has the size '-1'",
    "index without versions": "holds no version",
    "index with a tag twice": "holds the tag 'latest' twice",
    "index that is none": "index.json is not a JSON object",
    "tag that is none": "holds no version",
    "another layout version": "layout version '9'",
    "no layout": "lacks oci-layout",
    "no blobs": "lacks the blob",
    "corrupt manifest": "is corrupt",
}


def test_every_broken_package_has_its_problem_here(broken_packages: dict[str, Path]) -> None:
    assert set(broken_packages) == set(PROBLEMS)


def test_the_whole_package_taken_apart_and_put_together_has_no_problem(broken: ModuleType, golden: Path, tmp_path: Path) -> None:
    assert verify_package(broken.take_apart(golden / "precision").write(tmp_path / "whole")) == []


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_broken_package_is_found_out(broken_packages: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "UNPACKED_FLOOR", 2**20)
    problems = verify_package(broken_packages[name])
    assert any(PROBLEMS[name] in problem for problem in problems), problems
    assert all("\n" not in problem and len(problem) < 2000 for problem in problems)


@pytest.mark.parametrize(
    "name", ["swapped layers", "graph cycle", "overlapping tensors", "escaping path", "zstd bomb", "wrong diffIds"]
)
def test_a_whole_version_beside_a_broken_one_is_not_blamed(
    broken_packages: dict[str, Path], broken: ModuleType, golden: Path, tmp_path: Path, name: str
) -> None:
    package = broken.take_apart(golden / "precision").write(tmp_path / "both")
    for path in (broken_packages[name] / "blobs" / "sha256").iterdir():
        (package / "blobs" / "sha256" / path.name).write_bytes(path.read_bytes())
    good, bad = (json.loads((folder / "index.json").read_bytes()) for folder in (package, broken_packages[name]))
    bad["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = "bad"
    good["manifests"] += bad["manifests"]
    (package / "index.json").write_text(json.dumps(good))
    problems = verify_package(package)
    assert problems and all(problem.startswith("bad: ") for problem in problems)


def test_a_bomb_in_an_archive_is_bounded_in_the_diff_ids_too(
    broken_packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "UNPACKED_FLOOR", 2**20)
    problems = verify_package(broken_packages["zstd bomb as an archive"])
    assert sum("unpacks to more than" in problem for problem in problems) == 2


def test_no_directory_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        verify_package(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError):
        verify_package(tmp_path / "file")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_byte_changed_anywhere_is_a_problem(
    golden: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    original = golden / "trees"
    folder = tmp_path_factory.mktemp("changed") / "package"
    paths = sorted(path for path in original.rglob("*") if path.is_file() and path.name != "expected.json")
    picked = data.draw(st.sampled_from([path for path in paths if path.parent.name == "sha256"]))
    for path in paths:
        copy = folder / path.relative_to(original)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    changed = bytearray(picked.read_bytes())
    position = data.draw(st.integers(0, len(changed) - 1))
    changed[position] ^= data.draw(st.integers(1, 255))
    (folder / picked.relative_to(original)).write_bytes(changed)
    try:
        assert verify_package(folder) != []
    except AccordionError:
        pytest.fail("verification reports problems, it does not raise them")
