from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from accordion.profiling import clopper_pearson


def test_agrees_with_the_beta_quantiles() -> None:
    low, high = clopper_pearson(8651, 10_000)
    assert low == pytest.approx(beta.ppf(0.025, 8651, 10_000 - 8651 + 1), rel=1e-9)
    assert high == pytest.approx(beta.ppf(0.975, 8651 + 1, 10_000 - 8651), rel=1e-9)


def test_nothing_right_and_everything_right_have_closed_ends() -> None:
    assert clopper_pearson(0, 20) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert clopper_pearson(20, 20) == (pytest.approx(0.025 ** (1 / 20)), 1.0)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 25), st.floats(0.01, 0.99), st.sampled_from([0.8, 0.95, 0.99]))
def test_covers_the_true_fraction_often_enough(trials: int, fraction: float, confidence: float) -> None:
    covered = 0.0
    for successes in range(trials + 1):
        low, high = clopper_pearson(successes, trials, confidence)
        if low <= fraction <= high:
            covered += float(binom.pmf(successes, trials, fraction))
    assert covered >= confidence - 1e-9
