from __future__ import annotations

import math
from random import Random

import pytest
from trends import block_means, line, power, scales  # type: ignore[import-not-found]


def test_a_line_is_found_with_its_interval() -> None:
    """By hand: x = 0, 1, 2, 3 and y = 1, 3, 4, 8 give the slope 2.2, the rest 1.8, and 4.303 · √(1.8 / 2 / 5) on either side."""
    found = line([(0, 1), (1, 3), (2, 4), (3, 8)])
    assert found.slope == pytest.approx(2.2)
    assert found.at_zero == pytest.approx(0.7)
    assert found.high - found.slope == pytest.approx(4.303 * math.sqrt(1.8 / 2 / 5))
    assert found.slope - found.low == pytest.approx(found.high - found.slope)


def test_two_points_make_a_line_that_nothing_vouches_for() -> None:
    found = line([(1, 1), (2, 3)])
    assert (found.slope, found.low, found.high) == (2, -math.inf, math.inf)
    assert found.to_json() == {"slope": 2, "interval": None}


@pytest.mark.parametrize("points", [[], [(1.0, 2.0)], [(1.0, 2.0), (1.0, 3.0)]])
def test_no_line_without_two_places(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="different x"):
        line(points)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_a_power_is_found(exponent: float) -> None:
    sizes = [1, 4, 16, 64, 256]
    assert power([(size, 0.003 * size**exponent) for size in sizes]).slope == pytest.approx(exponent)
    rng = Random(3)
    noisy = power([(size, 0.003 * size**exponent * rng.uniform(0.8, 1.25)) for size in sizes for _ in range(5)])
    assert noisy.low < exponent < noisy.high
    assert noisy.high - noisy.low < 0.2


def test_no_power_of_nothing() -> None:
    for points in ([(0, 1), (1, 1)], [(1, 0), (2, 1)]):
        with pytest.raises(ValueError, match="above 0"):
            power(points)


def test_what_keeps_to_a_power() -> None:
    sizes = [2**k for k in range(8)]
    linear = power([(size, size) for size in sizes])
    assert scales(linear, 1.0)
    assert not scales(linear, 0.0)
    assert not scales(power([(size, size**2) for size in sizes]), 1.0)
    assert scales(power([(size, size * math.log2(size + 1) ** 0.1) for size in sizes]), 1.0)


def test_stretches_hold_all_samples_once() -> None:
    assert block_means([(k, 10 * k) for k in range(6)], 3) == [(0.5, 5), (2.5, 25), (4.5, 45)]
    with pytest.raises(ValueError, match="5 samples can't make 6"):
        block_means([(0, 0)] * 5, 6)
