from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accordion.errors import UsageError
from accordion.link_files import read_link, read_traces
from accordion.planning.links import (
    ConstantLink,
    Distribution,
    LinkError,
    RateLink,
    Trace,
    TraceLink,
    link_from,
    parse_link_file,
    parse_mahimahi,
    to_mahimahi,
)
from accordion.planning.outlook import Outlook

TRACES = Path(__file__).parents[3] / "shared" / "data" / "traces"
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason="the measured traces are not here (../shared/data/traces)")
STEPS = Trace("steps", 1.0, np.array([8e3, 0.0, 16e3, 8e3]))  # 1000, 0, 2000 and 1000 bytes


def test_what_a_trace_delivers_from_when_to_when() -> None:
    assert STEPS.seconds == 4.0
    assert STEPS.between(0, 4) == 4000
    assert STEPS.between(0.5, 2.5) == pytest.approx(500 + 0 + 1000)
    assert STEPS.between(3.5, 4.5) == pytest.approx(500 + 500)  # it begins again
    assert STEPS.when(0.0, 1000) == pytest.approx(1.0)  # before the outage, not after it
    assert STEPS.when(0.0, 1001) == pytest.approx(2.0005)
    assert STEPS.when(3.0, 1000 + 4000 + 500) == pytest.approx(1 + 4 + 0.5)
    assert Trace("out", 1.0, np.zeros(3)).when(0.0, 1) == math.inf


@pytest.mark.parametrize("megabits", [[0, 12, 30], [0, 4, 0, 4], [0, 1.1, 0, 2.7], [0, 12.345678, 30]])
@pytest.mark.parametrize("chunk", [1000, 1250, 5000, 65536])
def test_a_trace_that_begins_with_an_outage_is_replayed_for_ever(megabits: list[float], chunk: int) -> None:
    """Whole rounds end at its border, up to rounding, where no rate is."""
    trace, at = Trace("any", 0.1, np.array(megabits) * 1e6), 0.0
    for _ in range(400):
        seconds = trace.when(at, chunk)
        assert trace.between(at, at + seconds) == pytest.approx(chunk, abs=0.01)
        at += seconds


@pytest.mark.parametrize(("dt", "count"), [(1 / 3, 5), (1 / 30, 50), (0.1, 20)])
def test_an_outlook_reaches_to_the_end_of_the_longest_trace(dt: float, count: int) -> None:
    trace = Trace("any", dt, np.full(count, 1e6))
    assert TraceLink((trace,)).outlook().seconds[-1] == trace.seconds


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.sampled_from([0.0, 1e3, 5e5, 3e6]), min_size=1, max_size=12).filter(any),
    st.floats(0, 30),
    st.floats(0.5, 1e6),
)
def test_when_is_the_moment_at_which_the_bytes_have_arrived(rates: list[float], start: float, count: float) -> None:
    trace = Trace("any", 0.5, np.array(rates))
    seconds = trace.when(start, count)
    assert trace.between(start, start + seconds) == pytest.approx(count, rel=1e-6, abs=1e-3)


def test_the_bytes_within_a_window_are_those_of_all_moments() -> None:
    link = TraceLink((STEPS,))
    found = link.bytes_within(1.0)
    exact = np.array([STEPS.between(start, start + 1) for start in np.linspace(0, 3, 3001)])
    assert found.mean() == pytest.approx(exact.mean(), rel=0.1)
    assert found.guaranteed(0.5) == pytest.approx(np.quantile(exact, 0.5), rel=0.2)
    assert found.values.min() < 200 and found.values.max() > 1900
    with pytest.raises(UsageError, match="no trace is as long"):
        link.bytes_within(4.5)


def test_round_trips_pass_first() -> None:
    link = TraceLink((Trace("flat", 0.1, np.full(100, 8e6)),), (0.1,))
    assert link.bytes_within(1.0, round_trips=3).guaranteed(0.99) == pytest.approx(0.7e6)
    assert link.bytes_within(0.2, round_trips=3).guaranteed(0.99) == 0
    assert ConstantLink(8e6, 0.1).bytes_within(1.0, 3).guaranteed(0.99) == pytest.approx(0.7e6)


