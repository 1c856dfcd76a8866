from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from accordion.artifact.layout import Layout
from accordion.endpoint.catalog import Catalog
from accordion.endpoint.package import Package, Snapshot
from accordion.errors import FormatError, UsageError

Build = Callable[..., Any]
Connect = Callable[..., httpx.AsyncClient]


def test_names(tmp_path: Path, build: Build) -> None:
    build(tmp_path / "all" / "one")
    build(tmp_path / "all" / "deep" / "er" / "two")
    build(tmp_path / "all" / ".hidden" / "three")
    build(tmp_path / "four")
    assert Catalog([tmp_path / "all", tmp_path / "four"]).names() == ["deep/er/two", "four", "one"]
    assert Catalog([tmp_path / "four" / "." / ".." / "four"]).names() == ["four"]


def test_the_current_directory(tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "net")
    monkeypatch.chdir(tmp_path / "net")
    assert Catalog([Path()]).names() == ["net"]


def test_a_link_is_served_under_its_own_name(tmp_path: Path, build: Build) -> None:
    build(tmp_path / "net-2026-11-28")
    (tmp_path / "net").symlink_to(tmp_path / "net-2026-11-28")
    assert Catalog([tmp_path / "net"]).names() == ["net"]


def test_equal_names_are_wrong_usage(tmp_path: Path, build: Build) -> None:
    build(tmp_path / "a" / "net")
    build(tmp_path / "b" / "net")
    with pytest.raises(UsageError, match=r"two packages have the name 'net'"):
        Catalog([tmp_path / "a" / "net", tmp_path / "b" / "net"])
    with pytest.raises(UsageError, match=r"two packages"):
        Catalog([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(UsageError, match=r"two packages"):
        Catalog([tmp_path / "a", tmp_path / "a"])
    assert Catalog([tmp_path]).names() == ["a/net", "b/net"]


def test_wrong_directories(tmp_path: Path, build: Build) -> None:
    with pytest.raises(UsageError, match=r"there is no directory"):
        Catalog([tmp_path / "none"])
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "index.json").write_text("{}")
    with pytest.raises(UsageError, match=r"holds no package: beside its index.json"):
        Catalog([tmp_path / "torn"])
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=r"there is no directory"):
        Catalog([tmp_path / "file"])
    with pytest.raises(UsageError, match=r"at least one"):
        Catalog([])
    build(tmp_path / "a b")
    with pytest.raises(UsageError, match=r"own name 'a b'"):
        Catalog([tmp_path / "a b"])


