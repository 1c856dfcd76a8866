"""What could not be read, or is elsewhere now, is looked at again; and a moment in which a disk fails costs nothing that was served."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from accordion.artifact.layout import Layout
from accordion.endpoint.catalog import Catalog
from accordion.endpoint.package import AGAIN_S, LONGEST_AGAIN_S, Package, Snapshot
from accordion.errors import StorageError

Build = Callable[..., Any]


class Clock:
    """A clock that is put forward by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Looked:
    """A package, and how often it was read."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.reads = Clock(), 0
        self.package = Package("net", path, clock=self.clock)
        load = Package._load

        def counting(package: Package) -> None:
            self.reads += 1
            load(package)

        monkeypatch.setattr(Package, "_load", counting)

    def after(self, seconds: float) -> Snapshot | None:
        self.clock.now += seconds
        return self.package.current() or self.package.snapshot()


@pytest.fixture
def looked(package: Any, monkeypatch: pytest.MonkeyPatch) -> Looked:
    return Looked(package.path, monkeypatch)


@contextmanager
def failing(owner: Any, name: str, error: Exception) -> Iterator[None]:
    """Meanwhile, whoever calls this is failed."""

    def fails(*_: Any, **__: Any) -> Any:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, fails)
        yield


def lose_a_blob(package: Any, tag: str = "latest") -> tuple[Path, bytes]:
    others = {layer.digest for name, manifest in package.manifests.items() if name != tag for layer in manifest.layers}
    (own, *_) = [layer.digest for layer in package.manifests[tag].layers[1:] if layer.digest not in others]
    path = Layout(package.path).blob_path(own)
    data = path.read_bytes()
    path.unlink()
    return path, data


@pytest.mark.parametrize("tag", ["latest", "v2"])
def test_a_package_that_was_looked_at_while_it_was_copied_in_is_looked_at_again(package: Any, looked: Looked, tag: str) -> None:
    path, data = lose_a_blob(package, tag)
    found = looked.after(0)
    assert found is not None and found.model_tags() == [one for one in ("latest", "v2") if one != tag]
    path.write_bytes(data)
    assert looked.after(AGAIN_S / 2) is found and looked.reads == 1
    found = looked.after(AGAIN_S / 2)
    assert found is not None and sorted(found.model_tags()) == ["latest", "v2"]
    assert looked.package.problems == []
    assert looked.after(1e6) is found and looked.reads == 2


def test_one_of_which_nothing_was_there_is_looked_at_again(package: Any, looked: Looked) -> None:
    blobs = package.path / "blobs"
    blobs.rename(package.path / "on its way")
    assert looked.after(0) is None
    (package.path / "on its way").rename(blobs)
    assert looked.after(AGAIN_S / 2) is None and looked.reads == 1
    assert looked.after(AGAIN_S / 2) is not None and looked.package.problems == []


def test_the_longer_something_is_wrong_the_rarer_are_the_looks(
    package: Any, looked: Looked, caplog: pytest.LogCaptureFixture
) -> None:
    lose_a_blob(package)
    looked.after(0)
    reads, waits = looked.reads, []
    for second in range(300):
        looked.after(1)
        if looked.reads > reads:
            reads = looked.reads
            waits.append(second)
    gaps = [later - earlier for earlier, later in zip(waits, waits[1:], strict=False)]
    assert gaps == sorted(gaps) and set(gaps[3:]) == {LONGEST_AGAIN_S}
    assert gaps[0] == 2 * AGAIN_S
    assert len([line for line in caplog.messages if "not served whole" in line]) == 1
    Layout.open(package.path).add_version("new", package.manifests["v2"])
    looked.after(0)
    assert looked.reads == reads + 1
    looked.after(AGAIN_S)
    assert looked.reads == reads + 2


def test_a_publication_in_a_moment_without_descriptors_is_seen_later(package: Any, looked: Looked) -> None:
    before = looked.after(0)
    Layout.open(package.path).add_version("new", package.manifests["v2"])
    with failing(Layout, "_read", StorageError("can't read it: Too many open files")):
        assert looked.after(0) is before and looked.package.problems
    found = looked.after(AGAIN_S)
    assert found is not None and "new" in found.model_tags() and not looked.package.problems


def test_a_disk_that_fails_costs_no_version_that_is_held(package: Any, looked: Looked) -> None:
    lose_a_blob(package)
    assert looked.after(0) is not None
    with failing(Layout, "read_blob", OSError(errno.EIO, "Input/output error")):
        found = looked.after(AGAIN_S)
    assert found is not None and found.model_tags() == ["v2"] and looked.reads == 2


def test_a_version_without_a_name_is_asked_for_again_after_a_moment_in_which_the_disk_failed(package: Any, looked: Looked) -> None:
    Layout.open(package.path).remove(["v2"])
    found, digest = looked.after(0), package.manifests["v2"].digest
    assert found is not None
    with failing(Path, "read_bytes", OSError(errno.EIO, "Input/output error")), pytest.raises(StorageError, match="can't read"):
        found.version(digest)
    assert found.version(digest) is not None


def refer(package: Any, note: str) -> str:
    """Adds a manifest without a name that refers to `latest`; returns its digest."""
    layout, subject = Layout.open(package.path), package.manifest
    config, size = layout.write_blob(note.encode())
    about = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": subject.digest, "size": len(subject.raw)}
    made = {"schemaVersion": 2, "config": {"mediaType": "application/x", "digest": config, "size": size}, "layers": []}
    digest, size = layout.write_blob(json.dumps({**made, "subject": about}).encode())
    index = json.loads((package.path / "index.json").read_text())
    index["manifests"].append({**about, "digest": digest, "size": size})
    (package.path / "index.json").write_text(json.dumps(index))
    return digest


def test_what_refers_to_a_version_and_is_not_there_hides_no_other(
    package: Any, looked: Looked, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = refer(package, "first"), refer(package, "second")
    path = Layout.open(package.path).blob_path(first)
    data = path.read_bytes()
    path.unlink()
    found = looked.after(0)
    assert found is not None
    for _ in range(3):
        assert [row["digest"] for row in found.referrers(package.manifest.digest)] == [second]
    assert len([line for line in caplog.messages if first in line]) == 1
    path.write_bytes(data)
    assert [row["digest"] for row in found.referrers(package.manifest.digest)] == [first, second]


@contextmanager
def closed(folder: Path, number: int) -> Iterator[None]:
    """Meanwhile, this folder can't be looked into."""
    scandir = os.scandir

    def fails(path: Any = ".") -> Any:
        if Path(path) == folder:
            raise OSError(number, os.strerror(number), os.fspath(path))
        return scandir(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", fails)
        yield


@pytest.mark.parametrize("below", ["", "team"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_folder_that_can_not_be_looked_into_keeps_its_packages(tmp_path: Path, build: Build, below: str, number: int) -> None:
    folder = tmp_path / "all"
    for name in ("one", "team/two"):
        build(folder / name)
    catalog = Catalog([folder], rescan_s=0)
    before = catalog.current("team/two")
    with closed(folder / below, number):
        for _ in range(2):
            catalog.refresh()
            assert catalog.names() == ["one", "team/two"]
            assert catalog.current("team/two") is before
            assert os.strerror(number) in catalog.problems()[below or "all"]
    shutil.rmtree(folder / "one")
    catalog.refresh()
    assert (catalog.names(), catalog.problems()) == (["team/two"], {})


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_source_that_can_not_be_looked_at_keeps_its_packages(
    tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    build(tmp_path / "net")
    catalog = Catalog([tmp_path / "net"], rescan_s=0)
    stat = Path.stat

    def fails(path: Path, **how: Any) -> os.stat_result:
        if path.name == "oci-layout":
            raise OSError(number, os.strerror(number), os.fspath(path))
        return stat(path, **how)

    monkeypatch.setattr(Path, "stat", fails)
    catalog.refresh()
    assert catalog.names() == ["net"] and os.strerror(number) in catalog.problems()["net"]
    with pytest.raises(StorageError, match="can't look into"):
        Catalog([tmp_path / "net"])


def test_what_nobody_may_read_and_holds_nothing_is_no_problem(tmp_path: Path, build: Build) -> None:
    build(tmp_path / "net")
    (tmp_path / "lost+found").mkdir()
    with closed(tmp_path / "lost+found", errno.EACCES):
        catalog = Catalog([tmp_path], rescan_s=0)
        catalog.refresh()
    assert (catalog.names(), catalog.problems()) == (["net"], {})


def test_a_folder_that_goes_while_it_is_looked_for_is_no_problem(tmp_path: Path, build: Build) -> None:
    build(tmp_path / "one")
    build(tmp_path / "team" / "two")
    catalog = Catalog([tmp_path], rescan_s=0)
    with closed(tmp_path / "team", errno.ENOENT):
        catalog.refresh()
    assert (catalog.names(), catalog.problems()) == (["one"], {})


async def test_a_link_that_is_turned_is_followed_by_the_next_request(tmp_path: Path, build: Build) -> None:
    first = build(tmp_path / "1" / "net")
    second = build(tmp_path / "2" / "net", {"latest": [b"another"]})
    link = tmp_path / "current"
    link.symlink_to("1")
    catalog = Catalog([link], rescan_s=1000)
    before = await catalog.snapshot("net")
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").replace(link)
    after = cast(Snapshot, await catalog.snapshot("net"))
    assert after.tags["latest"].digest == second.manifest.digest
    assert before is not None and before.tags["latest"].digest == first.manifest.digest
    shutil.rmtree(tmp_path / "1")  # what is served lies in the new one, whatever both have in common
    for layer in second.manifest.layers:
        body = after.blob(layer.digest)
        assert body is not None and body.file is not None and body.file.read_bytes() == second.blob(layer.digest)


async def test_what_two_places_have_in_common_is_read_anew(tmp_path: Path, build: Build) -> None:
    for place in ("1", "2"):
        build(tmp_path / place / "net")
    link = tmp_path / "net"
    link.symlink_to("1/net")
    catalog = Catalog([link], rescan_s=1000)
    assert await catalog.snapshot("net") is not None
    link.unlink()
    link.symlink_to("2/net")
    found = cast(Snapshot, await catalog.snapshot("net"))
    shutil.rmtree(tmp_path / "1")
    (version,) = found.versions.values()
    blocks = [block async for block in version.stream.blocks(0, version.stream.size - 1)]
    assert sum(map(len, blocks)) == version.stream.size


async def test_a_package_that_moves_to_another_source_is_found_there(tmp_path: Path, build: Build) -> None:
    for folder in ("a", "b"):
        build(tmp_path / folder / f"in-{folder}")
    build(tmp_path / "a" / "net")
    catalog = Catalog([tmp_path / "a", tmp_path / "b"], rescan_s=0)
    assert await catalog.snapshot("net") is not None
    (tmp_path / "a" / "net").rename(tmp_path / "b" / "net")
    assert await catalog.snapshot("net") is not None
    shutil.rmtree(tmp_path / "b" / "net")
    assert await catalog.snapshot("net") is None
