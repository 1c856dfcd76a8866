"""The golden packages, read by a reader that knows the specification and nothing of this project's code."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
import zstandard

from accordion.artifact.verify import verify_package

VERSIONS = [
    ("precision", "latest"),
    ("trees", "latest"),
    ("cache", "latest"),
    ("versions", "v1"),
    ("versions", "v2"),
    ("long", "latest"),
    *(("encodings", tag) for tag in ("float16", "bfloat16", "float8", "int8", "int4", "planes")),
]
NAMES = list(dict.fromkeys(name for name, _ in VERSIONS))
RAW = "application/vnd.cncf.model.weight.v1.raw"
DOC = "application/vnd.cncf.model.doc.v1.raw"
LADDER = "application/vnd.accordion.ladder.v1+json"


def blob(package: Path, descriptor: dict[str, Any]) -> bytes:
    algorithm, name = descriptor["digest"].split(":")
    data = (package / "blobs" / algorithm / name).read_bytes()
    assert algorithm == "sha256" and hashlib.sha256(data).hexdigest() == name and len(data) == descriptor["size"]
    return data


def unzipped(descriptor: dict[str, Any], data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(data) if descriptor["mediaType"].endswith("+zstd") else data


def manifest_of(package: Path, tag: str) -> dict[str, Any]:
    entries = json.loads((package / "index.json").read_bytes())["manifests"]
    (entry,) = [row for row in entries if row["annotations"]["org.opencontainers.image.ref.name"] == tag]
    made: dict[str, Any] = json.loads(blob(package, entry))
    return made


def files_of(descriptor: dict[str, Any], data: bytes) -> Iterator[tuple[str, bytes]]:
    """The files of one layer."""
    plain = unzipped(descriptor, data)
    if descriptor["mediaType"].startswith(LADDER):
        yield "ladder.json", plain
    elif descriptor["mediaType"] in (RAW, DOC):
        yield descriptor["annotations"]["org.cncf.model.filepath"], plain
    else:
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            for member in archive:
                stream = archive.extractfile(member)
                assert stream is not None
                yield member.name, stream.read()


def ladder_of(package: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    first = manifest["layers"][0]
    assert first["mediaType"] in (LADDER, LADDER + "+zstd")
    made: dict[str, Any] = json.loads(unzipped(first, blob(package, first)))
    return made


def array(value: dict[str, Any]) -> Any:
    return np.array(value["values"], value["dtype"]).reshape(value["shape"])


def expected_of(package: Path, tag: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((package / "expected.json").read_bytes())["versions"][tag]
    return rows


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_package_has_no_problems(golden: Path, name: str) -> None:
    assert verify_package(golden / name) == []


@pytest.mark.parametrize("name, tag", VERSIONS)
def test_every_prefix_runs_and_answers_as_computed_by_hand(golden: Path, tmp_path: Path, name: str, tag: str) -> None:
    package = golden / name
    manifest = manifest_of(package, tag)
    rungs, expected = ladder_of(package, manifest)["configurations"], expected_of(package, tag)
    assert len(rungs) == len(expected)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    laid = 0
    for k, (rung, row) in enumerate(zip(rungs, expected, strict=True)):
        for descriptor in manifest["layers"][laid : rung["layers"]]:
            for path, data in files_of(descriptor, blob(package, descriptor)):
                assert not (tmp_path / path).exists()
                (tmp_path / path).write_bytes(data)
        laid = rung["layers"]
        assert rung["index"] == k and rung["graph"] == row["graph"]
        session = onnxruntime.InferenceSession(tmp_path / rung["graph"], options)
        values = session.run(list(row["outputs"]), {key: array(value) for key, value in row["inputs"].items()})
        for value, wanted in zip(values, row["outputs"].values(), strict=True):
            assert value.dtype == wanted["dtype"]
            np.testing.assert_allclose(value, array(wanted), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name, tag", VERSIONS)
def test_the_ladder_states_the_bytes_of_its_layers(golden: Path, name: str, tag: str) -> None:
    manifest = manifest_of(golden / name, tag)
    sizes = [layer["size"] for layer in manifest["layers"]]
    for rung in ladder_of(golden / name, manifest)["configurations"]:
        assert rung["bytes"] == sum(sizes[: rung["layers"]])


@pytest.mark.parametrize("name, tag", VERSIONS)
def test_the_ladder_names_what_the_graphs_take_and_give(golden: Path, name: str, tag: str) -> None:
    manifest = manifest_of(golden / name, tag)
    ladder = ladder_of(golden / name, manifest)
    for rung, row in zip(ladder["configurations"], expected_of(golden / name, tag), strict=True):
        assert [one["name"] for one in rung.get("inputs", ladder["inputs"])] == list(row["inputs"])
        assert {one["name"] for one in rung.get("outputs", ladder["outputs"])} == set(row["outputs"])


@pytest.mark.parametrize("name, tag", VERSIONS)
def test_the_diff_ids_are_those_of_the_layers_uncompressed(golden: Path, name: str, tag: str) -> None:
    package = golden / name
    manifest = manifest_of(package, tag)
    stated = json.loads(blob(package, manifest["config"]))["modelfs"]["diffIds"]
    plain = [unzipped(layer, blob(package, layer)) for layer in manifest["layers"]]
    assert stated == ["sha256:" + hashlib.sha256(data).hexdigest() for data in plain]


@pytest.mark.parametrize("name, tag", VERSIONS)
def test_the_config_has_the_fields_of_the_modelpack_schema_alone(golden: Path, name: str, tag: str) -> None:
    config = json.loads(blob(golden / name, manifest_of(golden / name, tag)["config"]))
    assert set(config) == {"descriptor", "modelfs", "config"}
    assert set(config["modelfs"]) == {"type", "diffIds"} and config["modelfs"]["type"] == "layers"
    assert set(config["descriptor"]) <= {"createdAt", "name"} and all(config["descriptor"].values())
    if "createdAt" in config["descriptor"]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", config["descriptor"]["createdAt"])
    assert set(config["config"]) <= {"architecture", "format", "paramSize", "precision", "quantization"}
    assert all(isinstance(value, str) for value in config["config"].values())


@pytest.mark.parametrize("name, tag", VERSIONS)
def test_the_manifest_is_that_of_a_modelpack(golden: Path, name: str, tag: str) -> None:
    manifest = manifest_of(golden / name, tag)
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"


def test_nothing_lies_in_a_package_that_no_version_needs(golden: Path) -> None:
    for name in NAMES:
        package = golden / name
        index = json.loads((package / "index.json").read_bytes())["manifests"]
        needed = {entry["digest"] for entry in index}
        for entry in index:
            manifest = json.loads(blob(package, entry))
            needed |= {row["digest"] for row in (manifest["config"], *manifest["layers"])}
        assert {"sha256:" + path.name for path in (package / "blobs" / "sha256").iterdir()} == needed


def test_two_versions_share_what_they_have_in_common(golden: Path) -> None:
    first, second = ({layer["digest"] for layer in manifest_of(golden / "versions", tag)["layers"]} for tag in ("v1", "v2"))
    assert len(first & second) == 4  # two archives of graphs, two segments
    assert len(first - second) == len(second - first) == 3  # ladder, last segment, document


def test_later_planes_leave_the_earlier_ones_alone(golden: Path) -> None:
    manifest = manifest_of(golden / "precision", "latest")
    first, second = (blob(golden / "precision", layer) for layer in manifest["layers"] if layer["mediaType"] == RAW)
    assert b'"plane0"' in first and b'"U8"' in first
    assert b'"plane1"' in second and b'"plane0"' not in second


def test_two_hundred_configurations_travel_in_few_archives(golden: Path) -> None:
    manifest = manifest_of(golden / "long", "latest")
    archives = [layer for layer in manifest["layers"] if layer["mediaType"].endswith("tar+zstd")]
    assert len(archives) == 8  # 1, 2, 4, …, 128
    members = [[path for path, _ in files_of(layer, blob(golden / "long", layer))] for layer in archives]
    assert [len(paths) for paths in members] == [1, 2, 4, 8, 16, 32, 64, 73]
    assert len(ladder_of(golden / "long", manifest)["configurations"]) == 200


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_script_makes_the_same_bytes_again(golden: Path, make: ModuleType, tmp_path: Path) -> None:
    make.make_all(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    written_by = json.loads((golden / "precision" / "expected.json").read_bytes())["zstd"]
    for name in NAMES:
        if written_by == ".".join(map(str, zstandard.ZSTD_VERSION)):
            assert _files(tmp_path / name) == _files(golden / name)
        else:
            assert verify_package(tmp_path / name) == []


def test_the_golden_packages_are_small(golden: Path) -> None:
    assert sum(len(data) for name in NAMES for data in _files(golden / name).values()) < 1_000_000