def test_each_trace_counts_alike_and_a_new_one_may_be_worse() -> None:
    fast, slow = Trace("fast", 1.0, np.full(1000, 8e6)), Trace("slow", 1.0, np.full(10, 8e3))
    known = TraceLink((fast, slow)).bytes_within(1.0)
    assert known.at_least(2000) == pytest.approx(0.5)
    new = TraceLink((fast, slow), fresh=True).bytes_within(1.0)
    assert new.known == pytest.approx(2 / 3)
    assert new.at_least(2000) == pytest.approx(1 / 3)
    assert new.guaranteed(0.6) == pytest.approx(1000)
    assert new.guaranteed(0.7) == 0  # two traces promise two thirds at most


def test_a_distribution_knows_its_tail() -> None:
    found = Distribution.of([3, 1, 2], [0.2, 0.5, 0.3])
    assert [found.at_least(value) for value in (0, 1, 1.5, 2, 3, 4)] == pytest.approx([1, 1, 0.5, 0.5, 0.2, 0])
    assert [found.guaranteed(share) for share in (0.1, 0.2, 0.5, 0.51, 1.0)] == [3, 3, 2, 1, 1]
    assert found.mean() == pytest.approx(1.7)
    for values, weights in (([], None), ([-1], None), ([math.nan], None), ([1, 2], [1]), ([1], [2]), ([1, 2], [1, -1])):
        with pytest.raises(UsageError):
            Distribution.of(values, weights)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_an_outlook_promises_less_at_more_confidence_and_more_with_more_time(data: st.DataObject) -> None:
    rates = data.draw(st.lists(st.floats(0, 1e8), min_size=4, max_size=40))
    link = TraceLink((Trace("one", 0.5, np.array(rates)), STEPS), (0.01, 0.2), fresh=data.draw(st.booleans()))
    within = data.draw(st.floats(0.05, 1.5))
    outlook = link.outlook(within, confidences=(0.42,))
    assert Outlook.from_json(json.loads(json.dumps(outlook.to_json()))) == outlook
    distribution = link.bytes_within(within, 3.0)
    for level in outlook.levels:
        assert outlook.promised(level, within) <= distribution.guaranteed(level)
        assert distribution.at_least(outlook.promised(level, within)) >= level - 1e-9 or outlook.promised(level, within) == 0
    moments = sorted(data.draw(st.lists(st.floats(0, 20), min_size=2, max_size=6)))
    counts = [outlook.promised(0.42, moment) for moment in moments]
    assert counts == sorted(counts)
    levels = sorted(data.draw(st.lists(st.floats(0.01, 0.9999), min_size=2, max_size=6)))
    assert (falling := [outlook.promised(level, within) for level in levels]) == sorted(falling, reverse=True)


