from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from accordion.elastic import nested
from accordion.errors import FormatError, UsageError
from accordion.packaging.lattice import vectors_to_try
from accordion.packaging.route import FIRST_BYTES, RUNG_BYTES, LatticePoint, find_route
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
