from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accordion.artifact.ladder import Ladder
from accordion.artifact.manifest import Manifest
from accordion.errors import FormatError, UnmeetableError
from accordion.planning import Held, Overhead, PlanTable, Request, RequestError, make_plan
from accordion.planning.energy import ladder_j, radio, transfer_j
from accordion.planning.outlook import Outlook

Version = tuple[Manifest, Ladder]
Maker = Callable[..., Version]

SIZES = [100, 1000, 2000, 3000]  # the ladder, then what configurations 0, 1, 2 add
QUALITIES = [0.6, 0.8, 0.9]


def plan(version: Version, **fields: Any) -> Any:
    return make_plan("net", *version, Request(**fields))


def test_no_limit_gives_the_best(version: Maker) -> None:
    manifest, ladder = made = version(SIZES, QUALITIES)
    answer = plan(made)
    assert (answer.name, answer.manifest, answer.configuration) == ("net", manifest.digest, 2)
    assert answer.quality == ladder.configurations[2].quality
    assert answer.bytes_to_send == answer.bytes_total == 6100
    assert answer.ranges == ((0, 6099),)
    assert answer.layers == manifest.layers[:4]  # without the document
    # 10 Mbit/s is assumed, no round trip is known
    assert answer.expected_s == pytest.approx((manifest.size + 6100) * 8 / 10e6)


def test_quality_need_not_rise(version: Maker) -> None:
    assert plan(version(SIZES, [0.6, 0.9, 0.8])).configuration == 1
    assert plan(version(SIZES, [0.6, 0.9, 0.9])).configuration == 1  # a tie goes to the fewer bytes


def test_min_quality_alone_sends_the_least(version: Maker) -> None:
    made = version(SIZES, QUALITIES)
    assert plan(made, min_quality=0.6).configuration == 0
    assert plan(made, min_quality=0.61).configuration == 1
    assert plan(made, min_quality=0.9).configuration == 2


def test_min_quality_with_an_upper_limit_takes_the_best(version: Maker) -> None:
    assert plan(version(SIZES, QUALITIES), min_quality=0.5, max_bytes=4000).configuration == 1


@pytest.mark.parametrize("direction, qualities", [("higher", [0.6, 0.88, 0.9]), ("lower", [1.3, 1.02, 1.0])])
def test_a_better_versions_quality_asks_for_more_and_a_worse_ones_for_no_less(
    version: Maker, direction: str, qualities: list[float]
) -> None:
    """What is second lies in the interval of the best, so it does, unless another version is so much better that it does not."""
    manifest, ladder = version(SIZES, qualities, direction=direction)
    table, measured = PlanTable(manifest, ladder), ladder.configurations[2].quality
    sign = 1 if direction == "higher" else -1

    def chosen(shift: float | None) -> int:
        low, high = measured.interval
        moved = None
        if shift is not None:
            by = sign * shift
            moved = replace(measured, value=measured.value + by, interval=(low + by, high + by))
        return table.plan("net", Request(prefer="bytes"), at_least=moved).configuration

    assert [chosen(shift) for shift in (None, 0.0, 0.01, 0.5)] == [1, 1, 2, 2]
    assert [chosen(shift) for shift in (-0.1, -0.5)] == [1, 1]


def test_min_quality_with_confidence_uses_the_worse_end_of_the_interval(version: Maker) -> None:
    made = version(SIZES, QUALITIES)  # the intervals reach 0.02 to either side
    assert plan(made, min_quality=0.79).configuration == 1
    assert plan(made, min_quality=0.79, confidence=0.95).configuration == 2
    with pytest.raises(UnmeetableError) as caught:
        plan(made, min_quality=0.89, confidence=0.95)
    assert caught.value.limit == "min_quality"


def test_where_lower_is_better_min_quality_is_an_upper_bound(version: Maker) -> None:
    made = version(SIZES, [30.0, 20.0, 10.0], direction="lower")
    assert plan(made).configuration == 2
    assert plan(made, min_quality=25).configuration == 1
    assert plan(made, min_quality=20.01, confidence=0.9).configuration == 2  # 20 + 0.02 is above the bound
    with pytest.raises(UnmeetableError) as caught:
        plan(made, min_quality=5)
    assert caught.value.nearest is not None
    assert caught.value.nearest["configuration"] == 2


