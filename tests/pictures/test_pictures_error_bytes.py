from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accordion.artifact.ladder import Ladder
from accordion.errors import StorageError, UsageError
from accordion.pictures import draw_error_against_bytes, error_bytes


def _ladder(accuracies: list[float], size: int = 1_000_000, **quality: Any) -> Ladder:
    spec = {"name": "input", "dtype": "float32", "shape": ["n", 3], "layout": "NC", "range": [0, 1], "labels": None}
    rows = [
        {
            "index": k,
            "blocks": {"total": k + 1, "by_stage": [k + 1]},
            "precision": "float32",
            "layers": k + 1,
            "graph": f"{k:03d}.onnx",
            "bytes": size * (k + 1) // len(accuracies),
            "parameters": 1,
            "macs": 1,
            "macs_per": "input",
            "weights_bytes": 987_000,
            "quality": {
                "metric": "accuracy",
                "direction": "higher",
                "unit": "fraction",
                "value": accuracy,
                "interval": [accuracy - 0.05, accuracy + 0.04],
                "confidence": 0.95,
                "interval_method": "Clopper-Pearson",
                "samples": 1000,
                "dataset": "digits",
                "split": "test",
            }
            | quality,
        }
        for k, accuracy in enumerate(accuracies)
    ]
    fields = {"schema_version": 1, "task": "t", "order": "o", "inputs": [spec], "outputs": [spec], "configurations": rows}
    return Ladder.parse(json.dumps(fields).encode())


def test_the_picture_says_what_it_shows(tmp_path: Path) -> None:
    ladders = {"right-to-left": _ladder([0.5, 0.7]), "blockwise": _ladder([0.6, 0.65])}
    png, svg = draw_error_against_bytes(ladders, tmp_path / "new" / "error.png", title="On digits")
    assert png.read_bytes().startswith(b"\x89PNG\r\n")
    text = svg.read_text()
    for said in (
        "On digits",
        "bytes received (MB)",
        "error (%)",
        "share of the complete package (%)",
        "plain float32 weights (0.99 MB)",
        "digits test, 1,000 samples, 95 % Clopper-Pearson",
        *ladders,
    ):
        assert said in text
    assert (png.name, svg.name) == ("error.png", "error.svg")


def test_packages_of_different_sizes_share_no_scale_of_percent(tmp_path: Path) -> None:
    ladders = {"small": _ladder([0.5, 0.7]), "large": _ladder([0.6, 0.65], size=2_000_000)}
    _, svg = draw_error_against_bytes(ladders, tmp_path / "error")
    assert "share of the complete package" not in svg.read_text()


def test_another_metric_is_drawn_as_it_is(tmp_path: Path) -> None:
    quality = {"metric": "perplexity", "direction": "lower", "unit": "1"}
    _, svg = draw_error_against_bytes({"model": _ladder([0.5, 0.4], **quality)}, tmp_path / "p")
    assert "perplexity (1)" in svg.read_text()


def test_nothing_is_promised_between_two_configurations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(error_bytes, "save", lambda figure, out: drawn.append(figure))
    draw_error_against_bytes({"a": _ladder([0.5, 0.7, 0.9])}, tmp_path / "x")
    (steps,) = [line for line in drawn[0].axes[0].lines if line.get_marker() == "o"]
    assert steps.get_drawstyle() == "steps-post"
    assert [round(value) for value in steps.get_ydata()] == [50, 30, 10]


def test_names_are_no_formulas(tmp_path: Path) -> None:
    _, svg = draw_error_against_bytes({r"$\frac$": _ladder([0.5], dataset="$x^$")}, tmp_path / "x", title="for $5 and $6")
    for said in (r"$\frac$", "$x^$ test", "for $5 and $6"):
        assert said in svg.read_text()


def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    first = draw_error_against_bytes({"a": _ladder([0.5, 0.7])}, tmp_path / "first")
    second = draw_error_against_bytes({"a": _ladder([0.5, 0.7])}, tmp_path / "second")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    other = draw_error_against_bytes({"a": _ladder([0.5, 0.8])}, tmp_path / "other")
    assert other[0].read_bytes() != first[0].read_bytes()


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    other = _ladder([0.5, 0.4], metric="perplexity")
    with pytest.raises(UsageError, match="different qualities"):
        draw_error_against_bytes({"a": _ladder([0.5, 0.7]), "b": other}, tmp_path / "x")
    for elsewhere in ({"dataset": "cifar10"}, {"split": "validation"}):
        with pytest.raises(UsageError, match=r"different data \(digits test, .*can't share a picture"):
            draw_error_against_bytes({"a": _ladder([0.5, 0.7]), "b": _ladder([0.5], **elsewhere)}, tmp_path / "x")
    with pytest.raises(UsageError, match="no ladder"):
        draw_error_against_bytes({}, tmp_path / "x")
    with pytest.raises(UsageError, match="8 ladders are too many"):
        draw_error_against_bytes({str(n): _ladder([0.5]) for n in range(8)}, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_ladders_measured_on_fewer_samples_say_so(tmp_path: Path) -> None:
    ladders = {"a": _ladder([0.5]), "b": _ladder([0.6], samples=200, confidence=0.9)}
    _, svg = draw_error_against_bytes(ladders, tmp_path / "x")
    assert "digits test, 200 or 1,000 samples, 95 % Clopper-Pearson or 90 % Clopper-Pearson" in svg.read_text()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="can't write"):
        draw_error_against_bytes({"a": _ladder([0.5])}, tmp_path / "file" / "x")
