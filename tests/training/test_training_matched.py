from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accordion.artifact.ladder import Ladder
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import Manifest
from accordion.errors import UsageError
from accordion.planning import Request, make_plan
from accordion.planning.links import ConstantLink, RateLink, Trace, TraceLink, link_from
from accordion.training.matched import arrival_shares, communication, demand, mixed, with_floor
from accordion.training.policies import Policy, uniform
from accordion.training.requests import parse_requests

GOLDEN = Path(__file__).parents[1] / "golden" / "long"
TRACES = Path(__file__).parents[2].parent / "shared" / "data" / "traces"


@pytest.fixture(scope="module")
def version() -> tuple[Manifest, Ladder]:
    layout = Layout.open(GOLDEN)
    manifest = layout.manifest("latest")
    return manifest, layout.ladder(manifest)


def test_a_constant_link_brings_always_the_same() -> None:
    shares, nothing = arrival_shares([100, 200, 300], ConstantLink(8 * 2500.0), 0.1, 0)  # 250 bytes
    assert (list(shares), nothing) == ([0, 1, 0], 0)


def test_exactly_enough_is_enough_and_round_trips_take_their_time() -> None:
    assert list(arrival_shares([100, 250, 300], ConstantLink(8 * 2500.0), 0.1, 0)[0]) == [0, 1, 0]
    shares, nothing = arrival_shares([100, 250, 300], ConstantLink(8 * 2500.0, rtt_s=0.02), 0.1, 3)  # 100 bytes
    assert (list(shares), nothing) == ([1, 0, 0], 0)


def test_an_outage_is_a_case_in_which_nothing_arrives() -> None:
    link = RateLink((0.0, 8 * 1000.0, 8 * 4000.0), weights=(0.25, 0.25, 0.5))
    made = communication([100, 200, 300], link, [(0.1, 1.0)], round_trips=0)
    assert made.nothing == pytest.approx(0.25)
    assert made.policy.probabilities == pytest.approx((1 / 3, 0, 2 / 3))


def test_deadlines_count_by_their_weight() -> None:
    link = ConstantLink(8 * 1000.0)
    made = communication([100, 200, 300], link, [(0.1, 3), (0.3, 1), (0.01, 4)], round_trips=0)
    assert made.policy.probabilities == pytest.approx((0.75, 0, 0.25))
    assert made.nothing == pytest.approx(0.5)


@settings(deadline=None)
@given(
    rates=st.lists(st.floats(0, 1e6), min_size=2, max_size=50),
    needed=st.lists(st.integers(1, 10**6), min_size=1, max_size=20),
    deadline=st.floats(0.01, 10),
)
def test_shares_are_the_steps_of_the_arrival_probabilities(rates: list[float], needed: list[int], deadline: float) -> None:
    link, costs = TraceLink((Trace("t", 1.0, np.array(rates * 10)),)), sorted(needed)
    shares, nothing = arrival_shares(costs, link, deadline, 0)
    assert math.fsum([*shares, nothing]) == pytest.approx(1)
    found = link.bytes_within(deadline)
    for k in range(len(costs)):
        assert math.fsum(shares[k:]) == pytest.approx(found.at_least(costs[k]), abs=1e-9)


def test_longer_deadlines_train_larger_configurations(version: tuple[Manifest, Ladder]) -> None:
    path = TRACES / "lumos5g-4g.jsonl"
    if not path.is_file():
        pytest.skip(f"needs {path.name}")
    link = link_from([(path.name, path.read_bytes(), None)], fresh=False)
    needed = [30_000 * (k + 1) for k in range(27)]
    means, missed = [], []
    for deadline in (0.15, 0.3, 0.6, 1.2):
        made = communication(needed, link, [(deadline, 1.0)])
        means.append(float(np.arange(27) @ np.asarray(made.policy.probabilities)))
        missed.append(made.nothing)
    assert means == sorted(means)
    assert missed == sorted(missed, reverse=True)
    assert 0 < missed[-1] < 0.1  # the outages