def test_the_papers_example(version: Maker) -> None:
    """10 MB of model, 240 Mbps, 200 ms: at most 60 % is sent."""
    made = version([10_000, *[199_800] * 50], [0.5 + k / 200 for k in range(50)])
    assert made[1].configurations[-1].bytes == 10_000_000
    answer = plan(made, throughput_bps=240e6, deadline_s=0.2)
    assert 0.55 * 10_000_000 < answer.bytes_to_send <= 0.6 * 10_000_000
    assert answer.expected_s <= 0.2
    after = made[1].configurations[answer.configuration + 1]
    assert (made[0].size + after.bytes) * 8 / 240e6 > 0.2  # one more would be late


def test_round_trips_and_manifest_eat_the_deadline(version: Maker) -> None:
    manifest, ladder = version(SIZES, QUALITIES)
    request = Request(deadline_s=1.0, throughput_bps=8e3 * 4, rtt_s=0.1)  # 4000 bytes a second
    answer = make_plan("net", manifest, ladder, request, overhead=Overhead(1, 1, 50))
    assert answer.expected_s == pytest.approx(0.2 + (manifest.size + 50 + answer.bytes_to_send) / 4000)
    later = make_plan("net", manifest, ladder, request, overhead=Overhead(2, 1, 50))
    assert later.expected_s == pytest.approx(answer.expected_s + 0.1)
    assert make_plan("net", manifest, ladder, Request(), default_throughput_bps=1000).expected_s == pytest.approx(
        (manifest.size + 6100) * 8 / 1000
    )


def test_max_macs(version: Maker) -> None:
    assert plan(version(SIZES, QUALITIES), max_macs=2999).configuration == 1


def test_energy_that_the_ladder_states_counts_for_inference(version: Maker) -> None:
    made = version(SIZES, QUALITIES, extras=[{"energy_j": 1}, {"energy_j": {"value": 2.5, "low": 2, "high": 3}}, {"energy_j": 4}])
    assert plan(made, max_energy_j=3.0, radio="none").configuration == 1
    assert plan(made, max_energy_j=3.0, radio="none", inferences=2).configuration == 0
    assert plan(made, max_energy_j=7.0, radio="none", inferences=2).expected_j == pytest.approx(5.0)
    with pytest.raises(UnmeetableError) as caught:
        plan(made, max_energy_j=0.9, radio="none")
    assert caught.value.limit == "max_energy_j"
    assert caught.value.nearest is not None
    assert caught.value.nearest["expected_j"] == 1.0


def test_energy_counts_what_is_sent_at_the_links_rate(version: Maker) -> None:
    manifest, ladder = version(SIZES, QUALITIES)
    answer = plan((manifest, ladder), max_energy_j=100.0, throughput_bps=1e6)
    inference = ladder_j(ladder)[2].value
    assert answer.configuration == 2
    assert answer.expected_j == pytest.approx(transfer_j(radio("lte"), 6100 + manifest.size, answer.expected_s).value + inference)
    upgrade = plan((manifest, ladder), max_energy_j=100.0, throughput_bps=1e6, held=Held(manifest.digest, 1))
    assert upgrade.expected_j == pytest.approx(transfer_j(radio("lte"), 3000, 3000 * 8 / 1e6).value + inference)
    kept = plan((manifest, ladder), max_energy_j=100.0, held=Held(manifest.digest, 2))
    assert kept.expected_j == pytest.approx(inference)
    assert plan((manifest, ladder)).expected_j is None


def test_a_slower_link_never_plans_more_within_the_same_energy(version: Maker) -> None:
    made = version(SIZES, QUALITIES)
    whole = plan(made, max_energy_j=1e3, throughput_bps=1e6).expected_j
    assert whole is not None
    planned = [plan(made, max_energy_j=whole, throughput_bps=rate).configuration for rate in (0.5e6, 0.8e6, 1e6, 2e6)]
    assert planned == sorted(planned)
    assert planned[0] < planned[2] == 2


@pytest.mark.parametrize(
    "energy", [True, "1", -1, None, [1], {"value": 1}, {"value": 3, "low": 1, "high": 2}, 1e300, {"value": []}]
)
def test_energy_that_makes_no_sense_is_as_none(version: Maker, energy: object) -> None:
    made = version(SIZES, QUALITIES, extras=[{"energy_j": 1}, {"energy_j": energy, "arithmetic": ["int8"]}, {"energy_j": 3}])
    assert ladder_j(made[1]) == ladder_j(version(SIZES, QUALITIES)[1])


