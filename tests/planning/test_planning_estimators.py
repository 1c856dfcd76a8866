from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accordion.errors import FormatError, UsageError
from accordion.link_files import estimate_errors, read_traces
from accordion.planning.links import ESTIMATORS, ErrorTable, EstimatedLink, Estimator, HarmonicMean, MinEwma

TRACES = Path(__file__).parents[3] / "shared" / "data" / "traces"
TABLE = ErrorTable((0.5, 2.0), (0.5, 0.9), ((1.0, 1.0), (0.4, 0.6)))


def fed(estimator: Estimator, rates: list[float], step_s: float = 0.1) -> Estimator:
    for rate in rates:
        estimator = estimator.after(rate * step_s / 8, step_s)
    return estimator


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_of_a_steady_link_every_estimator_finds_the_rate_without_error(name: str) -> None:
    estimate = fed(ESTIMATORS[name], [8e6] * 12).estimate()
    assert estimate is not None
    assert estimate.rate_bps == pytest.approx(8e6)
    assert estimate.error == pytest.approx(0.0, abs=1e-9)
    assert estimate.cautious_bps == pytest.approx(8e6)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_nothing_seen_is_nothing_known(name: str) -> None:
    assert ESTIMATORS[name].estimate() is None


def test_the_estimate_follows_down_quickly_and_up_slowly() -> None:
    start = fed(MinEwma(), [10e6] * 20)
    down, up = fed(start, [1e6] * 4).estimate(), fed(start, [100e6] * 4).estimate()
    assert down is not None and up is not None
    # After 0.4 s the fast mean (0.3 s) has lost more than half of the step, the slow one (1 s) has taken up less than a third of it.
    assert down.rate_bps < 10e6 - 0.5 * 9e6
    assert up.rate_bps < 10e6 + 0.33 * 90e6
    assert up.error > 0.1


def test_trust_needs_time_and_bytes() -> None:
    shaka = ESTIMATORS["shaka"].after(100e3, 0.1)
    assert shaka.estimate() is None
    assert shaka.after(30e3, 0.1).estimate() is not None


def test_the_harmonic_mean_counts_slow_moments_by_their_time() -> None:
    estimate = fed(HarmonicMean(), [1e6, 10e6, 10e6]).estimate()
    assert estimate is not None
    assert estimate.rate_bps == pytest.approx(3 / (1 / 1e6 + 2 / 10e6))
    assert estimate.error == pytest.approx(max(abs(1e6 - 10e6) / 10e6, abs(2 / (1 / 1e6 + 1 / 10e6) - 10e6) / 10e6))
    assert estimate.cautious_bps < estimate.rate_bps
    silent = fed(HarmonicMean(), [1e6, 0.0]).estimate()
    assert silent is not None and silent.rate_bps == 0
    assert HarmonicMean().after(100, 0.001).estimate() is None  # a millisecond says nothing


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_a_clock_that_jumps_or_stands_teaches_nothing(name: str) -> None:
    before = fed(ESTIMATORS[name], [8e6] * 12)
    for seconds in (0.0, -3600.0, math.inf):
        assert before.after(1000, seconds) == before
    for count, seconds in ((-1.0, 1.0), (math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan)):
        with pytest.raises(UsageError):
            before.after(count, seconds)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(ESTIMATORS)),
    st.lists(st.tuples(st.floats(0, 1e9), st.floats(0.001, 30)), min_size=1, max_size=12),
)
def test_an_estimate_lies_among_the_rates_seen(name: str, samples: list[tuple[float, float]]) -> None:
    estimator = ESTIMATORS[name]
    for count, seconds in samples:
        estimator = estimator.after(count, seconds)
    if (estimate := estimator.estimate()) is not None:
        highest = max(count * 8 / seconds for count, seconds in samples)
        assert 0 <= estimate.rate_bps <= highest * (1 + 1e-6)
        assert 0 <= estimate.error < math.inf


def test_constants_that_make_no_sense() -> None:
    for make in (lambda: MinEwma(0, 1), lambda: MinEwma(2, 1), lambda: MinEwma(1, math.nan), lambda: HarmonicMean(0)):
        with pytest.raises(UsageError):
            make()


def test_an_estimated_link_promises_the_share_that_came_before() -> None:
    link = EstimatedLink(8e6, TABLE, rtt_s=0.1)
    assert link.bytes_within(0.5).guaranteed(0.9) == pytest.approx(0.4 * 0.5e6)
    assert link.bytes_within(1.25).guaranteed(0.9) == pytest.approx(0.5 * 1.25e6)  # between the two times
    assert link.bytes_within(2.3, 3.0).guaranteed(0.5) == pytest.approx(2.0e6)
    assert link.bytes_within(0.5).guaranteed(0.95) == 0  # of more the table knows nothing
    assert TABLE.promised(0.7, 5.0) == 0.6
    assert ErrorTable.from_json(TABLE.to_json(), "it") == TABLE


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": []},
        {"seconds": [2.0, 0.5]},
        {"seconds": ["x", 1]},
        {"levels": [0.5, 1.0]},
        {"shares": [[1.0, 1.0]]},
        {"shares": [[0.4, 0.6], [1.0, 1.0]]},
        {"shares": [[1.0, -1.0], [0.4, -1.0]]},
        {"shares": [1]},
        {"shares": [["x", 1], [1, 1]]},
    ],
)
def test_a_broken_table_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        ErrorTable.from_json({**TABLE.to_json(), **change}, "it")


def test_the_measured_errors_are_there_and_hold_on_a_trace() -> None:
    table = estimate_errors("ewma")
    assert 0.4 < table.promised(0.9, 1.0) < 1.0 < table.promised(0.3, 1.0)
    with pytest.raises(UsageError, match="nobody has measured"):
        estimate_errors("guess")
    if not TRACES.is_dir():
        pytest.skip("the measured traces are not here (../shared/data/traces)")
    kept = []
    for trace in read_traces(str(TRACES / "tmobile-5g-100ms.jsonl"))[:60]:
        for start in np.arange(0.5, trace.seconds - 3, 4):
            edges = start + 0.1 * np.arange(11)
            estimator: Estimator = MinEwma()
            for one, two in zip(edges, edges[1:], strict=False):
                estimator = estimator.after(trace.between(one, two), 0.1)
            estimate = estimator.estimate()
            if estimate is not None and estimate.rate_bps > 0:
                promised = EstimatedLink(estimate.rate_bps, table).bytes_within(1.0).guaranteed(0.9)
                kept.append(trace.between(edges[-1], edges[-1] + 1.0) >= promised)
    assert len(kept) > 500
    assert np.mean(kept) == pytest.approx(0.9, abs=0.04)