def test_the_files_of_links(tmp_path: Path) -> None:
    def link(text: str, choice: str | None = None) -> Any:
        return link_from([("it", text.encode(), choice)])

    assert link('{"accordion_link": 1, "kind": "constant", "throughput_bps": 1e6, "rtt_s": 0.1}') == ConstantLink(1e6, 0.1)
    several = link('{"accordion_link": 1, "kind": "distribution", "throughput_bps": [8, 16], "weights": [0.25, 0.75]}')
    assert several.bytes_within(1.0).at_least(2) == pytest.approx(0.75)
    guess = link('{"accordion_link": 1, "kind": "estimate", "throughput_bps": 1000, "errors": [-0.5, 0, 1.0]}')
    assert sorted(guess.rates_bps) == [500, 1000, 2000]  # an error of +100 % means that half of it was there
    lines = '{"id": "a", "dt_s": 1, "mbps": [1, 2, 0]}\n\n{"id": "b", "dt_s": 0.5, "mbps": [3], "connect_rtt_ms": 40}\n'
    both = link(lines)
    assert [trace.name for trace in both.traces] == ["a", "b"] and both.fresh
    assert both.traces[1].rtts_s == (0.04,)
    assert not link(lines, "b").fresh
    own = link(json.dumps({"accordion_link": 1, "kind": "traces", "traces": [json.loads(lines.splitlines()[0])], "rtt_s": 0.02}))
    assert own.round_trip_s() == 0.02
    tests = "carrier,radio_type,connections,downlink_mbps,latency_ms\nV,5G,single,100,20\nV,4G,single,10,50\n"
    assert link(tests).bytes_within(1.0).at_least(2e6) == 0.5
    assert link(tests, "V/4G").rates_bps == (10e6,)
    (tmp_path / "t.jsonl").write_text(lines)
    (tmp_path / "r:t.jsonl").write_text('{"id": "a", "rtt_ms": [10, null, 30]}\n')
    named = read_link(f"{tmp_path}/t.jsonl:a", f"{tmp_path}/r:t.jsonl")
    assert named.rtts_s == (0.01, 0.03)  # type: ignore[attr-defined]
    assert [trace.name for trace in read_traces(f"{tmp_path}/t.jsonl")] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("hello", "no number of milliseconds"),
        ("5\n3\n", "time does not run backwards"),
        ("0\n0\n", "takes no time"),
        ("-4\n", "no number"),
        ("999999999999\n", "too long"),
        ('{"id": "a", "dt_s": 1, "mbps": []}', "is empty"),
        ('{"id": "a", "dt_s": 1, "mbps": [1, -2]}', "'mbps' holds '-2'"),
        ('{"id": "a", "dt_s": 1, "mbps": [1, NaN]}', "NaN is not a JSON number"),
        ('{"id": "a", "dt_s": 1, "mbps": [1, 1e13]}', "'mbps' holds"),
        ('{"id": "a", "dt_s": 1, "mbps": [1, null]}', "'mbps' holds 'None'"),
        ('{"id": "a", "dt_s": 1, "mbps": [true]}', "'mbps' holds"),
        ('{"id": "a", "dt_s": 0, "mbps": [1]}', "'dt_s'"),
        ('{"id": "a", "mbps": [1]}', "'dt_s'"),
        ('{"id": "a", "dt_s": 1}', "neither 'mbps' nor 'rtt_ms'"),
        ('{"id": "a", "rtt_ms": [3]}', "only round trips"),
        ('{"id": 3, "dt_s": 1, "mbps": [1]}', "'id' is not a text"),
        ('{"id": "a", "dt_s": 1, "mbps": [1]}\n{"id"', "line 2"),
        ("downlink_mbps,latency_ms\n", "no test"),
        ("downlink_mbps,latency_ms\n1,x\n", "'latency_ms' holds 'x'"),
        ("downlink_mbps\n1\n", "'latency_ms' holds"),
        ("downlink_mbps,latency_ms\n-1,2\n", "'downlink_mbps' holds '-1'"),
        ('{"accordion_link": 2}', "version"),
        ('{"accordion_link": 1, "kind": "x"}', "'kind'"),
        ('{"accordion_link": 1, "kind": "constant"}', "'throughput_bps' holds"),
        ('{"accordion_link": 1, "kind": "constant", "throughput_bps": 0}', "brings nothing"),
        ('{"accordion_link": 1, "kind": "constant", "throughput_bps": [1, 2]}', "one throughput"),
        ('{"accordion_link": 1, "kind": "constant", "throughput_bps": 1, "more": 1}', "has no 'more'"),
        ('{"accordion_link": 1, "kind": "distribution", "throughput_bps": []}', "is empty"),
        ('{"accordion_link": 1, "kind": "distribution", "throughput_bps": [1], "weights": [2]}', "weights"),
        ('{"accordion_link": 1, "kind": "estimate", "throughput_bps": 1, "errors": [-1]}', "above -1"),
        ('{"accordion_link": 1, "kind": "traces", "traces": []}', "'traces' is not a list"),
        ('{"accordion_link": 1, "kind": "traces", "traces": [{"id": "a", "rtt_ms": [1]}]}', "no rates"),
        ('{"accordion_link": 1, "kind": "traces", "traces": [{"dt_s": 1, "mbps": [1]}], "fresh": 1}', "'fresh'"),
        ("\ufffd" + chr(0), "no number of milliseconds"),
    ],
)  # fmt: skip
def test_a_file_that_describes_no_link_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(LinkError) as caught:
        link_from([("the file", text.encode(), None)])
    assert said in str(caught.value) and "the file" in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_other_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LinkError, match="no text"):
        read_link(str(tmp_path / "a"))
    for name in (str(tmp_path / "none"), str(tmp_path / "none:x"), str(tmp_path), ":", ""):
        with pytest.raises(LinkError, match="no file"):
            read_link(name)
    one = ("one", b'{"id": "a", "dt_s": 1, "mbps": [1]}', None)
    with pytest.raises(LinkError, match="no trace 'z'; there are a"):
        link_from([(*one[:2], "z")])
    with pytest.raises(LinkError, match="not several kinds"):
        link_from([one, ("two", b'{"accordion_link": 1, "kind": "constant", "throughput_bps": 1}', None)])