def test_max_bytes_bounds_what_is_sent(version: Maker) -> None:
    manifest, ladder = version(SIZES, QUALITIES)
    assert plan((manifest, ladder), max_bytes=3100).configuration == 1
    assert plan((manifest, ladder), max_bytes=3099).configuration == 0
    held = Held(manifest.digest, 1)
    assert plan((manifest, ladder), max_bytes=3000, held=held).configuration == 2
    assert plan((manifest, ladder), max_bytes=2999, held=held).configuration == 1


def test_an_upgrade_is_a_suffix(version: Maker) -> None:
    manifest, ladder = version(SIZES, QUALITIES)
    answer = plan((manifest, ladder), held=Held(manifest.digest, 0), throughput_bps=8000.0, rtt_s=0.01)
    assert answer.ranges == ((1100, 6099),)
    assert (answer.bytes_to_send, answer.bytes_total) == (5000, 6100)
    assert answer.layers == manifest.layers[2:4]
    assert answer.expected_s == pytest.approx(0.03 + 5.0)  # the manifest is there already


@pytest.mark.parametrize(
    ("fields", "configuration"),
    [({}, 2), ({"min_quality": 0.5}, 2), ({"max_bytes": 1}, 2), ({"max_macs": 2000}, 1)],
)
def test_nothing_is_sent_for_what_is_held(version: Maker, fields: dict[str, Any], configuration: int) -> None:
    manifest, ladder = version(SIZES, QUALITIES)
    answer = plan((manifest, ladder), held=Held(manifest.digest, 2), rtt_s=1.0, **fields)
    assert answer.configuration == configuration
    assert (answer.bytes_to_send, answer.ranges, answer.layers) == (0, (), ())
    assert answer.expected_s == pytest.approx(2.0)  # asking takes its time, sending none


def test_of_equal_ones_the_held_is_kept(version: Maker) -> None:
    manifest, ladder = version(SIZES, [0.9, 0.9, 0.9])
    assert plan((manifest, ladder), held=Held(manifest.digest, 1)).configuration == 1


def test_another_version_is_compared_by_digest(version: Maker) -> None:
    old = version([100, 1000, 2000, 3000], QUALITIES, contents=["ladder 1", "a", "b", "c"])
    new = version([100, 1000, 2000, 4000, 3000], [*QUALITIES, 0.95], contents=["ladder 2", "a", "x", "y", "c"])
    request = Request(held=Held(old[0].digest, 2))
    answer = make_plan("net", *new, request, held=old)
    assert answer.configuration == 3
    # the ladder and x, y are new; x and y stand side by side
    assert answer.ranges == ((0, 99), (1100, 7099))
    assert [layer.size for layer in answer.layers] == [100, 2000, 4000]
    assert answer.bytes_to_send == 6100
    assert answer.bytes_total == 10_100
    assert answer.expected_s == pytest.approx((new[0].size + 6100) * 8 / 10e6)
    # what the held configuration did not have yet is missing too
    assert make_plan("net", *new, Request(held=Held(old[0].digest, 0)), held=old).bytes_to_send == 9100


def test_the_held_version_must_be_known(version: Maker) -> None:
    old, new = version(SIZES, QUALITIES), version(SIZES, [0.1, 0.2, 0.3], contents=list("abcd"))
    with pytest.raises(RequestError, match=r"^held\.manifest: "):
        make_plan("net", *new, Request(held=Held(old[0].digest, 0)))
    with pytest.raises(RequestError, match=r"^held\.manifest: "):
        make_plan("net", *new, Request(held=Held("sha256:" + "0" * 64, 0)), held=old)
    for target in (old, new):
        with pytest.raises(RequestError, match=r"^held\.configuration: .*0 to 2, not 3"):
            make_plan("net", *target, Request(held=Held(old[0].digest, 3)), held=old)


def failed(made: Version, **fields: Any) -> tuple[str, int]:
    with pytest.raises(UnmeetableError) as caught:
        plan(made, **fields)
    assert caught.value.nearest is not None
    assert str(caught.value).startswith(caught.value.limit + ": ")
    assert "\n" not in str(caught.value)
    return caught.value.limit, caught.value.nearest["configuration"]