async def test_a_folder_waits_for_its_first_package(
    tmp_path: Path, build: Build, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    build(tmp_path / "aside")
    folder = tmp_path / "all"
    (folder / "lost+found").mkdir(parents=True)
    async with connect(folder, rescan_s=0) as client:
        assert f"{folder} holds no package yet" in caplog.text
        health = await client.get("/healthz")
        assert (health.status_code, health.json()["status"]) == (503, "empty")
        assert (await client.get("/v2/_catalog")).json() == {"repositories": []}
        assert (await client.get("/v2/net/manifests/latest")).status_code == 404
        assert (await client.post("/v2/net/_accordion/plan", json={})).status_code == 404
        (tmp_path / "aside").rename(folder / "net")
        assert (await client.get("/v2/net/manifests/latest")).status_code == 200
        assert (await client.post("/v2/net/_accordion/plan", json={})).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


def test_one_folder_of_several_may_be_empty(tmp_path: Path, build: Build, caplog: pytest.LogCaptureFixture) -> None:
    build(tmp_path / "net")
    (tmp_path / "later").mkdir()
    assert Catalog([tmp_path / "net", tmp_path / "later"]).names() == ["net"]
    assert [line for line in caplog.messages if "no package yet" in line] == [
        f"{tmp_path / 'later'} holds no package yet (files oci-layout and index.json): waiting for its first"
    ]


async def test_a_folder_waits_for_what_is_still_being_copied_into_it(
    tmp_path: Path, build: Build, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    net = build(tmp_path / "all" / "net").path
    build(tmp_path / "all" / "a b")
    index = (net / "index.json").read_bytes()
    spoil_index(net)
    async with connect(tmp_path / "all", rescan_s=0) as client:
        assert "holds no package yet" not in caplog.text
        assert "net: " in caplog.text and "'a b': its folder's name can't be the name of a package" in caplog.text
        health = await client.get("/healthz")
        assert (health.status_code, len(health.json()["problems"])) == (503, 2)
        (net / "index.json").write_bytes(index)
        assert (await client.get("/v2/net/manifests/latest")).status_code == 200


def spoil_index(path: Path) -> None:
    (path / "index.json").write_text("{")


def drop_index(path: Path) -> None:
    (path / "index.json").unlink()


def cut_a_layer(path: Path) -> None:
    layer = Layout.open(path).manifest("latest").layers[2]
    Layout(path).blob_path(layer.digest).write_bytes(b"short")


def drop_a_layer(path: Path) -> None:
    Layout(path).blob_path(Layout.open(path).manifest("latest").layers[2].digest).unlink()


def link_a_layer(path: Path) -> None:
    blob = Layout(path).blob_path(Layout.open(path).manifest("latest").layers[2].digest)
    blob.rename(path / "elsewhere")
    blob.symlink_to(path / "elsewhere")


def flip_the_ladder(path: Path) -> None:
    blob = Layout(path).blob_path(Layout.open(path).manifest("latest").layers[0].digest)
    data = bytearray(blob.read_bytes())
    data[100] ^= 1
    blob.write_bytes(data)


def flip_the_manifest(path: Path) -> None:
    blob = Layout(path).blob_path(Layout.open(path).tags()["latest"].digest)
    blob.write_bytes(blob.read_bytes().replace(b"schemaVersion", b"schemaversion"))


def empty_it(path: Path) -> None:
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": []}))


def make_it_foreign(path: Path) -> None:
    (path / "oci-layout").write_text("{}")


SPOILERS = [
    spoil_index,
    drop_index,
    cut_a_layer,
    drop_a_layer,
    link_a_layer,
    flip_the_ladder,
    flip_the_manifest,
    empty_it,
    make_it_foreign,
]


@pytest.mark.parametrize("spoil", SPOILERS)
async def test_a_broken_package_leaves_the_others_alone(
    tmp_path: Path, build: Build, connect: Connect, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    build(tmp_path / "all" / "good")
    spoil(build(tmp_path / "all" / "bad").path)
    async with connect(tmp_path / "all") as client:
        assert (await client.get("/v2/_catalog")).json() == {"repositories": ["good"]}
        assert (await client.get("/v2/good/manifests/latest")).status_code == 200
        assert (await client.get("/v2/bad/manifests/latest")).status_code == 404
        assert (await client.post("/v2/bad/_accordion/plan")).status_code == 404
        health = (await client.get("/healthz")).json()
        assert (health["status"], health["packages"]) == ("ok", 1)
        (listed,) = health["problems"]
        assert listed["name"] == "bad"
        assert str(tmp_path) not in listed["problem"]
        assert "accordion_package_problems 1.0" in (await client.get("/metrics")).text
    assert "bad" in caplog.text


@pytest.mark.parametrize("spoil", SPOILERS)
def test_nothing_but_broken_packages(tmp_path: Path, build: Build, spoil: Callable[[Path], None]) -> None:
    spoil(build(tmp_path / "net").path)
    with pytest.raises(FormatError, match=r"^nothing can be served: net: "):
        Catalog([tmp_path / "net"])


async def test_a_broken_version_leaves_the_others_alone(tmp_path: Path, package: Any, connect: Connect) -> None:
    own = [layer for layer in package.manifests["v2"].layers if layer not in package.manifests["latest"].layers]
    Layout(package.path).blob_path(own[-1].digest).unlink()
    async with connect(tmp_path / "packages") as client:
        assert (await client.get("/v2/team/net/tags/list")).json()["tags"] == ["latest"]
        assert (await client.get("/v2/team/net/manifests/v2")).status_code == 404
        (listed,) = (await client.get("/healthz")).json()["problems"]
        assert listed["problem"].startswith("v2: the blob sha256:")


async def test_a_new_tag_is_seen_at_once(client: httpx.AsyncClient, package: Any) -> None:
    assert (await client.get("/v2/team/net/manifests/new")).status_code == 404
    Layout.open(package.path).add_version("new", package.manifests["v2"])
    assert (await client.get("/v2/team/net/manifests/new")).content == package.manifests["v2"].raw


async def test_a_blob_that_changed_its_size_is_not_sent_under_its_name(client: httpx.AsyncClient, package: Any) -> None:
    layer = package.manifests["v2"].layers[-1]
    path = Layout.open(package.path).blob_path(layer.digest)
    whole = path.read_bytes()
    assert (await client.get(f"/v2/team/net/blobs/{layer.digest}")).content == whole
    path.write_bytes(whole + b"more")
    answer = await client.get(f"/v2/team/net/blobs/{layer.digest}")
    assert answer.status_code == 503
    assert "immutable" not in answer.headers.get("cache-control", "")
    path.write_bytes(whole)
    assert (await client.get(f"/v2/team/net/blobs/{layer.digest}")).content == whole


async def test_an_index_that_breaks_leaves_what_was_served(client: httpx.AsyncClient, package: Any) -> None:
    assert (await client.get("/v2/team/net/manifests/latest")).status_code == 200
    whole = (package.path / "index.json").read_bytes()
    spoil_index(package.path)
    assert (await client.get("/v2/team/net/manifests/latest")).status_code == 200
    assert (await client.get("/healthz")).json()["problems"]
    (package.path / "index.json").write_bytes(whole)
    assert (await client.get("/v2/team/net/manifests/latest")).status_code == 200
    assert not (await client.get("/healthz")).json()["problems"]


async def test_packages_come_and_go(tmp_path: Path, build: Build, connect: Connect) -> None:
    first = build(tmp_path / "all" / "first")
    async with connect(tmp_path / "all", rescan_s=0) as client:
        assert (await client.get("/v2/second/manifests/latest")).status_code == 404
        build(tmp_path / "all" / "second")
        assert (await client.get("/v2/second/manifests/latest")).status_code == 200
        shutil.rmtree(first.path)
        assert (await client.get("/v2/first/manifests/latest")).status_code == 404
        assert (await client.get("/v2/_catalog")).json() == {"repositories": ["second"]}
        shutil.rmtree(tmp_path / "all" / "second")
        health = await client.get("/healthz")
        assert (health.status_code, health.json()["status"]) == (503, "empty")


async def test_a_list_is_not_made_anew_for_every_request(tmp_path: Path, build: Build, connect: Connect) -> None:
    build(tmp_path / "all" / "first")
    async with connect(tmp_path / "all", rescan_s=1000) as client:
        build(tmp_path / "all" / "second")
        assert (await client.get("/v2/second/manifests/latest")).status_code == 404


class Counted:
    """How often packages are looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks = 0
        snapshot = Package.snapshot

        def counting(package: Package) -> Snapshot | None:
            self.looks += 1
            return snapshot(package)

        monkeypatch.setattr(Package, "snapshot", counting)

    def since(self) -> int:
        looks, self.looks = self.looks, 0
        return looks


async def test_how_many_packages_there_are_costs_those_of_one_nothing(
    tmp_path: Path, build: Build, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan, a manifest and a reload look at their own package; unknown names, lists and health at all, but not every time."""
    built = [build(tmp_path / "all" / f"net-{k}") for k in range(20)]
    counted = Counted(monkeypatch)
    async with connect(tmp_path / "all", rescan_s=1000) as client:
        assert counted.since() <= 2 * len(built)
        assert (await client.post("/v2/net-3/_accordion/plan")).status_code == 200
        assert (await client.get("/v2/net-3/manifests/latest")).status_code == 200
        assert counted.since() == 0
        Layout.open(built[3].path).add_version("new", built[3].manifest)
        assert (await client.get("/v2/net-3/manifests/new")).status_code == 200
        assert counted.since() == 1
        for path in ("/v2/unknown/manifests/latest", "/v2/_catalog", "/v2/_catalog?n=2", "/healthz", "/metrics"):
            for _ in range(10):
                await client.get(path)
        assert counted.since() == 0


def test_a_look_at_what_is_wrong_ends_with_the_first_package(tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(20):
        build(tmp_path / f"net-{k:02}")
    spoil_index(tmp_path / "net-00")
    counted = Counted(monkeypatch)
    Catalog([tmp_path], whole=False)
    assert counted.since() == 2


def test_versions_are_read_once(package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Package("net", package.path)
    before = served.snapshot()
    assert before is not None
    Layout.open(package.path).add_version("new", package.manifest)
    assert served.current() is None
    after = served.snapshot()
    assert after is not None
    assert after is not before
    assert after.versions[package.manifest.digest] is before.versions[package.manifest.digest]
    assert served.snapshot() is after
