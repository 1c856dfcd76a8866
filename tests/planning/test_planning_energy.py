from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accordion.errors import UsageError
from accordion.planning import energy_figures
from accordion.planning.energy import Joules, inference_j, radio, tail_j, training_j, transfer_j
from accordion.planning.energy_figures import ARITHMETIC_J, RADIOS, Figure, Radio


def figures() -> dict[str, Figure]:
    found: dict[str, Figure] = {}

    def look(name: str, value: object) -> None:
        if isinstance(value, Figure):
            found[name] = value
        elif isinstance(value, Radio):
            for field in ("base_w", "bit_j", "tail_j"):
                found[f"{name}.{field}"] = getattr(value, field)
        elif name in ("RADIOS", "ARITHMETIC_J"):
            for key, inner in dict(value).items():  # type: ignore[call-overload]
                look(f"{name}.{key}", inner)

    for name in energy_figures.__all__:
        look(name, getattr(energy_figures, name))
    return found


@pytest.mark.parametrize(("name", "figure"), figures().items())
def test_every_figure_has_a_source_and_lies_in_its_range(name: str, figure: Figure) -> None:
    assert 0 <= figure.low <= figure.value <= figure.high < 100
    assert len(figure.source) > 5
    if "no figure found" in figure.source:
        assert figure.swept
        assert figure.low < figure.high


def test_there_are_figures_for_everything_that_the_model_multiplies() -> None:
    assert len(figures()) == 3 * len(RADIOS) + len(ARITHMETIC_J) + 4


@pytest.mark.parametrize("name", RADIOS)
def test_the_fit_is_the_power_that_was_fitted(name: str) -> None:
    """Joules a second at any rate are base + slope x rate."""
    one, rate = radio(name), 20e6
    assert transfer_j(one, rate / 8, 1.0).value == pytest.approx(one.base_w.value + one.bit_j.value * rate)


def test_lte_at_20_mbps_is_near_what_was_measured() -> None:
    """The means of the measured seconds at 20 Mbps over LTE were 2.910 W (target 20) and 3.144 W (target 60)."""
    assert transfer_j(radio("lte"), 20e6 / 8, 1.0).value == pytest.approx(3.0, abs=0.2)


@settings(deadline=None)
@given(
    name=st.sampled_from(sorted(RADIOS)),
    count=st.integers(0, 10**9),
    times=st.lists(st.floats(0.0, 1e6), min_size=2, max_size=2),
)
def test_more_bytes_and_more_time_cost_more(name: str, count: int, times: list[float]) -> None:
    quick, slow = sorted(times)
    one = radio(name)
    for few, many in zip(transfer_j(one, count, quick), transfer_j(one, count, slow), strict=True):
        assert few <= many
    assert all(a <= b for a, b in zip(transfer_j(one, count, slow), transfer_j(one, count + 1, slow), strict=True))


@settings(deadline=None)
@given(macs=st.integers(0, 10**12), weights=st.integers(0, 10**9))
def test_fewer_bits_never_cost_more(macs: int, weights: int) -> None:
    costs = [inference_j(macs, weights, name) for name in ("float32", "float16", "int8", "int4")]
    for one in costs:
        assert one.low <= one.value <= one.high or math.isclose(one.low, one.high)
    for dear, cheap in zip(costs, costs[1:], strict=False):
        assert all(b <= a * (1 + 1e-9) for a, b in zip(dear, cheap, strict=True))


def test_a_mac_of_an_accelerator_that_was_measured_lies_in_the_range() -> None:
    """Eyeriss: 278 mW, 35 pictures a second, 666 million 16-bit MACs each."""
    measured = 0.278 / 35
    modelled = inference_j(666e6, 0, "float16")
    assert modelled.low < measured < modelled.high


def test_training_counts_three_passes() -> None:
    assert training_j(1e6, 100).value == pytest.approx(3 * 1e8 * energy_figures.ACCELERATOR_J_PER_MAC.value)


def test_nothing_costs_nothing() -> None:
    assert transfer_j(radio("none"), 10**9, 1.0) == tail_j(radio("none")) == training_j(0, 10) == Joules(0, 0, 0)


def test_what_has_no_figures_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown radio 'carrier pigeon': choose lte"):
        radio("carrier pigeon")
    with pytest.raises(UsageError, match="no energy figures for 'int3'"):
        inference_j(1, 1, "int3")


def test_json_has_the_digits_that_mean_something() -> None:
    assert Joules(1 / 3, 0.0, 2 / 3).to_json() == {"value": 0.3333, "low": 0.0, "high": 0.6667}