@settings(deadline=None, max_examples=150)
@given(st.one_of(st.binary(max_size=60), st.text(alphabet='{}[]":,0123456789.-emdtbpsi_ \n', max_size=80).map(str.encode)))
def test_any_bytes_are_a_link_or_refused(data: bytes) -> None:
    try:
        parse_link_file(data, "it")
    except LinkError as error:
        assert "\n" not in str(error)


def test_links_that_make_no_sense() -> None:
    for make in (
        lambda: ConstantLink(0),
        lambda: ConstantLink(-1),
        lambda: ConstantLink(math.nan),
        lambda: ConstantLink(1, -1),
        lambda: RateLink(()),
        lambda: RateLink((1.0,), ()),
        lambda: RateLink((1.0, 2.0), (0.1,), (1.0,)),
        lambda: TraceLink(()),
        lambda: Trace("x", 0, np.ones(1)),
        lambda: Trace("x", 1, np.array([])),
        lambda: Trace("x", 1, np.array([math.nan])),
        lambda: Trace("x", 1, np.array([-1.0])),
        lambda: Trace("x", 1, np.ones(2), (math.inf,)),
        lambda: ConstantLink(1).bytes_within(0),
        lambda: ConstantLink(1).bytes_within(math.nan),
        lambda: TraceLink((STEPS,)).outlook(9.0),
    ):
        with pytest.raises(UsageError):
            make()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(lambda counts: counts[-1] > 0))
def test_mahimahi_there_and_back(counts: list[int]) -> None:
    trace = Trace("t", 0.1, np.array(counts) * 1500 * 8 / 0.1)
    again = parse_mahimahi(to_mahimahi(trace), "t")
    np.testing.assert_allclose(again.rates_bps, trace.rates_bps)


@needs_traces
def test_the_measured_traces_are_read(tmp_path: Path) -> None:
    """Counts and units as the data's README states them."""
    for name, count, median in (
        ("irish-5g-download", 14, 12),
        ("lumos5g-4g", 58, 34.5),
        ("lumos5g-mmwave-5g", 81, 411),
        ("mahimahi-lte-100ms", 5, 6.1),
        ("tmobile-5g-100ms", 195, 139),
        ("tmobile-5g-crosscountry-500ms", 274, 230),
    ):
        traces = read_traces(str(TRACES / f"{name}.jsonl"))
        assert len(traces) == count
        assert np.median(np.concatenate([trace.rates_bps for trace in traces])) / 1e6 == pytest.approx(median, rel=0.02)
    link = read_link(str(TRACES / "tmobile-5g-100ms.jsonl"), str(TRACES / "tmobile-5g-rtt.jsonl"))
    assert link.round_trip_s() == pytest.approx(0.0494, abs=1e-3)
    tests = read_link(f"{TRACES / 'speedtest-us.csv'}:Verizon/5G-NSA-mmWave/single")
    assert isinstance(tests, RateLink)
    assert np.median(tests.rates_bps) / 1e6 == pytest.approx(494, abs=1)
    driving = read_traces(str(TRACES / "mahimahi-lte-100ms.jsonl"))[0]
    np.testing.assert_allclose(parse_mahimahi(to_mahimahi(driving), "back").rates_bps, driving.rates_bps, atol=1e-3)


@needs_traces
def test_promises_to_new_traces_are_kept() -> None:
    """From half of the traces to the other half; benchmarks/calibration.py asks it of all files, times and estimators."""
    traces = read_traces(str(TRACES / "tmobile-5g-crosscountry-500ms.jsonl"))
    rng = np.random.default_rng(11)
    kept: dict[float, list[float]] = {0.8: [], 0.9: [], 0.95: []}
    for _ in range(8):
        order = rng.permutation(len(traces))
        for part in (order[::2], order[1::2]):
            fitted = TraceLink(tuple(traces[k] for k in part), fresh=True).bytes_within(1.0)
            held = TraceLink(tuple(traces[k] for k in np.setdiff1d(order, part))).bytes_within(1.0)
            for p, observed in kept.items():
                observed.append(held.at_least(fitted.guaranteed(p)))
    for p, observed in kept.items():
        assert p - 0.01 <= np.mean(observed) <= p + 0.02
