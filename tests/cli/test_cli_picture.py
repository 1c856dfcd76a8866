"""`accordion picture` with what people give it by mistake: one line, and a code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accordion.cli import main

GOLDEN = Path(__file__).parents[1] / "golden"
ZOO = Path(__file__).parents[2] / "zoo"
TIMELINE = {"events": [{"seconds": 1, "bytes": 5}], "ready": [{"configuration": 0, "seconds": 1}]}
SPOT = {"depth": 0, "planes": [1], "bytes": 1, "error": 0.5}


def said(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert main(["picture", *arguments]) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    "kind, text",
    [
        ("timeline", json.dumps(TIMELINE | {"events": [{"seconds": float("nan"), "bytes": 5}]})),
        ("timeline", json.dumps(TIMELINE | {"events": [{"seconds": 1, "bytes": float("inf")}]})),
        ("timeline", json.dumps(TIMELINE | {"deadline_s": float("inf")})),
        ("timeline", json.dumps(TIMELINE).replace("5", "5" * 400)),
        ("lattice", json.dumps({"dataset": "d", "samples": 1, "points": [SPOT], "path": []})),
        ("lattice", json.dumps({"dataset": "d", "samples": 1, "points": [], "path": [SPOT]})),
        ("lattice", json.dumps({"dataset": "d", "samples": 1, "points": [SPOT], "path": [SPOT | {"planes": [1, 1]}, SPOT]})),
    ],
)
def test_a_bad_file_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    said(capsys, 4, kind, str(tmp_path / "bad.json"), "-o", str(tmp_path / "picture"))
    assert [path.name for path in tmp_path.iterdir()] == ["bad.json"]


@pytest.mark.parametrize("out", [".", ".."])
def test_a_folder_is_no_file_to_draw_into(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    line = said(capsys, 2, "ladder", str(GOLDEN / "precision"), "-o", out)
    assert f"{out} is no name for a picture" in line
    assert not list(tmp_path.iterdir())


def test_two_data_sets_share_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packages = [str(ZOO / name) for name in ("resnet56-cifar10", "resnet110-cifar100")]
    assert "cifar10 test, cifar100 test" in said(capsys, 2, "ladder", *packages, "-o", str(tmp_path / "mix"))
    assert not list(tmp_path.iterdir())