@pytest.mark.parametrize(
    ("needed", "link", "deadlines", "message"),
    [
        ([100], ConstantLink(8.0), [], "at least one deadline"),
        ([100], ConstantLink(8.0), [(1.0, 0.0)], "weight above 0"),
        ([100], ConstantLink(8.0), [(1.0, -1.0), (1.0, 3.0)], "weight above 0"),
        ([100], ConstantLink(8.0), [(1.0, math.nan)], "weight above 0"),
        ([100], ConstantLink(8.0), [(1.0, 1.0)], "not even the smallest configuration"),
        ([100], ConstantLink(8e9, rtt_s=1.0), [(0.1, 1.0)], "not even the smallest configuration"),
        ([100, 50], ConstantLink(8e9), [(0.1, 1.0)], "not nested"),
        ([100], ConstantLink(8e9), [(0.0, 1.0)], "not even the smallest configuration"),
        ([100], TraceLink((Trace("t", 1.0, np.ones(3)),)), [(5.0, 1.0)], "as long as 5 s"),
    ],
)
def test_what_makes_no_policy_is_refused(
    needed: list[int], link: ConstantLink, deadlines: list[tuple[float, float]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        communication(needed, link, deadlines, round_trips=1)


def test_a_table_of_configurations() -> None:
    asks = parse_requests("configuration,count\n0,1\n2,2.5\n0,0.5\n", "t.csv")
    assert demand(asks, 3).policy.probabilities == pytest.approx((0.375, 0, 0.625))


def test_limits_are_planned_over_the_ladder(version: tuple[Manifest, Ladder]) -> None:
    text = '{"max_bytes": 6500, "count": 3}\n\n{"max_macs": 1}\n{"configuration": 0}\n'
    made = demand(parse_requests(text, "log"), len(version[1]), version)
    first = make_plan("", *version, Request(max_bytes=6500)).configuration
    wanted = np.zeros(len(version[1]))
    wanted[first] += 3
    wanted[0] += 1
    assert made.policy.probabilities == pytest.approx(tuple(wanted / 4))
    assert made.nothing == pytest.approx(1 / 5)


LOG = (
    '{"hour":"2026-09-21T14Z","name":"a","manifest":"m","configuration":1,"limit":null,"asked":{"max_bytes":6500},"upgrade":false}\n'
    '{"hour":"2026-09-21T14Z","name":"a","manifest":"m","configuration":null,"limit":"max_bytes","asked":{"max_bytes":1},"upgrade":false}\n'
    '{"hour":"2026-09-21T14Z","name":"a","manifest":"m","configuration":2,"limit":null,"asked":{},"upgrade":true}\n'
)


def test_a_request_log_counts_what_was_planned(version: tuple[Manifest, Ladder]) -> None:
    made = demand(parse_requests(LOG, "log"), 3)
    assert made.policy.probabilities == (0, 0.5, 0.5)
    assert made.nothing == pytest.approx(1 / 3)
    again = demand(parse_requests(LOG, "log"), len(version[1]), version)  # the log is of another version
    wanted = {make_plan("", *version, Request(max_bytes=6500)).configuration, make_plan("", *version, Request()).configuration}
    assert {k for k, p in enumerate(again.policy.probabilities) if p} == wanted
    same = LOG.replace('"m"', f'"{version[0].digest}"')
    assert demand(parse_requests(same, "log"), len(version[1]), version).policy.probabilities[:3] == (0, 0.5, 0.5)
    assert demand(parse_requests(same, "log"), len(version[1]), version, replan=True) == again


def test_a_log_of_two_packages_needs_a_choice() -> None:
    text = LOG + LOG.replace('"name":"a"', '"name":"b"')
    with pytest.raises(UsageError, match="requests for a, b: choose one"):
        parse_requests(text, "log")
    assert len(parse_requests(text, "log", "b")) == 3
    with pytest.raises(UsageError, match="no request for 'c'; there are requests for a, b"):
        parse_requests(text, "log", "c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no table of requests"),
        ("\n\n", "no table of requests"),
        ("configuration\n", "no request"),
        ("banana,count\n1,2\n", "no table of requests"),
        ("configuration,count\n1\n", "line 2 has another number of cells"),
        ("configuration,count\n1,2,3\n", "line 2 has another number of cells"),
        ("configuration\nx\n", "line 2: configuration is 'x', not a number"),
        ("configuration\n1.5\n", "whole number from 0 up"),
        ("configuration\n-1\n", "whole number from 0 up"),
        ("count\n1\n", "asks for nothing"),
        ("configuration,count\n1,nan\n", "'count' is 'nan'"),
        ("configuration,count\n1,-1\n", "'count' is"),
        ("max_bytes\n-5\n", "max_bytes: "),
        ("{", "not valid JSON"),
        ('{"configuration": 1}\n{"configuration"', "line 2 is not valid JSON"),
        ('{"configuration": true}', "whole number from 0 up"),
        ('{"configuration": [1]}', "whole number from 0 up"),
        ('{"asked": 5, "configuration": 1}', "must be a JSON object"),
        ('{"asked": {"evil": 5}, "configuration": 1}', "evil: is no field"),
        ('{"evil": 1}', "there is no 'evil'"),
        ('{"configuration": 1, "name": 5}', "'name' is not a text"),
        ('{"configuration": 1, "manifest": 5}', "'manifest' is not a text"),
        ('{"configuration": 1, "count": 1e400}', "out of range"),
        ('"' + "x" * 100, "not CSV"),
    ],
)
def test_what_is_no_list_of_requests_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_requests(text, "t")


