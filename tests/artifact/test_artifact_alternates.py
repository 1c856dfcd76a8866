"""What a manifest may say of alternates."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from accordion.artifact.add_alternates import add_alternates
from accordion.artifact.alternates import ALTERNATE, DIGEST, OF, SIZE, is_alternate
from accordion.artifact.digest import sha256_digest
from accordion.artifact.ladder import decode_ladder
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import Manifest
from accordion.artifact.verify import verify_package
from accordion.errors import FormatError
from chain import K, add_version  # type: ignore[import-not-found]
from stand_in import ENCODING, StandIn  # type: ignore[import-not-found]

PATH = "org.cncf.model.filepath"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`raw` and `packed`, each with alternates."""
    folder, known = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("known")
    for name, compress in (("raw", False), ("packed", True)):
        add_version(folder / name, "latest", 0, compress=compress)
        add_alternates(Layout.open(folder / name), "latest", ENCODING, StandIn(known).encode)
    return folder


def document(packages: Path, name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(Layout.open(packages / name).manifest().raw)
    return value


def parse(value: dict[str, Any]) -> Manifest:
    return Manifest.parse(json.dumps(value).encode())


def alternates_of(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [layer for layer in value["layers"] if is_alternate(layer["mediaType"])]


@pytest.mark.parametrize("name", ["raw", "packed"])
def test_an_alternate_names_the_file_that_it_becomes(packages: Path, name: str) -> None:
    manifest = parse(document(packages, name))
    assert [one.path for one in manifest.alternates.values()] == [f"{k:03}.safetensors" for k in range(K)]
    for one in manifest.alternates.values():
        (plain,) = [layer for layer in manifest.layers if layer.digest == one.of]
        assert (one.encoding, one.digest == plain.digest, one.size == plain.size) == (ENCODING, name == "raw", name == "raw")


@pytest.mark.parametrize(
    "name, notes, message",
    [
        ("raw", {OF: None}, "not a digest"),
        ("raw", {OF: sha256_digest(b"nothing")}, "no layer of weights"),
        ("raw", {PATH: "other.safetensors"}, "a file of its own"),
        ("raw", {DIGEST: sha256_digest(b"other")}, "a file of its own"),
        ("raw", {SIZE: "1"}, "a file of its own"),
        ("packed", {PATH: "../outside"}, "path"),
        ("packed", {PATH: None}, "path"),
        ("packed", {DIGEST: "sha256:short"}, "not a digest"),
        ("packed", {SIZE: None}, "file size"),
        ("packed", {SIZE: "-1"}, "file size"),
        ("packed", {SIZE: "1e3"}, "file size"),
        ("packed", {SIZE: "99999999999"}, "file size"),
        ("packed", {SIZE: "9" * 5000}, "file size"),
    ],
)
def test_what_an_alternate_can_not_say_of_itself(packages: Path, name: str, notes: dict[str, str | None], message: str) -> None:
    value = document(packages, name)
    layer = alternates_of(value)[0]
    layer["annotations"] = {key: note for key, note in {**layer["annotations"], **notes}.items() if note is not None}
    with pytest.raises(FormatError, match=message):
        parse(value)


def test_a_layer_has_one_alternate_of_an_encoding(packages: Path) -> None:
    value = document(packages, "raw")
    value["layers"].append(alternates_of(value)[0])
    with pytest.raises(FormatError, match="second"):
        parse(value)


def test_it_stands_after_the_layer_that_it_stands_for(packages: Path) -> None:
    value = document(packages, "raw")
    layer = alternates_of(value)[0]
    value["layers"].remove(layer)
    value["layers"].insert(1, layer)
    with pytest.raises(FormatError, match="no layer of weights before it"):
        parse(value)


def test_no_configuration_needs_one(packages: Path) -> None:
    """Else a device that can't read it could not run, and one that does not know it would unpack it as an archive."""
    value = document(packages, "raw")
    manifest = Layout.open(packages / "raw").manifest()
    ladder = decode_ladder(manifest.layers[0], Layout.open(packages / "raw").read_blob(manifest.layers[0], limit=10**6))
    last = ladder.configurations[-1].layers
    value["layers"].insert(last - 1, value["layers"].pop(last))
    moved = parse(value)
    rungs = tuple(replace(one, bytes=moved.offsets[one.layers]) for one in ladder.configurations)
    with pytest.raises(FormatError, match="alternate"):
        replace(ladder, configurations=rungs).check_against(moved)


def test_an_encoding_that_nobody_knows_is_no_fault(packages: Path) -> None:
    value = document(packages, "raw")
    for layer in alternates_of(value):
        layer["mediaType"] = ALTERNATE + "of-tomorrow"
    assert {one.encoding for one in parse(value).alternates.values()} == {"of-tomorrow"}


def test_a_media_type_without_an_encoding_is_unknown(packages: Path) -> None:
    value = document(packages, "raw")
    alternates_of(value)[0]["mediaType"] = ALTERNATE
    with pytest.raises(FormatError, match="unknown media type"):
        parse(value)


def test_verify_holds_the_promised_file_against_the_plain_layer(tmp_path: Path) -> None:
    """Nothing has to be decoded for that: what an alternate becomes is stated, and what it stands for is there."""
    add_version(tmp_path / "p", "latest", 0, compress=True)
    layout = Layout.open(tmp_path / "p")
    (tmp_path / "known").mkdir()
    add_alternates(layout, "latest", ENCODING, StandIn(tmp_path / "known").encode)
    assert verify_package(tmp_path / "p") == []
    value = json.loads(layout.manifest().raw)
    alternates_of(value)[2]["annotations"][DIGEST] = sha256_digest(b"something else")
    layout.add_version("latest", parse(value))
    assert [line for line in verify_package(tmp_path / "p") if "not the file which it says" in line]


def test_verify_holds_the_promised_size_against_the_plain_layer(tmp_path: Path) -> None:
    """A device makes room for so many bytes and refuses what becomes more or less of them, though the digest is right."""
    add_version(tmp_path / "p", "latest", 0, compress=True)
    layout = Layout.open(tmp_path / "p")
    (tmp_path / "known").mkdir()
    add_alternates(layout, "latest", ENCODING, StandIn(tmp_path / "known").encode)
    good = layout.manifest()
    index, one = list(good.alternates.items())[2]
    for size in (one.size - 1, one.size + 1):
        value = json.loads(good.raw)
        value["layers"][index]["annotations"][SIZE] = str(size)
        layout.add_version("latest", parse(value))
        (problem,) = verify_package(tmp_path / "p")
        assert f"layer {index}: the layer that it stands for is not the file which it says" in problem


def test_what_saves_less_than_its_row_in_the_manifest_is_left_out(tmp_path: Path) -> None:
    add_version(tmp_path / "p", "latest", 0)
    layout = Layout.open(tmp_path / "p")
    before = layout.manifest()
    assert add_alternates(layout, "latest", ENCODING, lambda segment: segment[:-300]) == before
    made = add_alternates(layout, "latest", ENCODING, lambda segment: segment[:-301])
    assert len(made.alternates) == K
    assert made.layers[: len(before.layers)] == before.layers
    with pytest.raises(FormatError, match="already"):
        add_alternates(layout, "latest", ENCODING, lambda segment: segment[:-301])
    assert verify_package(tmp_path / "p") == []
