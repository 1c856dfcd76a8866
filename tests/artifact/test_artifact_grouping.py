"""Which graphs travel together: held against every division that there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from accordion.artifact.archive import pack
from accordion.artifact.grouping import LAYER, divide_graphs

Parts = tuple[list[dict[str, bytes]], list[dict[str, bytes]], list[list[int]], list[list[int]]]

BESIDE = 2300  # bytes, of the first configuration

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
    total, sent, weights, begin = 0.0, LAYER * len(counts), 0, 0
    for count in counts:
        sent += len(pack({path: data for one in files[begin : begin + count] for path, data in one.items()}))
        for size in segments[begin : begin + count]:
            weights += size
            total += sent / (BESIDE + weights)
        begin += count
    return total


def counts_of(files: list[dict[str, bytes]], segments: list[list[int]]) -> list[int]:
    beside = [[0] * len(own) for own in segments]
    beside[0][0] = BESIDE
    return [len(one) for one in divide_graphs(files, [{}] * len(files), segments, beside).archives]


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
    chosen = tuple(counts_of(files, [[size] for size in segments]))
    assert sum(chosen) == 7
    assert costs[chosen] <= 1.03 * min(costs.values())
    assert costs[chosen] < max(costs.values()) / 1.2  # and there was something to choose


def test_alternatives_wait_longer_where_values_have_been_replaced() -> None:
    files, rng = graphs(6), np.random.default_rng(1)
    more = [{f"{k:03}i.onnx": rng.bytes(1_500)} for k in range(6)]
    segments = [[60_000]] * 6
    beside = [[BESIDE], *[[0]] * 5]

    def late(replaced: list[list[int]] | None) -> int:
        found = divide_graphs(files, more, segments, beside, replaced=replaced)
        return found.archives[found.late].start

    assert late(None) == late([[0]] * 6) == 0
    assert late([[0], [0], [5_000], [10_000], [15_000], [15_000]]) > 2


def test_a_first_answer_does_not_wait_for_later_graphs() -> None:
    assert counts_of(graphs(6), [[1_000 * 8**k] for k in range(6)])[0] == 1


def test_graphs_of_many_small_steps_travel_together() -> None:
    counts = counts_of(graphs(40), [[100_000], *([500] for _ in range(39))])
    assert sum(counts) == 40
    assert len(counts) < 8


def test_a_graph_that_serves_several_configurations() -> None:
    assert sum(counts_of(graphs(3), [[10_000, 20_000], [30_000], [40_000, 80_000]])) == 3
    assert counts_of(graphs(1), [[10, 20, 30]]) == [1]


def overfull(segments: list[int], alternative_size: int) -> Parts:
    """Graphs of 300 bytes, alternatives of `alternative_size`, that no compressor finds anything in."""
    rng = np.random.default_rng(1)
    own = [{f"{k:03}.onnx": rng.bytes(300)} for k in range(len(segments))]
    alternatives = [{f"{k:03}i.onnx": rng.bytes(alternative_size)} for k in range(len(segments))]
    beside = [[0 if k else BESIDE] for k in range(len(segments))]
    return own, alternatives, [[size] for size in segments], beside


def share(parts: Parts, late: int, k: int) -> float:
    """Of the prefix of configuration k, what is beside its weights, if every graph is an archive of its own."""
    own, alternatives, segments, beside = parts
    graphs = 300 * (k + 1) + LAYER * len(own)
    graphs += sum(len(data) for i in range(k + 1 if k >= late else 0) for data in alternatives[i].values())
    other = graphs + sum(rows[0] for rows in beside[: k + 1])
    return other / (other + sum(rows[0] for rows in segments[: k + 1]))


def test_alternatives_travel_with_their_own_where_there_is_room() -> None:
    division = divide_graphs(*overfull([400_000] * 5, 2_000))
    assert (division.late, division.over) == (0, 0)


def test_alternatives_wait_until_no_prefix_is_overfull() -> None:
    parts = overfull([40_000] * 3 + [100_000, 200_000, 200_000, 400_000, 400_000], 4_000)
    early = divide_graphs(*parts, counts=[1] * 8)
    assert early.over == 0
    # The earliest that keeps the tenth: with one graph before, some prefix of 100 kB or more would exceed it.
    assert all(share(parts, early.late, k) < 0.1 for k in range(2, 8))
    assert early.late > 0
    assert any(share(parts, early.late - 1, k) > 0.095 for k in range(2, 8))


def test_alternatives_that_never_fit_come_where_they_are_least_over() -> None:
    parts = overfull([30_000] * 6, 20_000)
    division = divide_graphs(*parts, counts=[1] * 6)
    assert division.over > 0
    assert division.late == 5
