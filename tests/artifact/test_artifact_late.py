"""Another graph of a configuration that comes later than the configuration itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from accordion.artifact.layout import Layout
from accordion.artifact.verify import verify_package
from accordion.errors import FormatError
from odd_packages import GRAPH_RAW, WEIGHT_RAW, adding, write

PLACES = ["a.safetensors", "b.safetensors", "c.safetensors"]
RUNGS = [(3, "a.onnx"), (5, "b.onnx"), (8, "c.onnx")]


def problems(out: Path, reads: int = 1, layers: int = 6) -> list[str]:
    """Of three configurations, where another graph of the first, which reads `reads` segments, is layer 5 and said to be among the
    first `layers`."""
    segments, _, _ = adding("", PLACES, [1, 2, 3])
    graphs = [adding("", PLACES[:count], [1, 2, 3][:count])[1] for count in (1, 2, 3)]
    write(
        Layout.create(out),
        "latest",
        [
            (GRAPH_RAW, graphs[0], "a.onnx"),
            (WEIGHT_RAW, segments[0], PLACES[0]),
            (GRAPH_RAW, graphs[1], "b.onnx"),
            (WEIGHT_RAW, segments[1], PLACES[1]),
            (GRAPH_RAW, graphs[reads - 1], "ai.onnx"),
            (GRAPH_RAW, graphs[2], "c.onnx"),
            (WEIGHT_RAW, segments[2], PLACES[2]),
        ],
        RUNGS,
        late={0: ("ai.onnx", layers)},
    )
    return verify_package(out)


def test_it_is_taken_and_read_back(tmp_path: Path) -> None:
    assert problems(tmp_path) == []
    layout = Layout.open(tmp_path)
    first = layout.ladder(layout.manifest()).configurations[0]
    assert [one.layers for one in first.late_alternatives()] == [6]
    assert (first.alternatives_within(5), len(first.alternatives_within(6))) == ((), 1)


@pytest.mark.parametrize("reads", [2, 3])
def test_it_may_read_only_what_its_configuration_has(tmp_path: Path, reads: int) -> None:
    (problem,) = problems(tmp_path, reads=reads)
    assert "configuration 0" in problem
    if reads == 2:  # of three, the last is not there at all when the graph comes
        assert "reads 'b.safetensors', which its configuration does not have" in problem


def test_it_must_be_there_when_the_ladder_says(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, layers=4)
    assert "'ai.onnx' is not among the layers" in problem


def test_it_may_not_come_after_all_configurations(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, layers=9)
    assert "comes with 9 layers, after all that any configuration needs" in problem


def test_layers_are_a_whole_number(tmp_path: Path) -> None:
    assert problems(tmp_path) == []
    layout = Layout.open(tmp_path)
    raw = layout.ladder(layout.manifest()).to_bytes()
    with pytest.raises(FormatError, match="layers"):
        type(layout.ladder(layout.manifest())).parse(raw.replace(b'"layers":6', b'"layers":"6"'))
