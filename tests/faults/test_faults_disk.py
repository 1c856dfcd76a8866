"""Disks that are full, or can't be written to."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kills import Scene  # type: ignore[import-not-found]
from scene import LAST, answers, run  # type: ignore[import-not-found]

from accordion.device import Model, fetch, shed, verify_model


@contextmanager
def disk(place: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of this size at `place`. The test is skipped where none can be made."""
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def read_only(place: Path) -> None:
    """From now on nothing can be written there, not even by root."""
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)


@pytest.mark.parametrize("kilobytes", [8, 60, 132, 200])
def test_a_disk_that_becomes_full_while_a_fetch_runs(scene: Scene, tmp_path: Path, kilobytes: int) -> None:
    with disk(tmp_path / "disk", kilobytes) as place:
        code, _, said = run("fetch", f"{scene.endpoint.url}:latest", "-o", place / "m")
        assert code == 1 and "No space left on device" in said
        held = answers(place / "m", scene.package)
        if kilobytes >= 132:
            assert held is not None  # what was complete by then runs
        subprocess.run(["mount", "-o", "remount,size=2m", str(place)], check=True)  # somebody makes room
        assert fetch(f"{scene.endpoint.url}:latest", place / "m").configuration == LAST
        assert answers(place / "m", scene.package) == ("latest", LAST)


def test_a_disk_that_becomes_full_while_another_version_comes(scene: Scene, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", 380) as place:
        shutil.copytree(scene.whole, place / "m")
        code, _, said = run("upgrade", place / "m", "--reference", "v2")
        assert code == 1 and "No space left on device" in said
        assert answers(place / "m", scene.package) == ("latest", LAST)
        shed(place / "m", 1)  # gives back room, the new version's part too
        assert answers(place / "m", scene.package) == ("latest", 1)


def test_a_folder_that_can_only_be_read_answers_and_says_why_it_does_not_grow(scene: Scene, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", 2000) as place:
        shutil.copytree(scene.little, place / "m")
        before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
        read_only(place)
        with Model.open(place / "m") as model:
            assert model.configuration == 1
        assert answers(place / "m", scene.package) == ("latest", 1)
        assert verify_model(place / "m") == []
        for command in (
            ["upgrade", place / "m"],
            ["fetch", scene.endpoint.url, "-o", place / "m"],
            ["shed", place / "m", "--to", 0],
        ):
            code, _, said = run(*command)
            assert code == 1 and "Read-only file system" in said
        assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_a_place_that_can_only_be_read(scene: Scene, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", 100) as place:
        read_only(place)
        code, _, said = run("fetch", scene.endpoint.url, "-o", place / "m")
        assert code == 1 and "Read-only file system" in said
