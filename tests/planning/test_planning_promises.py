"""Plans under a link that is not known for sure: what they promise, and that they promise it everywhere alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accordion.artifact.ladder import Ladder
from accordion.artifact.manifest import Manifest
from accordion.errors import UnmeetableError
from accordion.planning import Outlook, Plan, PlanTable, Request, RequestError, make_plan
from accordion.planning.links import ConstantLink, LinkModel, RateLink, Trace, TraceLink

Version = tuple[Manifest, Ladder]
SIZES, QUALITIES = [100, 1000, 2000, 3000], [0.6, 0.8, 0.9]
OUTLOOK = Outlook((0.5, 0.9, 0.99), (0.1, 1.0), ((2000, 9000), (1500, 5000), (0, 3000)), round_trips=3, rtt_s=0.01)
VALID: dict[str, Any] = {"levels": [0.5, 0.9], "seconds": [0.1, 1], "bytes": [[5, 10], [0, 9]]}


@pytest.fixture
def net(version: Callable[..., Version]) -> Version:
    return version(SIZES, QUALITIES)


def test_the_configuration_arrives_with_the_confidence_asked_for(net: Version) -> None:
    fixed = net[0].size
    promised = {p: make_plan("net", *net, Request(deadline_s=1.0, confidence=p, link=OUTLOOK)) for p in (0.5, 0.9, 0.99)}
    for p, plan in promised.items():
        fitting = [rung.index for rung in net[1].configurations if fixed + rung.bytes <= OUTLOOK.promised(p, 1.0)]
        assert plan.configuration == fitting[-1]
        assert plan.promised is not None and plan.promised >= p
    assert promised[0.9].configuration < promised[0.5].configuration
    assert make_plan("net", *net, Request(deadline_s=1.0, link=OUTLOOK)).configuration == promised[0.5].configuration
    with pytest.raises(
        UnmeetableError, match=r"with 0\.995 confidence \(what is known of the link promises nothing with more"
    ) as caught:
        make_plan("net", *net, Request(deadline_s=1.0, confidence=0.995, link=OUTLOOK))
    assert caught.value.limit == "deadline_s"
    assert caught.value.nearest is not None and caught.value.nearest["promised"] >= 0.9


def test_the_expected_time_is_the_median_and_no_promise_without_a_deadline(net: Version) -> None:
    plan = make_plan("net", *net, Request(link=OUTLOOK, max_bytes=3100))
    assert plan.promised is None and "promised" not in plan.to_json()
    sent = net[0].size + plan.bytes_to_send
    assert plan.expected_s == pytest.approx(0.1 + 0.9 * (sent - 2000) / 7000)
    silent = Outlook((0.5,), (1.0,), ((0,),))
    assert make_plan("net", *net, Request(link=silent)).expected_s == 1e9


def test_a_deadline_shorter_than_the_round_trips_cannot_be_kept(net: Version) -> None:
    link = ConstantLink(1e9, 0.2)
    for request in (link.into(Request(deadline_s=0.3)), RateLink((1e9, 2e9), (0.2,)).into(Request(deadline_s=0.3))):
        with pytest.raises(UnmeetableError) as caught:
            make_plan("net", *net, request)
        assert caught.value.limit == "deadline_s"


def test_a_constant_link_is_planned_as_ever(net: Version) -> None:
    request = ConstantLink(5e4, 0.02).into(Request(deadline_s=0.9, confidence=0.9))
    assert request == Request(deadline_s=0.9, confidence=0.9, throughput_bps=5e4, rtt_s=0.02)
    # Described as an outlook it gives the same plan, and the same time as far as whole bytes allow.
    for rate in (2e4, 5e4, 8e4, 2e5):
        told = Request(deadline_s=0.9, link=LinkModel.outlook(ConstantLink(rate, 0.02), 0.9))
        try:
            plain = make_plan("net", *net, Request(deadline_s=0.9, throughput_bps=rate, rtt_s=0.02))
        except UnmeetableError as error:
            with pytest.raises(UnmeetableError) as caught:
                make_plan("net", *net, told)
            assert caught.value.limit == error.limit
            continue
        plan = make_plan("net", *net, told)
        assert (plan.configuration, plan.ranges) == (plain.configuration, plain.ranges)
        assert plan.expected_s == pytest.approx(plain.expected_s, rel=0.01)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_more_confidence_never_sends_more_and_more_time_never_less(net: Version, data: st.DataObject) -> None:
    rates = data.draw(st.lists(st.floats(0, 4e5), min_size=3, max_size=20))
    kind = data.draw(st.sampled_from(["rates", "trace"]))
    rtt = data.draw(st.sampled_from([0.0, 0.03]))
    link = RateLink(tuple(rates), (rtt,)) if kind == "rates" else TraceLink((Trace("t", 0.3, np.array(rates)),), (rtt,))
    table = PlanTable(*net)
    deadline = data.draw(st.floats(0.02, 0.8))

    def sent(confidence: float, within: float, outlook: Outlook) -> int:
        try:
            return table.plan("net", Request(deadline_s=within, confidence=confidence, link=outlook)).bytes_to_send
        except UnmeetableError:
            return -1

    outlook = link.outlook(deadline, confidences=(0.33, 0.66, 0.77))
    by_confidence = [sent(p, deadline, outlook) for p in (0.33, 0.66, 0.77, 0.9, 0.99)]
    assert by_confidence == sorted(by_confidence, reverse=True)
    by_time = [sent(0.66, within, outlook) for within in (deadline / 3, deadline / 2, deadline, deadline * 1.6, deadline * 3)]
    assert by_time == sorted(by_time)


def test_prefer_takes_the_least_of_what_is_not_measurably_worse(version: Callable[..., Version]) -> None:
    net = version(SIZES, [0.89, 0.885, 0.9])  # the intervals reach 0.02 to either side
    assert make_plan("net", *net, Request()).configuration == 2
    assert make_plan("net", *net, Request(prefer="bytes")).configuration == 0
    assert make_plan("net", *net, Request(prefer="macs", min_quality=0.895)).configuration == 2
    far = version(SIZES, [0.6, 0.885, 0.9])
    assert make_plan("net", *far, Request(prefer="macs")).configuration == 1
    frugal = make_plan("net", *net, Request(prefer="energy"))
    assert frugal.configuration == 0
    assert frugal.expected_j is not None and frugal.expected_j > 0
    with pytest.raises(RequestError, match=r"^prefer: "):
        Request(prefer="speed")


def test_a_link_survives_json_and_excludes_what_it_says_itself() -> None:
    request = Request(deadline_s=1.0, confidence=0.9, link=OUTLOOK, prefer="macs")
    assert Request.from_json(json.loads(json.dumps(request.to_json()))) == request
    for more in ({"throughput_bps": 1e6}, {"rtt_s": 0.1}):
        with pytest.raises(RequestError, match=r"^link: "):
            Request(link=OUTLOOK, **more)
        with pytest.raises(RequestError, match=r"^link: "):
            ConstantLink(1e6).into(Request(**more))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"levels": []}, "link.levels"),
        ({"levels": [0.9, 0.5]}, "link.levels"),
        ({"levels": [0.5, 1.0]}, "link.levels"),
        ({"levels": [0.5, "x"]}, "link.levels"),
        ({"levels": "x"}, "link.levels"),
        ({"seconds": [0.0, 1.0]}, "link.seconds"),
        ({"seconds": [1.0, 1.0]}, "link.seconds"),
        ({"seconds": [1, float("inf")]}, "link.seconds"),
        ({"seconds": [k + 1 for k in range(33)]}, "link.seconds"),
        ({"bytes": [[5, 10]]}, "link.bytes"),
        ({"bytes": [[5, 4], [0, 4]]}, "link.bytes"),
        ({"bytes": [[5, 10], [6, 10]]}, "link.bytes"),
        ({"bytes": [[5, 10], [0, 0.5]]}, "link.bytes"),
        ({"bytes": [[5, 10], [0, -1]]}, "link.bytes"),
        ({"bytes": [[5, 10**19], [0, 1]]}, "link.bytes"),
        ({"bytes": [[5], [0]]}, "link.bytes"),
        ({"bytes": [5, 10]}, "link.bytes"),
        ({"round_trips": -1}, "link.round_trips"),
        ({"rtt_s": float("nan")}, "link.rtt_s"),
        ({"more": 1}, "link.more"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(change: dict[str, Any], field: str) -> None:
    assert Request.from_json({"link": VALID}).link is not None
    with pytest.raises(RequestError) as caught:
        Request.from_json({"link": {**VALID, **change}})
    assert caught.value.field == field
    for other in (3, [], "x"):
        with pytest.raises(RequestError):
            Request.from_json({"link": other})


def test_a_promise_survives_the_wire(net: Version) -> None:
    plan = make_plan("net", *net, Request(deadline_s=1.0, link=OUTLOOK))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))).promised == plan.promised
