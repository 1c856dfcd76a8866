"""Versions that are over, and blobs that nothing needs."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from accordion.artifact.atomic import held
from accordion.artifact.layout import Layout, signature_tag
from accordion.artifact.manifest import MANIFEST_MEDIA_TYPE, Descriptor
from accordion.artifact.prune import prune
from accordion.artifact.verify import verify_package
from accordion.cli import main
from accordion.errors import FormatError, StorageError, UsageError
from chain import K, add_version  # type: ignore[import-not-found]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Two versions that share two segments; a third one whose tag has moved to the second. All were signed."""
    path = tmp_path / "package"
    add_version(path, "v1", 0)
    add_version(path, "v2", 7)
    made = Layout.open(path)
    sign(made, "v2")
    add_version(path, "v2", 3, shared=2)
    for tag in ("v1", "v2"):
        sign(made, tag)
    return made


def sign(layout: Layout, tag: str) -> None:
    digest, size = layout.write_blob(f"signed: {layout.resolve(tag).digest}".encode())
    blob = {"mediaType": "application/x", "digest": digest, "size": size}
    raw = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_MEDIA_TYPE, "config": blob, "layers": [blob]}).encode()
    layout.add_manifest(signature_tag(layout.resolve(tag).digest), raw)


def blobs(layout: Layout) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (layout.path / "blobs" / "sha256").iterdir()}


def test_what_a_moved_tag_left_behind_goes(layout: Layout) -> None:
    before = blobs(layout)
    assert prune(layout, dry=True) == prune(layout, dry=True)
    assert blobs(layout) == before and len(layout.references()) == 5
    found = prune(layout)
    assert [tag.endswith(".sig") for tag in found.tags] == [True]
    after = blobs(layout)
    assert (found.blobs, found.bytes) == (len(before) - len(after), sum(before.values()) - sum(after.values()))
    assert found.blobs >= K + 3  # its segments, ladder, config, manifest, signature
    assert verify_package(layout.path) == []
    assert set(layout.tags()) == {"v1", "v2"} and len(layout.references()) == 4
    assert prune(layout).blobs == 0


