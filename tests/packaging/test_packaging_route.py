from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from accordion.elastic import nested
from accordion.errors import FormatError, UnmeetableError, UsageError
from accordion.packaging.lattice import vectors_to_try
from accordion.packaging.route import FIRST_BYTES, RUNG_BYTES, LatticePoint, choose_first, find_route
from accordion.packaging.route_file import fill, read_route

STAGES = (("a1", "a2"), ("b1",))
ORDER = nested("test", STAGES, [(1, 0), (2, 0), (2, 1)])


def cost_of(path: list[LatticePoint]) -> float:
    total = math.log(max(path[0].bytes + RUNG_BYTES, FIRST_BYTES) / FIRST_BYTES)
    for one, other in itertools.pairwise(path):
        here = other.bytes + RUNG_BYTES
        total += one.error * (math.log(here / (one.bytes + RUNG_BYTES)) + RUNG_BYTES / here)
    return total


def lattice(seed: int) -> list[LatticePoint]:
    rng = np.random.default_rng(seed)
    points = []
    for depth, planes in itertools.product(range(3), range(1, 4)):
        error = float(np.clip(0.8 - 0.2 * depth - 0.05 * planes + rng.normal(0, 0.1), 0, 1))
        points.append(LatticePoint(depth, (planes,), 2000 * (depth + 1) * planes, error))
    return points


@pytest.mark.parametrize("seed", range(8))
def test_no_path_costs_less(seed: int) -> None:
    points = lattice(seed)
    complete = points[-1]
    others = [point for point in points if point is not complete]
    best = math.inf
    for count in range(len(others) + 1):
        for some in itertools.combinations(others, count):
            path = [*some, complete]
            if all(a.within(b) for a, b in itertools.pairwise(path)):
                best = min(best, cost_of(path))
    found = find_route(points)
    assert found[-1] is complete and all(a.within(b) for a, b in itertools.pairwise(found))
    assert cost_of(found) == pytest.approx(best)


def test_a_step_that_gains_nothing_is_left_out() -> None:
    small, same, whole = (LatticePoint(k, (1,), 10_000 * (k + 1), error) for k, error in enumerate((0.3, 0.3, 0.1)))
    assert find_route([small, same, whole]) == [small, whole]


@pytest.mark.parametrize("seed", range(4))
def test_no_path_that_begins_with_a_given_point_costs_less(seed: int) -> None:
    points = lattice(seed)
    complete = points[-1]
    for first in points[:-1]:
        later = [point for point in points if first.within(point) and point is not complete]
        best = math.inf
        for count in range(len(later) + 1):
            for some in itertools.combinations(later, count):
                path = [first, *some, complete]
                if all(a.within(b) for a, b in itertools.pairwise(path)):
                    best = min(best, cost_of(path))
        found = find_route(points, first=first)
        assert found[0] is first and found[-1] is complete and all(a.within(b) for a, b in itertools.pairwise(found))
        assert cost_of(found) == pytest.approx(best)
    assert find_route(points, first=complete) == [complete]


def test_the_first_answer_is_the_best_that_fits() -> None:
    points = [LatticePoint(k, (1,), 1000 * (k + 1), error) for k, error in enumerate((0.5, 0.2, 0.2, 0.1, 0.3))]
    asked: list[int] = []

    def size(point: LatticePoint) -> int:
        asked.append(point.depth)
        return point.bytes + 700

    assert choose_first(points, size, 10_000).depth == 3
    assert choose_first(points, size, 4500).depth == 1  # of two equally good ones the smaller
    assert choose_first(points, size, 2500).depth == 0
    # The best first, and nothing whose weights alone are too much.
    assert asked == [3, 3, 1, 1, 0]
    with pytest.raises(UnmeetableError, match=r"1\.70 kB") as refused:
        choose_first(points, size, 1600)
    assert refused.value.limit == "first_answer"


def test_precision_comes_first_where_it_pays_more() -> None:
    rough = LatticePoint(0, (1,), 10_000, 0.5)
    deep, fine = LatticePoint(1, (1,), 20_000, 0.48), LatticePoint(0, (2,), 20_000, 0.2)
    whole = LatticePoint(1, (2,), 40_000, 0.1)
    assert find_route([rough, deep, fine, whole]) == [rough, fine, whole]


def test_without_a_complete_point_there_is_no_path() -> None:
    with pytest.raises(UsageError, match="no complete point"):
        find_route([LatticePoint(0, (2,), 10, 0.5), LatticePoint(1, (1,), 20, 0.4)])
    with pytest.raises(UsageError, match="no complete point"):
        find_route([])


def test_the_vectors_that_are_tried() -> None:
    assert vectors_to_try(1, 3) == [(1,), (2,), (3,)]
    assert set(vectors_to_try(3, 2)) == {(1, 1, 1), (2, 1, 1), (1, 1, 2), (2, 2, 1), (1, 2, 2), (2, 2, 2)}


def test_stages_without_blocks_get_the_planes_of_their_first_blocks() -> None:
    assert fill([(0, (1, 0)), (1, (2, 0)), (2, (2, 1)), (2, (3, 3))], ORDER, 3, "x") == (
        (0, (1, 1)),
        (1, (2, 1)),
        (2, (2, 1)),
        (2, (3, 3)),
    )


@pytest.mark.parametrize(
    "steps, message",
    [
        ([], "has no step"),
        ([(3, (1, 1))], "does not fit"),
        ([(0, (1,))], "does not fit"),
        ([(0, (0, 0)), (2, (3, 3))], "other than 1 to 3 planes"),
        ([(0, (4, 0)), (2, (3, 3))], "other than 1 to 3 planes"),
        ([(1, (1, 0)), (0, (2, 0)), (2, (3, 3))], "does not go on"),
        ([(1, (2, 0)), (2, (1, 1)), (2, (3, 3))], "does not go on"),
        ([(0, (1, 0)), (0, (1, 5)), (2, (3, 3))], "does not go on"),
        ([(2, (3, 2))], "must end with the complete network"),
    ],
)
def test_a_path_that_is_none_is_refused(steps: list[tuple[int, tuple[int, ...]]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fill(steps, ORDER, 3, "x")


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "not valid JSON"),
        ('{"codec": "planes"}', "rounding"),
        ('{"codec": "planes", "rounding": "up", "path": []}', "unknown rounding"),
        ('{"codec": "planes", "rounding": "nearest", "path": 3}', "path"),
        ('{"codec": "planes", "rounding": "nearest", "path": [{"depth": -1, "planes": [1]}]}', "depth"),
    ],
)
def test_a_file_that_holds_no_path_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "path.json").write_text(text)
    with pytest.raises(FormatError, match=message):
        read_route(tmp_path / "path.json", ORDER)
