"""The networks that the project ships: whole, and as good as their ladders say."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import zstandard

from accordion.artifact.verify import verify_package
from accordion.data import available, load
from experiments.zoo import document

ZOO = Path(__file__).parents[2] / "zoo"
PACKAGES = sorted(path.parent for path in ZOO.glob("*/oci-layout"))
SAMPLES = 400  # test pictures that are run here; the ladder was measured on all 10,000


def blob(package: Path, digest: str) -> bytes:
    data = (package / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()
    assert "sha256:" + hashlib.sha256(data).hexdigest() == digest
    return data


def lay_out(package: Path, folder: Path) -> dict[str, Any]:
    """An independent reader: the first n(k) layers of every k under their paths; returns the ladder."""
    index = json.loads((package / "index.json").read_bytes())
    manifest = json.loads(blob(package, index["manifests"][0]["digest"]))
    ladder: dict[str, Any] = {}
    for layer in manifest["layers"]:
        data, kind = blob(package, layer["digest"]), layer["mediaType"]
        assert len(data) == layer["size"]
        if kind.endswith("+zstd"):
            data = zstandard.ZstdDecompressor().decompress(data, max_output_size=2**27)
        if "ladder" in kind:
            ladder = json.loads(data)
        elif "tar" in kind:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                for member in archive.getmembers():
                    content = archive.extractfile(member)
                    assert content is not None
                    (folder / member.name).write_bytes(content.read())
        else:
            (folder / layer["annotations"]["org.cncf.model.filepath"]).write_bytes(data)
    return ladder


def test_there_is_a_zoo_and_it_is_small() -> None:
    assert [path.name for path in PACKAGES] == [
        "resnet110-cifar100",
        "resnet110-cifar100-compact",
        "resnet56-cifar10",
        "resnet56-cifar10-compact",
    ]
    assert sum(path.stat().st_size for path in ZOO.rglob("*") if path.is_file()) < 25e6


def test_the_model_cards_say_what_the_ladders_say() -> None:
    """`make evidence` writes them."""
    assert document.current() == document.CARDS.read_text()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_is_sound(package: Path) -> None:
    assert verify_package(package) == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_little_stands_beside_the_weights(package: Path) -> None:
    """Manifest and config as they lie there, ladder, graphs, and headers of segments, counted from the blobs."""
    index = json.loads((package / "index.json").read_bytes())
    described = index["manifests"][0]
    manifest = json.loads(blob(package, described["digest"]))
    beside, ends = [described["size"] + manifest["config"]["size"]], [0]
    ladder: dict[str, Any] = {}
    for layer in manifest["layers"]:
        data, other = blob(package, layer["digest"]), layer["size"]
        if "ladder" in layer["mediaType"]:
            ladder = json.loads(zstandard.ZstdDecompressor().decompress(data, max_output_size=2**24))
        elif ".weight.v1" in layer["mediaType"]:
            if layer["mediaType"].endswith("+zstd"):
                plain = zstandard.ZstdDecompressor().decompress(data, max_output_size=2**27)
                begin = 512  # of the only member, behind its header
                header = plain[begin : begin + 8 + int.from_bytes(plain[begin : begin + 8], "little")]
                other = len(zstandard.compress(plain[:begin] + header, 19))
            else:
                other = 8 + int.from_bytes(data[:8], "little")
        beside.append(beside[-1] + other)
        ends.append(ends[-1] + layer["size"])
    rungs = ladder["configurations"]
    assert beside[rungs[-1]["layers"]] <= 0.03 * 4 * rungs[-1]["parameters"]
    large = [rung for rung in rungs if rung["bytes"] >= 100_000]
    assert len(large) >= 5
    for rung in large:
        assert beside[rung["layers"]] < 0.1 * ends[rung["layers"]], rung["index"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_plain_onnx_runtime_gets_the_accuracy_that_the_ladder_states(package: Path, tmp_path: Path) -> None:
    ladder = lay_out(package, tmp_path)
    rungs = ladder["configurations"]
    name = rungs[0]["quality"]["dataset"]
    if not available(name):
        pytest.skip(f"{name} is not on this machine (set ACCORDION_DATA)")
    test = load(name).test
    rows = np.linspace(0, len(test.y) - 1, SAMPLES).astype(np.int64)
    x, y = test.x[rows].astype(np.float32) / 255, test.y[rows]
    for rung in (rungs[0], rungs[len(rungs) // 2], rungs[-1]):
        (logits,) = onnxruntime.InferenceSession(tmp_path / rung["graph"]).run(None, {ladder["inputs"][0]["name"]: x})
        value = rung["quality"]["value"]
        spread = 4 * (value * (1 - value) / SAMPLES) ** 0.5 + 0.01
        assert abs(float((logits.argmax(1) == y).mean()) - value) < spread
        assert rung["quality"]["samples"] == len(test.y) and rung["quality"]["split"] == "test"