def test_the_limit_that_failed_is_named_with_the_nearest_plan(version: Maker) -> None:
    made = version(SIZES, QUALITIES)
    assert failed(made, deadline_s=0.001, throughput_bps=1e6) == ("deadline_s", 0)
    assert failed(made, max_bytes=1099) == ("max_bytes", 0)
    assert failed(made, max_macs=999) == ("max_macs", 0)
    assert failed(made, min_quality=0.91) == ("min_quality", 2)
    # each could be kept alone: the wish for quality gives way, and the nearest keeps the hard limits
    assert failed(made, min_quality=0.9, max_bytes=5000) == ("min_quality", 1)
    assert failed(made, min_quality=0.9, max_bytes=5000, max_macs=10**6) == ("min_quality", 1)
    # what nothing keeps is blamed before what only contradicts it
    assert failed(made, min_quality=0.9, max_bytes=1) == ("max_bytes", 2)
    assert failed(made, min_quality=0.99, max_bytes=1) == ("max_bytes", 0)


def test_a_negative_wish_for_a_metric_that_is_never_negative_is_nonsense(version: Maker) -> None:
    with pytest.raises(RequestError, match=r"^min_quality: "):
        plan(version(SIZES, QUALITIES), min_quality=-0.5)
    assert plan(version(SIZES, [-3.0, -2.0, -1.0]), min_quality=-2.0).configuration == 1


def test_ladder_and_manifest_must_agree(version: Maker) -> None:
    with pytest.raises(FormatError):
        PlanTable(version(SIZES, QUALITIES)[0], version([100, 1000, 2000, 3001], QUALITIES)[1])


def test_empty_layers_make_no_ranges(version: Maker) -> None:
    old = version([100, 0, 2000], [0.5, 0.6], contents=["l1", "empty", "x"])
    new = version([100, 10, 0, 20], [0.5, 0.6, 0.7], contents=["l2", "a", "nothing", "b"])
    answer = make_plan("net", *new, Request(held=Held(old[0].digest, 0)), held=old)
    assert answer.ranges == ((0, 129),)
    assert sum(layer.size for layer in answer.layers) == answer.bytes_to_send == 130


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_plan_keeps_its_limits_and_nothing_better_does(data: st.DataObject) -> None:
    maker = version_maker()
    count = data.draw(st.integers(1, 8))
    sizes = data.draw(st.lists(st.integers(0, 5000), min_size=count + 1, max_size=count + 1))
    qualities = data.draw(st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]), min_size=count, max_size=count))
    names = data.draw(st.lists(st.sampled_from("abcdef"), min_size=count + 1, max_size=count + 1))
    contents = [f"{name} {size}" for name, size in zip(names, sizes, strict=True)]
    manifest, ladder = maker(sizes, qualities, contents=contents)
    other = maker([7, *sizes[1:]], qualities, contents=["other ladder", *contents[1:]])
    fields: dict[str, Any] = {
        "deadline_s": data.draw(st.none() | st.floats(0.01, 10)),
        "throughput_bps": data.draw(st.none() | st.floats(1e3, 1e7)),
        "rtt_s": data.draw(st.none() | st.floats(0, 0.1)),
        "max_bytes": data.draw(st.none() | st.integers(1, 20_000)),
        "max_macs": data.draw(st.none() | st.integers(500, 9000)),
        "min_quality": data.draw(st.none() | st.sampled_from([0.1, 0.5, 0.95])),
    }
    held = data.draw(st.sampled_from([None, manifest, other[0]]))
    if held is not None:
        fields["held"] = Held(held.digest, data.draw(st.integers(0, count - 1)))
    request = Request(**fields)

    def fits(answer: Any) -> bool:
        return (
            # Where nothing has to be sent, what runs is there already, whatever the deadline.
            (request.deadline_s is None or not answer["bytes_to_send"] or answer["expected_s"] <= request.deadline_s)
            and (request.max_bytes is None or answer["bytes_to_send"] <= request.max_bytes)
            and (request.max_macs is None or ladder.configurations[answer["configuration"]].macs <= request.max_macs)
            and (request.min_quality is None or answer["quality"]["value"] >= request.min_quality)
        )

    try:
        answer = make_plan("net", manifest, ladder, request, held=other).to_json()
    except UnmeetableError as error:
        assert error.nearest is not None
        assert not fits(error.nearest)
        return
    assert fits(answer)
    assert sum(end - start + 1 for start, end in answer["ranges"]) == answer["bytes_to_send"]
    assert sum(layer["size"] for layer in answer["layers"]) == answer["bytes_to_send"] <= answer["bytes_total"]
    assert all(after[0] > before[1] + 1 for before, after in zip(answer["ranges"], answer["ranges"][1:], strict=False))
    if held is None and (request.min_quality is None or request.max_bytes or request.max_macs or request.deadline_s):
        for rung in ladder.configurations:
            if rung.quality.value > answer["quality"]["value"]:
                seconds = answer["expected_s"] + (rung.bytes - answer["bytes_to_send"]) * 8 / (request.throughput_bps or 10e6)
                late = request.deadline_s is not None and seconds > request.deadline_s * (1 - 1e-9)
                large = request.max_bytes is not None and rung.bytes > request.max_bytes
                heavy = request.max_macs is not None and rung.macs > request.max_macs
                assert late or large or heavy


