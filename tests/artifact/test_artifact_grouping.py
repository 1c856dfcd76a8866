"""Which graphs travel together: held against every division that there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from accordion.artifact.archive import pack
from accordion.artifact.grouping import group_graphs

SHAPES = {
    "small weights": [2_000] * 7,
    "large weights": [400_000] * 7,
    "growing": [1_000 * 3**k for k in range(7)],
    "none in between": [10_000, 0, 0, 50_000, 0, 200_000, 0],
}


def graphs(count: int, seed: int = 0) -> list[dict[str, bytes]]:
    """Files of which each repeats most of the one before, as graphs of neighbouring configurations do."""
    rng = np.random.default_rng(seed)
    parts = [rng.bytes(700) for _ in range(count)]
    return [{f"{k:03}.onnx": b"".join(parts[: k + 1])} for k in range(count)]


def delay(files: list[dict[str, bytes]], segments: list[int], counts: tuple[int, ...]) -> float:
    """Bytes of graphs as shares of the weights, summed over all prefixes, from the archives as they are sent."""
    total, sent, weights, begin = 0.0, 0, 0, 0
    for count in counts:
        sent += 250 + len(pack({path: data for one in files[begin : begin + count] for path, data in one.items()}))
        for size in segments[begin : begin + count]:
            weights += size
            total += sent / (2300 + weights)
        begin += count
    return total


def divisions(count: int) -> list[tuple[int, ...]]:
    found = []
    for cuts in itertools.product((False, True), repeat=count - 1):
        ends = [k + 1 for k, cut in enumerate(cuts) if cut] + [count]
        found.append(tuple(end - begin for begin, end in itertools.pairwise([0, *ends])))
    return found


@pytest.mark.parametrize("name", SHAPES)
def test_no_division_is_much_better(name: str) -> None:
    files, segments = graphs(7), SHAPES[name]
    costs = {counts: delay(files, segments, counts) for counts in divisions(7)}
    chosen = tuple(group_graphs(files, [[size] for size in segments]))
    assert sum(chosen) == 7
    assert costs[chosen] <= 1.03 * min(costs.values())
    assert costs[chosen] < max(costs.values()) / 1.2  # and there was something to choose


def test_a_first_answer_does_not_wait_for_later_graphs() -> None:
    assert group_graphs(graphs(6), [[1_000 * 8**k] for k in range(6)])[0] == 1


def test_graphs_of_many_small_steps_travel_together() -> None:
    counts = group_graphs(graphs(40), [[100_000], *([500] for _ in range(39))])
    assert sum(counts) == 40
    assert len(counts) < 8


def test_a_graph_that_serves_several_configurations() -> None:
    assert sum(group_graphs(graphs(3), [[10_000, 20_000], [30_000], [40_000, 80_000]])) == 3
    assert group_graphs(graphs(1), [[10, 20, 30]]) == [1]