def test_demand_for_what_there_is_not() -> None:
    with pytest.raises(UsageError, match="line 2 asks for configuration 3; the network has 0 to 2"):
        demand(parse_requests("configuration\n3\n", "t"), 3)
    with pytest.raises(UsageError, match="name the package"):
        demand(parse_requests("min_quality\n0.5\n", "t"), 3)
    with pytest.raises(UsageError, match="nobody asked"):
        demand(parse_requests("configuration,count\n1,0\n", "t"), 3)


def test_a_mixture() -> None:
    mixture = mixed([(0.25, uniform(4)), (0.75, Policy("full", (0, 0, 0, 1)))])
    assert mixture.probabilities == pytest.approx((1 / 16, 1 / 16, 1 / 16, 13 / 16))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "at least one"),
        ([(0.5, uniform(3))], "sum to 0.5, not to 1"),
        ([(1.5, uniform(3)), (-0.5, uniform(3))], "one is negative"),
        ([(0.5, uniform(3)), (0.5, uniform(4))], "'uniform' is for 4 configurations, 'uniform' for 3"),
    ],
)
def test_what_is_no_mixture_is_refused(parts: list[tuple[float, Policy]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mixed(parts)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30).filter(lambda v: sum(v) > 0.01), st.floats(0, 1))
def test_a_floor_raises_the_complete_network_and_keeps_the_rest_in_proportion(values: list[float], floor: float) -> None:
    before = Policy("p", tuple(value / math.fsum(values) for value in values))
    after = with_floor(before, floor)
    assert after.probabilities[-1] == pytest.approx(max(floor, before.probabilities[-1]))
    for old, new in zip(before.probabilities[:-1], after.probabilities[:-1], strict=True):
        assert new * (1 - before.probabilities[-1]) == pytest.approx(old * (1 - after.probabilities[-1]), abs=1e-9)


def test_a_floor_outside_0_to_1_is_refused() -> None:
    with pytest.raises(UsageError, match="not within 0 to 1"):
        with_floor(uniform(2), 1.5)