_maker: list[Maker] = []


def version_maker() -> Maker:
    return _maker[0]


@pytest.fixture(autouse=True)
def _keep_maker(version: Maker) -> None:
    # hypothesis runs its examples within one call of the test, so the fixture is handed over once
    _maker[:] = [version]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    qualities=st.lists(st.sampled_from([0.5, 0.6, 0.7]), min_size=1, max_size=6),
    empty=st.sets(st.integers(1, 6)),
    deadline=st.none() | st.floats(1e-6, 0.05),
    most=st.none() | st.integers(1, 8000),
    rtt=st.none() | st.sampled_from([0.0, 0.001]),
    confidence=st.none() | st.just(0.9),
)
def test_the_short_way_comes_to_the_same(
    qualities: list[float],
    empty: set[int],
    deadline: float | None,
    most: int | None,
    rtt: float | None,
    confidence: float | None,
) -> None:
    """A bound on multiply-accumulates that bounds nothing has the long way taken."""
    manifest, ladder = version_maker()([100, *(0 if k in empty else 1000 for k in range(1, len(qualities) + 1))], qualities)
    table, overhead = PlanTable(manifest, ladder), Overhead(extra_bytes=50)

    def answer(**more: Any) -> Any:
        request = Request(deadline_s=deadline, max_bytes=most, rtt_s=rtt, confidence=confidence, throughput_bps=5e6, **more)
        try:
            return table.plan("net", request, overhead=overhead)
        except UnmeetableError as error:
            return error.limit, error.nearest

    assert answer() == answer(max_macs=10**18)


def test_a_plan_takes_hardly_more_steps_with_four_times_the_configurations(version: Maker) -> None:
    """How long one takes, benchmarks/planning.py measures; here calls are counted, which no other work on the machine changes."""
    calls = [_calls(version, k) for k in (55, 220)]
    assert 0 < calls[1] <= calls[0] + 8


def _calls(version: Maker, k: int) -> int:
    manifest, ladder = version([1000] * (k + 1), [0.5 + index / (4 * k) for index in range(k)])
    table = PlanTable(manifest, ladder)
    request = Request(deadline_s=0.1, throughput_bps=1e7, rtt_s=0.001, min_quality=0.5)
    table.plan("net", request)
    count = 0

    def counted(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        table.plan("net", request)
    finally:
        sys.setprofile(None)
    return count


def test_bytes_that_stand_there_twice_are_sent_once(version: Maker) -> None:
    manifest, ladder = version([10, 100, 100, 50], [0.5, 0.6, 0.7], contents=["l", "a", "a", "b"])
    whole = make_plan("net", manifest, ladder, Request())
    assert (whole.configuration, whole.bytes_to_send, whole.bytes_total) == (2, 160, 260)
    assert whole.ranges == ((0, 109), (210, 259))
    assert len({layer.digest for layer in whole.layers}) == len(whole.layers) == 3
    assert make_plan("net", manifest, ladder, Request(max_bytes=110)).configuration == 1
    assert PlanTable(manifest, ladder).best_within((0.0, 0.0, 1.0), None, 110) is None


@pytest.mark.parametrize(
    "link", [{"rtt_s": 0.05}, {"link": Outlook((0.5,), (0.1, 1.0), ((0, 10**6),), rtt_s=0.05)}, {"rtt_s": 0.05, "confidence": 0.9}]
)
def test_what_is_there_keeps_every_deadline(version: Maker, link: dict[str, Any]) -> None:
    manifest, ladder = version([10, 100, 100, 50], [0.5, 0.6, 0.7])
    held = Held(manifest.digest, 1)
    plan = make_plan("net", manifest, ladder, Request(deadline_s=0.001, held=held, **link))
    assert (plan.configuration, plan.bytes_to_send) == (1, 0)
    with pytest.raises(UnmeetableError):
        make_plan("net", manifest, ladder, Request(deadline_s=0.001, **link))
