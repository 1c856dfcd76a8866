from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from accordion.errors import FormatError, UsageError
from accordion.pictures import Timeline, draw_timeline, read_timeline


def _data() -> dict[str, Any]:
    return {
        "events": [{"seconds": 0.1, "bytes": 1000}, {"seconds": 0.5, "bytes": 900_000}],
        "ready": [{"configuration": 0, "seconds": 0.2}, {"configuration": 3, "seconds": 0.5}],
        "predictions": [
            {"seconds": 0.21, "configuration": 0, "labels": ["cat", "dog"], "confidence": [0.4, 0.9]},
            {"seconds": 0.51, "configuration": 3, "labels": ["ship", "dog"], "confidence": [0.8, 0.95]},
        ],
        "truth": ["ship", "dog"],
        "deadline_s": 0.6,
    }


def test_the_picture_says_what_it_shows(tmp_path: Path) -> None:
    png, svg = draw_timeline(Timeline.from_json(_data()), tmp_path / "fetch.svg", title="One fetch")
    assert png.read_bytes().startswith(b"\x89PNG\r\n")
    text = svg.read_text()
    for said in ("One fetch", "received (MB)", "running", "time since the call (s)", "configuration 0 after 0.20 s", "deadline"):
        assert said in text
    assert ">cat<" in text and ">ship<" in text and "wrong" in text


def test_what_is_not_known_is_not_drawn(tmp_path: Path) -> None:
    data = _data() | {"predictions": []}
    del data["truth"], data["deadline_s"]
    _, svg = draw_timeline(Timeline.from_json(data), tmp_path / "upgrade")
    text = svg.read_text()
    assert "deadline" not in text and "picture" not in text and "received (MB)" in text


def test_without_truth_pictures_are_compared_with_the_last_answer(tmp_path: Path) -> None:
    data = _data()
    del data["truth"]
    _, svg = draw_timeline(Timeline.from_json(data), tmp_path / "fetch")
    assert "as the last configuration says" in svg.read_text() and "picture 2" in svg.read_text()


def test_a_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "fetch.json"
    path.write_text(json.dumps(_data()))
    timeline = read_timeline(path)
    assert timeline.received == ((0.1, 1000), (0.5, 900_000))
    assert timeline.ready == ((0, 0.2), (3, 0.5))
    assert timeline.predictions[1].labels == ("ship", "dog")
    assert timeline.deadline_s == 0.6


@pytest.mark.parametrize(
    "change, message",
    [
        ({"events": []}, "needs events"),
        ({"ready": []}, "became ready"),
        ({"events": [{"seconds": 1, "bytes": 2}, {"seconds": 0, "bytes": 3}]}, "order of time"),
        ({"truth": ["ship"]}, "same pictures"),
        ({"ready": [{"seconds": 1}]}, "no timeline: KeyError 'configuration'"),
        ({"events": 5}, "no timeline"),
        ({"predictions": [{"seconds": 0.2, "configuration": 0, "labels": ["a"], "confidence": []}]}, "same pictures"),
        ({"events": [{"seconds": math.nan, "bytes": 2}]}, "events are not all at moments from 0"),
        ({"ready": [{"seconds": math.inf, "configuration": 0}]}, "ready are not all at moments from 0"),
        (
            {"predictions": [{"seconds": -1, "configuration": 0, "labels": [], "confidence": []}]},
            "predictions are not all at moments",
        ),
        ({"events": [{"seconds": 1, "bytes": math.inf}]}, "no timeline: OverflowError"),
        ({"events": [{"seconds": 1, "bytes": 10**400}]}, "bytes and configurations are not all whole numbers"),
        ({"ready": [{"seconds": 1, "configuration": -1}]}, "bytes and configurations are not all whole numbers"),
        ({"deadline_s": math.inf}, "deadline is inf, not a moment"),
        ({"deadline_s": math.nan}, "deadline is nan, not a moment"),
    ],
)
def test_what_is_no_timeline_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Timeline.from_json(_data() | change)


def test_files_that_hold_something_else_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no timeline at"):
        read_timeline(tmp_path / "nothing.json")
    texts = {
        "{": "not valid JSON",
        "[]": "not a JSON object",
        "\x00": "not valid JSON",
        '{"deadline_s": NaN}': "NaN is not a JSON number",
        '{"truth": ["\\ud800"]}': "half of a surrogate pair",
        "[" * 100_000: "nested too deep",
    }
    for text, message in texts.items():
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(FormatError, match=rf"bad\.json.*{message}"):
            read_timeline(tmp_path / "bad.json")


def test_labels_are_no_formulas(tmp_path: Path) -> None:
    data = _data() | {"truth": ["$x^$", "dog"]}
    data["predictions"][0]["labels"] = [r"$\frac$", "dog"]
    _, svg = draw_timeline(Timeline.from_json(data), tmp_path / "fetch", title="$a$")
    text = svg.read_text()
    assert ">$x^$<" in text and r">$\frac$<" in text and ">$a$<" in text


def test_what_was_there_at_once_has_a_picture_too(tmp_path: Path) -> None:
    prediction = {"seconds": 0, "configuration": 0, "labels": ["cat"], "confidence": [1.0]}
    data = {"events": [{"seconds": 0, "bytes": 1}], "ready": [{"configuration": 0, "seconds": 0}], "predictions": [prediction]}
    draw_timeline(Timeline.from_json(data), tmp_path / "fetch")
