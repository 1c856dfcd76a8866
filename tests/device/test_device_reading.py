"""How much of a model folder is read for a small step: what is there is large, and reading it is all that the step costs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from accordion.artifact.digest import file_digest
from accordion.device import Request, fetch, store, upgrade
from chain import K  # type: ignore[import-not-found]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was read for its digest."""
    found: Counter[str] = Counter()

    def counting(path: Path) -> str:
        found[path.name] += 1
        return file_digest(path)

    monkeypatch.setattr(store, "file_digest", counting)
    return found


def test_an_upgrade_reads_what_is_there_once(endpoint: str, tmp_path: Path, read: Counter[str]) -> None:
    fetch(endpoint, tmp_path / "m", Request(max_bytes=60_000))
    upgrade(tmp_path / "m", to=K - 2)
    held = {path.name for path in (tmp_path / "m").rglob("*.safetensors")}
    read.clear()
    upgrade(tmp_path / "m", to=K - 1)
    assert len(held) == K - 1
    assert {name: read[name] for name in held} == dict.fromkeys(held, 1)


def test_a_fetch_reads_nothing_that_it_has_just_verified(endpoint: str, tmp_path: Path, read: Counter[str]) -> None:
    fetch(endpoint, tmp_path / "m")
    assert not [name for name in read if name.endswith(".safetensors")]


def test_what_is_broken_is_still_found_before_an_upgrade(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m", Request(max_bytes=60_000))
    held = sorted((tmp_path / "m").rglob("*.safetensors"))[0]
    whole = held.read_bytes()
    held.write_bytes(bytes(len(whole)))
    upgrade(tmp_path / "m")
    assert held.read_bytes() == whole