def test_a_version_is_dropped_with_what_only_it_needs(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    shared = {one.digest for one in layout.manifest("v1").layers} & {one.digest for one in layout.manifest("v2").layers}
    assert main(["prune", str(layout.path), "--drop", "v1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert "v1" in said["dropped"] and len(said["dropped"]) == 3 and said["bytes_freed"] > 0
    assert shared and {digest.removeprefix("sha256:") for digest in shared} <= set(blobs(layout))
    assert verify_package(layout.path) == []
    assert list(layout.tags()) == ["v2"]
    assert main(["prune", str(layout.path), "--drop", "v2"]) == 2
    assert "delete the folder instead" in capsys.readouterr().err
    assert main(["prune", str(layout.path), "--drop", "v9"]) == 2
    assert "has no version 'v9'" in capsys.readouterr().err


def test_nothing_is_deleted_where_what_is_needed_can_not_be_told(layout: Layout) -> None:
    layout.add_manifest("list", b'{"manifests": []}')
    before = blobs(layout)
    with pytest.raises(FormatError, match="names no layers"):
        prune(layout, ["v1"])
    assert blobs(layout) == before and "v1" in layout.tags()
    with pytest.raises(UsageError):
        Layout.open(layout.path / "nowhere")


def test_what_killed_writes_have_left_goes_once_it_is_a_day_old(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    prune(layout)
    folders = (layout.path, layout.path / "blobs" / "sha256")
    for folder in folders:
        for name, hours in (("old", 25), ("young", 23)):
            (folder / f".new-{name}").write_bytes(b"x" * 1000)
            os.utime(folder / f".new-{name}", (time.time(), time.time() - hours * 3600))
    before = blobs(layout)
    assert main(["prune", str(layout.path), "--dry-run"]) == 0
    assert "2 files of writes that were killed would be deleted, 2 kB" in capsys.readouterr().out
    assert blobs(layout) == before
    assert main(["prune", str(layout.path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["unfinished"], said["blobs"], said["bytes_freed"]) == (2, 0, 2000)
    assert all({path.name for path in folder.glob(".new-*")} == {".new-young"} for folder in folders)
    assert verify_package(layout.path) == []
    assert main(["prune", str(layout.path)]) == 0
    assert "killed" not in capsys.readouterr().out


def test_what_killed_pulls_have_left_goes_and_what_a_pull_is_at_stays(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    prune(layout)
    killed, working = layout.path / ".incoming-killed", layout.path / ".incoming-working"
    for folder in (killed, working):
        folder.mkdir()
        for name in ("a", "b"):
            (folder / name).write_bytes(b"x" * 1000)
    with held(working):
        assert main(["prune", str(layout.path), "--dry-run", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert killed.is_dir()
        assert main(["prune", str(layout.path), "--json"]) == 0
        assert said == json.loads(capsys.readouterr().out) == {"dropped": [], "blobs": 0, "unfinished": 2, "bytes_freed": 2000}
        assert not killed.exists() and len(list(working.iterdir())) == 2
    prune(layout)
    assert not working.exists() and verify_package(layout.path) == []


def attest(layout: Layout, tag: str, suffix: str) -> str:
    """What belongs to a version, as other tools copy it: without an artifact type in the index."""
    digest, size = layout.write_blob(f"{suffix} of {layout.resolve(tag).digest}".encode())
    blob = {"mediaType": "application/x", "digest": digest, "size": size}
    raw = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_MEDIA_TYPE, "config": blob, "layers": [blob]}).encode()
    name = layout.resolve(tag).digest.replace(":", "-") + suffix
    layout.add_manifest(name, raw)
    return name


@pytest.mark.parametrize("suffix", [".att", ".sbom", ""])
def test_what_belongs_to_a_version_is_none(suffix: str, tmp_path: Path) -> None:
    add_version(tmp_path / "package", "latest", 0)
    layout = Layout.open(tmp_path / "package")
    before = layout.resolve("latest")
    name = attest(layout, "latest", suffix)
    assert list(layout.tags()) == ["latest"] and name in layout.references()
    assert layout.resolve() == before
    assert verify_package(layout.path) == []
    with pytest.raises(UsageError, match="left without a version"):
        prune(layout, ["latest"])
    with pytest.raises(UsageError, match="has no version"):
        prune(layout, [name])
    assert prune(layout).blobs == 0 and name in layout.references()


@pytest.mark.parametrize("suffix", [".att", ".sbom", ""])
def test_what_belongs_to_a_version_goes_with_it(suffix: str, layout: Layout) -> None:
    kept, gone = attest(layout, "v2", suffix), attest(layout, "v1", suffix)
    assert gone in prune(layout, ["v1"]).tags
    assert kept in layout.references() and gone not in layout.references()
    assert verify_package(layout.path) == []


def test_an_index_that_can_not_be_written_costs_no_blob(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index changes first: what it still names is all there."""

    def full(self: Layout, tags: Collection[str]) -> None:
        raise StorageError("the disk is full")

    before = blobs(layout)
    with monkeypatch.context() as patch:
        patch.setattr(Layout, "remove", full)
        with pytest.raises(StorageError, match="full"):
            prune(layout, ["v1"])
    assert blobs(layout) == before
    assert set(layout.tags()) == {"v1", "v2"} and verify_package(layout.path) == []


def test_a_prune_waits_for_who_is_at_work_in_the_package(layout: Layout) -> None:
    """A version that somebody writes meanwhile is in the index by the time that prune reads it."""
    old = layout.resolve("v1").digest
    found = threading.Event()

    def work() -> None:
        prune(layout)
        found.set()

    before = blobs(layout)
    other = threading.Thread(target=work)
    with held(layout.path):
        other.start()
        assert not found.wait(1.0)
        assert blobs(layout) == before
    other.join(60)
    assert found.is_set() and len(blobs(layout)) < len(before)
    assert layout.resolve("v1").digest == old


def test_a_version_whose_blobs_a_prune_takes_away_is_not_named(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a pull has brought its last blob while somebody prunes: it waits, and is told."""
    manifest = layout.manifest("v2")
    layout.remove(["v2"])
    waits = threading.Event()
    told: list[Exception] = []
    lock = held

    @contextmanager
    def telling(folder: Path) -> Iterator[bool]:
        waits.set()
        with lock(folder) as got:
            yield got

    def publish() -> None:
        try:
            layout.add_version("v2", manifest)
        except FormatError as error:
            told.append(error)

    monkeypatch.setattr("accordion.artifact.layout.held", telling)
    other = threading.Thread(target=publish)
    with monkeypatch.context() as patch:
        manifests = Layout.manifests

        def slow(self: Layout, *, without: Collection[str] = ()) -> list[Descriptor]:
            other.start()
            assert waits.wait(60)
            return manifests(self, without=without)

        patch.setattr(Layout, "manifests", slow)
        assert prune(layout).blobs
    other.join(60)
    assert [str(error).startswith(f"{layout.path} lacks the blob") for error in told] == [True]
    assert set(layout.tags()) == {"v1"} and verify_package(layout.path) == []
