"""Alternates for a version that has just been built, and fetched by their real decoder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from accordion.artifact import add_alternates, nnc
from accordion.artifact.layout import Layout
from accordion.artifact.verify import verify_package
from accordion.cli import main
from accordion.device import Observer, fetch, verify_model
from accordion.errors import AccordionError, UsageError
from accordion.packaging import alternates, package
from accordion.packaging.alternates import check_encoding, with_alternates
from chain import K, add_version  # type: ignore[import-not-found]
from serving import serving

ZOO = Path(__file__).parents[2] / "zoo" / "resnet56-cifar10-compact"
needs_nncodec = pytest.mark.skipif(importlib.util.find_spec("nncodec") is None, reason=f"nncodec is not installed: {nnc.INSTALL}")


def test_an_unknown_encoding_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="no encoding"):
        check_encoding("zip")


def test_a_missing_library_is_named_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    assert main(["package", str(tmp_path / "no-run"), "-o", str(tmp_path / "p"), "--alternate", "nnc"]) == 1
    assert nnc.INSTALL in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_a_coder_that_loses_something_makes_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_version(tmp_path / "p", "latest", 0)
    layout = Layout.open(tmp_path / "p")
    before = layout.manifest()
    monkeypatch.setattr(alternates, "check_encoding", lambda encoding: None)
    monkeypatch.setattr(nnc, "encode", lambda segment: segment[:100])
    monkeypatch.setattr(nnc, "decode", lambda content, size: bytes(size))
    with pytest.raises(AccordionError, match="does not give back"):
        with_alternates(layout, "latest", "nnc", print)
    assert layout.manifest() == before


@needs_nncodec
def test_floats_pay_for_no_alternate(tmp_path: Path) -> None:
    add_version(tmp_path / "p", "latest", 0, compress=True)
    layout = Layout.open(tmp_path / "p")
    before = layout.manifest()
    said: list[str] = []
    assert with_alternates(layout, "latest", "nnc", said.append) == before
    assert said and K > 0
    assert verify_package(tmp_path / "p") == []


@needs_nncodec
def test_the_zoo_s_compact_package_arrives_in_fewer_bytes_and_is_the_same(tmp_path: Path) -> None:
    target = Layout.create(tmp_path / "compact")
    source = Layout.open(ZOO)
    plain = source.manifest()
    for descriptor in (plain.config, *plain.layers):
        target.write_blob(source.blob_path(descriptor.digest))
    target.add_version("latest", plain)
    made = with_alternates(target, "latest", "nnc", lambda line: None)
    assert made.alternates and verify_package(tmp_path / "compact") == []
    said: list[str] = []
    with serving(tmp_path / "compact") as url:
        whole = fetch(f"{url}/compact", tmp_path / "plain")
        other = fetch(f"{url}/compact", tmp_path / "nnc", alternate="nnc", observer=Observer(say=said.append))
    assert said == []
    assert other.configuration == whole.configuration
    assert other.bytes_received < whole.bytes_received - 20_000
    names = sorted(path.name for path in (tmp_path / "plain").glob("0*"))
    assert all((tmp_path / "plain" / name).read_bytes() == (tmp_path / "nnc" / name).read_bytes() for name in names)
    assert verify_model(tmp_path / "nnc") == []


@needs_nncodec
@pytest.mark.parametrize("codec", ["float32", "int8"])
def test_a_package_with_alternates_is_the_package_and_more(
    codec: str, profiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(add_alternates, "ROW", -(10**6))  # this network is so small that no alternate pays
    plain = package(profiled, tmp_path / "plain", codec=codec)
    made = package(profiled, tmp_path / "both", codec=codec, alternate="nnc")
    assert made.layers[: len(plain.layers)] == plain.layers
    assert len(made.alternates) == sum("weight.v1" in layer.media_type for layer in plain.layers)
    assert verify_package(tmp_path / "both") == []
    there = {path.name for path in (tmp_path / "both" / "blobs" / "sha256").iterdir()}
    assert there == {
        one.removeprefix("sha256:") for one in (made.digest, made.config.digest, *(layer.digest for layer in made.layers))
    }
    again = package(profiled, tmp_path / "again", codec=codec, alternate="nnc", name="both")
    assert again.raw == made.raw
