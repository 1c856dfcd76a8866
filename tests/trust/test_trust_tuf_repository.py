"""A change of a TUF repository that fails leaves the repository as it was, for every device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from accordion.cli.app import main
from accordion.errors import StorageError, UsageError
from accordion.trust import tuf_repository
from accordion.trust.keys import PrivateKey, make_key
from accordion.trust.rules import Repository
from accordion.trust.tuf_client import TufClient
from accordion.trust.tuf_repository import ROLES, TufRepository

DIGEST = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64
Change = Callable[[TufRepository], None]
CHANGES: dict[str, tuple[Sequence[str], Change]] = {  # each with keys that reach for what is signed first, and no further
    "add": (["targets"], lambda one: one.add({"net/next": (OTHER, 10)})),
    "add without a timestamp": (["targets", "snapshot"], lambda one: one.add({"net/next": (OTHER, 10)})),
    "remove": (["targets", "snapshot"], lambda one: one.remove("net/latest")),
    "renew": (["root", "targets", "snapshot"], lambda one: one.renew(ROLES)),
    "targets": (["root", "targets"], lambda one: one.change_keys("targets", [make_key()])),
    "snapshot": (["root", "targets", "snapshot"], lambda one: one.change_keys("snapshot", [make_key()])),
    "root": (["root", "targets", "snapshot"], lambda one: one.change_keys("root", [make_key()])),
    "timestamp by a stranger": (["timestamp", "targets"], lambda one: one.change_keys("timestamp", [make_key()])),
}


@pytest.fixture
def keys() -> dict[str, list[PrivateKey]]:
    return {role: [make_key()] for role in ROLES}


@pytest.fixture
def folder(keys: dict[str, list[PrivateKey]], tmp_path: Path) -> Path:
    TufRepository.create(tmp_path / "tuf", keys, {}, {}).add({"net/latest": (DIGEST, 10)})
    return tmp_path / "tuf"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def ask(folder: Path, cache: Path, digest: str = DIGEST) -> None:
    """As a device asks that knows the first root."""
    client = TufClient(cache, Repository(folder.as_uri(), (folder / "1.root.json").read_text()))
    client.listed("net", "latest", digest, 10, 10)


@pytest.mark.parametrize("name", CHANGES)
def test_too_few_keys_change_nothing(name: str, keys: dict[str, list[PrivateKey]], folder: Path, tmp_path: Path) -> None:
    before = content(folder)
    roles, change = CHANGES[name]
    with pytest.raises(UsageError, match="are at hand"):
        change(TufRepository(folder, [key for role in roles for key in keys[role]]))
    assert content(folder) == before
    ask(folder, tmp_path / "device")
    every = TufRepository(folder, [key for some in keys.values() for key in some])
    change(every)  # and with all keys it goes on from there
    if name != "remove":
        ask(folder, tmp_path / "device")


@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("fails", ["write", "replace"])
def test_a_disk_that_fails_half_way_changes_nothing(
    fails: str, after: int, keys: dict[str, list[PrivateKey]], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, left = content(folder), after
    write, replace = tuf_repository.write_file, Path.replace

    def full() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    def write_file(path: Path, data: bytes) -> None:
        if full():
            raise StorageError(f"can't write into {path.parent}: No space left on device")
        write(path, data)

    def replacing(path: Path, target: Path) -> Path:
        if full():
            raise OSError(5, "Input/output error")
        return replace(path, target)

    every = TufRepository(folder, [key for some in keys.values() for key in some])
    with monkeypatch.context() as patched, pytest.raises(StorageError, match="can't write into"):
        if fails == "write":
            patched.setattr(tuf_repository, "write_file", write_file)
        else:
            patched.setattr(Path, "replace", replacing)
        every.change_keys("targets", [make_key()])
    assert content(folder) == before
    ask(folder, tmp_path / "device")


def test_new_keys_of_a_rotation_that_failed_are_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository, keys = tmp_path / "tuf", tmp_path / "keys"
    assert main(["tuf", "init", str(repository), "--keys", str(keys)]) == 0
    away = (keys / "timestamp-1.key").rename(tmp_path / "timestamp-1.key")
    before, there = content(repository), sorted(keys.iterdir())
    assert main(["tuf", "rotate", str(repository), "targets", "--keys", str(keys)]) == 2
    assert "timestamp needs 1 of its 1 keys; 0 are at hand" in capsys.readouterr().err
    after = content(repository)
    after.pop(".lock", None)
    assert after == before and sorted(keys.iterdir()) == there
    away.rename(keys / "timestamp-1.key")
    assert main(["tuf", "rotate", str(repository), "targets", "--keys", str(keys)]) == 0
    assert (keys / "targets-2.key").exists() and not (keys / "targets-3.key").exists()
