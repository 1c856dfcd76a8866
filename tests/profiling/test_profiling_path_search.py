from __future__ import annotations

from itertools import combinations, pairwise, product

import numpy as np
import pytest

from accordion.errors import UsageError
from accordion.profiling.path_search import Lattice, best_path, budget_scale, parse_objective, value_of

BYTES = {"bytes": 1.0}


def lattice(seed: int) -> Lattice:
    counts = sorted(product(range(1, 4), range(1, 3), range(1, 3)), key=lambda row: (sum(row), row))
    costs = {
        "bytes": tuple(float(a + 4 * b + 16 * c) for a, b, c in counts),
        "macs": tuple(float(sum(row)) for row in counts),
    }
    return Lattice(tuple(counts), tuple(np.random.default_rng(seed).random(len(counts))), costs, 100)


def area(found: Lattice, rows: tuple[int, ...], weights: dict[str, float]) -> float:
    at = budget_scale(found, weights)
    return sum(found.errors[a] * (at[b] - at[a]) for a, b in pairwise(rows))


def every_path(found: Lattice, most: int) -> list[tuple[int, ...]]:
    last = len(found.configurations) - 1
    paths = [(0, *inner, last) for n in range(most - 1) for inner in combinations(range(1, last), n)]
    counts = found.configurations
    return [p for p in paths if all(x <= y for a, b in pairwise(p) for x, y in zip(counts[a], counts[b], strict=True))]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("weights", [BYTES, {"macs": 1.0}, {"bytes": 0.7, "macs": 0.3}])
def test_no_other_path_is_better(seed: int, weights: dict[str, float]) -> None:
    found = lattice(seed)
    # Six configurations are the longest path here: three, two and two blocks.
    for steps in (2, 3, 4, None):
        best = best_path(found, weights, steps=steps)
        assert best.value == pytest.approx(min(area(found, rows, weights) for rows in every_path(found, steps or 6)))
        assert best.value == pytest.approx(area(found, best.rows, weights))
        assert best.rows in every_path(found, steps or 6)


def test_greedy_steps_can_lose() -> None:
    # The best first step (2, 1) leads away from (1, 2), which is far better and hardly more expensive.
    found = Lattice(((1, 1), (1, 2), (2, 1), (2, 2)), (0.9, 0.3, 0.6, 0.2), {"bytes": (1.0, 2.2, 2.0, 16.0)}, 10)
    assert best_path(found, BYTES).rows == (0, 1, 3)


def test_the_value_is_the_mean_error_over_budgets() -> None:
    found = Lattice(((1,), (2,), (3,)), (0.8, 0.4, 0.1), {"bytes": (1.0, 4.0, 16.0)}, 10)
    assert best_path(found, BYTES).value == pytest.approx(0.5 * 0.8 + 0.5 * 0.4)
    assert best_path(found, BYTES, scale="linear").value == pytest.approx(0.2 * 0.8 + 0.8 * 0.4)


def test_a_configuration_worse_than_its_predecessor_is_never_taken() -> None:
    found = Lattice(((1,), (2,), (3,), (4,)), (0.5, 0.6, 0.3, 0.4), {"bytes": (1.0, 2.0, 4.0, 8.0)}, 10)
    assert best_path(found, BYTES).rows == (0, 2, 3)
    assert value_of(found, [(1,), (2,), (3,), (4,)], BYTES).value == pytest.approx(best_path(found, BYTES).value)


def test_what_was_not_measured_of_a_given_order_is_passed_over() -> None:
    found = lattice(1)
    given = value_of(found, [(1, 1, 1), (9, 9, 9), (2, 2, 2)], BYTES)
    assert [found.configurations[row] for row in given.rows] == [(1, 1, 1), (2, 2, 2), (3, 2, 2)]


def test_one_configuration_is_its_own_order() -> None:
    assert best_path(Lattice(((1, 1),), (0.5,), {"bytes": (3.0,)}, 10), BYTES).rows == (0,)


def test_objectives_are_read_and_weighted() -> None:
    assert parse_objective("bytes") == {"bytes": 1.0}
    assert parse_objective("3:bytes,1:macs") == {"bytes": 0.75, "macs": 0.25}


@pytest.mark.parametrize("text", ["", "size", "0:bytes", "-1:bytes", "bytes,bytes", "nan:bytes", "x:macs", "bytes,", "inf:macs"])
def test_other_objectives_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no objective"):
        parse_objective(text)


def test_bad_requests_are_refused() -> None:
    with pytest.raises(UsageError, match="at least two"):
        best_path(lattice(0), BYTES, steps=1)
    with pytest.raises(UsageError, match="unknown scale"):
        best_path(lattice(0), BYTES, scale="square")
    with pytest.raises(UsageError, match="latency of these configurations was not measured"):
        best_path(lattice(0), {"latency": 1.0})
