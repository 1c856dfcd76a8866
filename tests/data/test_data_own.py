"""Pictures of one's own, in one file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accordion.artifact.layout import Layout
from accordion.cli import main
from accordion.data import available, load, name_of, pinned
from accordion.errors import DigestError, FormatError, UsageError
from accordion.training.runs import check_same_settings


def arrays(**changes: Any) -> dict[str, Any]:
    """scikit-learn's digits as somebody's own file."""
    digits = load("digits")
    made = {
        "train_x": digits.train.x.transpose(0, 2, 3, 1),
        "train_y": digits.train.y.astype(np.uint8),
        "test_x": digits.test.x[:, 0],
        "test_y": digits.test.y,
        "classes": np.array([f"figure {n}" for n in range(10)]),
        "mirror": np.array(False),
    }
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    np.savez(tmp_path / "mine.npz", **arrays())
    return tmp_path / "mine.npz"


def test_the_file_becomes_a_data_set(mine: Path) -> None:
    found, digits = load(str(mine)), load("digits")
    assert available(str(mine))
    assert (found.name, found.classes[3], found.mirror) == ("mine", "figure 3", False)
    for split in ("train", "test"):
        assert np.array_equal(getattr(found, split).x, getattr(digits, split).x)
        assert np.array_equal(getattr(found, split).y, getattr(digits, split).y)
    assert found.mean == digits.mean and found.std == digits.std


def test_what_may_be_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "plain.npz", **arrays(classes=None, mirror=None))
    found = load(str(tmp_path / "plain.npz"))
    assert found.classes == tuple("0123456789") and found.mirror


def test_a_pinned_file_is_found_where_it_went_and_no_other_is_taken(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = pinned(str(mine))
    assert name.startswith(f"{mine}@") and pinned(name) == name and name_of(name) == "mine"
    assert load(name).name == "mine"
    (tmp_path / "elsewhere").mkdir()
    moved = mine.rename(tmp_path / "elsewhere" / mine.name)
    with pytest.raises(UsageError, match="there is no file"):
        load(name)
    monkeypatch.setenv("ACCORDION_DATA", str(moved.parent))
    assert load(name).name == "mine"
    np.savez(moved, **arrays(mirror=None))
    with pytest.raises(DigestError, match="not what was trained on"):
        load(name)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"test_y": None}, "has no array 'test_y'"),
        ({"train_x": np.zeros((3, 8, 8), np.float32), "train_y": np.zeros(3, int)}, "train_x is float32"),
        ({"train_x": np.zeros((3, 8, 12), np.uint8), "train_y": np.zeros(3, int)}, r"train_x is uint8 \[3, 8, 12\]"),
        ({"train_x": np.zeros((3, 10, 10), np.uint8), "train_y": np.zeros(3, int)}, "that 4 divides"),
        ({"train_x": np.zeros((0, 8, 8), np.uint8), "train_y": np.zeros(0, int)}, "train_x is uint8"),
        ({"train_x": np.zeros((3, 16, 16), np.uint8), "train_y": np.zeros(3, int)}, "another size"),
        ({"train_y": np.zeros(3, int)}, "not one whole number"),
        ({"test_y": -np.ones(359, int)}, "test_y has the label -1; labels are from 0 up"),
        ({"test_y": np.full(359, 10_000)}, "test_y has the label 10000"),
        ({"test_y": np.zeros(359)}, "not one whole number"),
        ({"classes": np.array(["a", "b"])}, "not 10 texts or more"),
        ({"classes": np.arange(10)}, "not 10 texts or more"),
        ({"train_x": np.array([{}], dtype=object)}, "plain arrays"),
        ({"mirror": np.array("False")}, "mirror is <U5"),
        ({"mirror": np.array([0, 0])}, "mirror is int64"),
    ],
)
def test_what_is_no_data_set(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    np.savez(tmp_path / "mine.npz", **arrays(**changes))
    with pytest.raises(FormatError, match=problem):
        load(str(tmp_path / "mine.npz"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04\x95pickle", b"\x93NUMPY"])
def test_a_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(FormatError, match="plain arrays"):
        load(str(tmp_path / "mine.npz"))


@pytest.mark.parametrize("content", [b"no array", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4', '", b"\x93NUMPY\x01\x00\x04\x00{[('"])
def test_a_member_of_another_kind(tmp_path: Path, content: bytes) -> None:
    np.savez(tmp_path / "mine.npz", **arrays(test_y=None))
    with zipfile.ZipFile(tmp_path / "mine.npz", "a") as archive:
        archive.writestr("test_y.npy", content)
    with pytest.raises(FormatError, match=r"plain arrays|is no array"):
        load(str(tmp_path / "mine.npz"))


def test_a_file_that_is_called_like_a_published_set(tmp_path: Path) -> None:
    np.savez(tmp_path / "cifar10.npz", **arrays())
    with pytest.raises(UsageError, match="another name"):
        pinned(str(tmp_path / "cifar10.npz"))


def test_a_training_goes_on_where_the_pictures_went(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = pinned(str(mine))
    (tmp_path / "elsewhere").mkdir()
    moved = mine.rename(tmp_path / "elsewhere" / mine.name)
    check_same_settings(tmp_path, {"dataset": name}, {"dataset": pinned(str(moved))})
    monkeypatch.setenv("ACCORDION_DATA", str(moved.parent))
    assert pinned(str(mine)) == pinned(str(moved)) == pinned(name)
    np.savez(moved, **arrays(mirror=None))
    with pytest.raises(UsageError, match="other settings"):
        check_same_settings(tmp_path, {"dataset": name}, {"dataset": pinned(str(moved))})


def test_every_command_knows_ones_own_pictures(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, package, again = tmp_path / "run", tmp_path / "package", tmp_path / "again"
    train = ["train", "--dataset", str(mine), "--network", "resnet8", "--width", "4", "--epochs", "1", "-o", str(run)]
    assert main([*train, "--accelerator", "cpu"]) == 0
    assert main(["profile", str(run)]) == 0
    assert main(["package", str(run), "-o", str(package)]) == 0
    layout = Layout.open(package)
    ladder = layout.ladder(layout.manifest())
    assert ladder.configurations[0].quality.dataset == "mine"
    assert ladder.outputs[0].labels == tuple(f"figure {n}" for n in range(10))
    assert main(["restore", str(package), "-o", str(again)]) == 2
    assert main(["restore", str(package), "-o", str(again), "--dataset", str(mine)]) == 0
    assert name_of(json.loads((again / "run.json").read_bytes())["config"]["dataset"]) == "mine"
    np.savez(mine, **arrays(mirror=None))
    capsys.readouterr()
    assert main(["profile", str(run)]) == 4
    assert "not what was trained on" in capsys.readouterr().err
