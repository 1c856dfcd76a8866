from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accordion.errors import FormatError, StorageError
from accordion.pictures import draw_lattice, read_lattice


def _spot(depth: int, planes: list[int], size: int, error: float) -> dict[str, Any]:
    return {"depth": depth, "planes": planes, "bytes": size, "error": error}


def _data() -> dict[str, Any]:
    path = [_spot(0, [1, 0], 1000, 0.5), _spot(1, [1, 1], 2000, 0.3), _spot(1, [2, 2], 4000, 0.2)]
    return {"dataset": "digits", "samples": 1234, "points": [*path, _spot(0, [2, 0], 2000, 0.4)], "path": path}


def _file(folder: Path, data: dict[str, Any]) -> Path:
    file = folder / "lattice.json"
    file.write_text(json.dumps(data))
    return file


def test_the_picture_says_what_it_shows(tmp_path: Path) -> None:
    png, svg = draw_lattice(read_lattice(_file(tmp_path, _data())), tmp_path / "lattice.svg")
    assert png.read_bytes().startswith(b"\x89PNG\r\n")
    text = svg.read_text()
    for said in (
        "1,234 digits validation pictures",
        "bytes of encoded weights (kB)",
        "error (%)",
        "1 plane",
        "2 planes",
        "path",
        "stage 2",
    ):
        assert said in text


def test_a_network_without_a_block_is_a_point_too(tmp_path: Path) -> None:
    only = [_spot(0, [0, 0], 1000, 0.5)]
    _, svg = draw_lattice(read_lattice(_file(tmp_path, _data() | {"path": only, "points": only})), tmp_path / "lattice")
    assert "no planes" in svg.read_text()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"path": None}, "holds no path yet"),
        ({"path": []}, "holds no path yet"),
        ({"points": []}, "holds no points yet"),
        ({"path": [_spot(0, [1, 1], 1, 0.5), _spot(1, [1], 2, 0.4)]}, "some have planes for more stages than others"),
        ({"points": [_spot(0, [1], 1, 0.5)]}, "some have planes for more stages than others"),
        ({"points": [_spot(0, [], 1, 0.5)]}, r"points: the planes \[\] are not"),
        ({"points": [_spot(0, [65, 1], 1, 0.5)]}, "not a number from 0 to 64 for each stage"),
        ({"points": [_spot(0, [1, 1], 1, 1.5)]}, "is no fraction"),
        ({"samples": 0}, "'samples' holds 0"),
    ],
)
def test_what_is_no_lattice_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = _file(tmp_path, _data() | change)
    with pytest.raises(FormatError, match=rf"lattice\.json.*{message}"):
        read_lattice(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"can't read .*nothing\.json"):
        read_lattice(tmp_path / "nothing.json")
