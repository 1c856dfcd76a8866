"""Delivered accuracy, by hand: staircases, links whose bytes can be counted, verdicts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accordion.errors import FormatError, UsageError
from accordion.planning.energy import inference_j, radio, transfer_j
from experiments.comparisons.outcome import File, Result, Training, read_results
from experiments.comparisons.outcome import Row as ComparisonRow
from experiments.delivery.cases import DEADLINES_S, MATCHED, NAME, PARTS, RTT_FILE, SCALES, SETS, compared, part
from experiments.delivery.encodings import Encoding, Rung, encode, read_encodings, read_package, wanted, write
from experiments.delivery.energy import bills, read_bills
from experiments.delivery.make import encode_all, make, read_guarantees
from experiments.delivery.policies import FIXED, demand_matched, guarantee, write_policies
from experiments.delivery.simulate import ALL, FILE, ZOO, Row, read_rows, simulate, write_rows
from experiments.delivery.verdicts import MATCHED_WAY, Delivered, of_oracle, over_best_alone, over_best_compressed, over_fixed
from experiments.delivery.ways import (
    COMPACT,
    ORACLE,
    PLAIN,
    SHRUNK,
    Way,
    alone,
    alone_in_int4,
    best_alone,
    compressed,
    in_turn,
    is_alone,
    prefixes,
    ways_of,
)
from experiments.figures import delivered as figure
from experiments.outcome import Count, Outcome
from experiments.recipes import BRIEF
from experiments.series import collect
from experiments.tables import delivered as tables
from tests.experiments.conftest import Make

RTT_S = 0.05
SECONDS = 30


def encoding(run: str, sizes: Sequence[int], accuracies: Sequence[float], codec: str = "float32") -> Encoding:
    rungs = tuple(
        Rung((index + 1, 0, 0), codec, size, 1000 * (index + 1), accuracy, 10_000)
        for index, (size, accuracy) in enumerate(zip(sizes, accuracies, strict=True))
    )
    return Encoding(run, codec, "sha256:" + "0" * 64, 10, rungs)


def brief(outcome: Outcome) -> Outcome:
    return replace(outcome, config=replace(outcome.config, recipe=BRIEF))


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Every set as four steady links, of 1, 2, 4 and 8 Mbit/s, and one round trip for all."""
    for name in SETS:
        lines = [{"id": f"{name}-{rate}", "dt_s": 0.5, "mbps": [rate] * (2 * SECONDS)} for rate in (1, 2, 4, 8)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / RTT_FILE).write_text(json.dumps({"id": "a", "rtt_ms": [RTT_S * 1000] * 5}) + "\n")
    return tmp_path


def test_a_staircase_delivers_what_has_arrived() -> None:
    way = Way("x", (100, 300), (0.5, 0.9))
    arrived = np.array([0.0, 99.0, 100.0, 299.0, 300.0, 1e9])
    assert way.delivered(arrived).tolist() == [0.0, 0.0, 0.5, 0.5, 0.9, 0.9]
    assert way.delivered(np.array([999.0, 1000.0]), 10).tolist() == [0.0, 0.5]


def test_the_device_runs_what_was_best_on_the_validation_split() -> None:
    found = prefixes("x", encoding("r", [100, 200, 300], [0.5, 0.4, 0.6]), [0.5, 0.55, 0.3])
    assert found.accuracy == (0.5, 0.5, 0.6)
    assert found.bytes == (110, 210, 310)
    assert prefixes("x", encoding("r", [100, 200, 300], [0.5, 0.4, 0.6])).accuracy == (0.5, 0.4, 0.6)


def test_separate_networks_are_whole_or_nothing_and_share_nothing() -> None:
    small, large = encoding("a", [100], [0.8]), encoding("b", [400], [0.9])
    assert alone("a", large).bytes == (410,)
    assert in_turn("t", [large, small]).bytes == (110, 520)
    oracle = best_alone([alone("a", small), alone("b", large), alone("c", encoding("c", [200], [0.7]))])
    assert oracle.delivered(np.array([109.0, 110.0, 250.0, 410.0])).tolist() == [0.0, 0.8, 0.8, 0.9]


def test_steady_links_deliver_what_can_be_counted(traces: Path) -> None:
    # After three round trips of 50 ms, 0.15 s of the first 0.3 s are left: 1 Mbit/s brings 18,750 bytes.
    ways = {("g", 0): [Way("x", (18_000, 37_000), (0.4, 0.8))]}
    rows = simulate(ways, traces)
    row = next(r for r in rows if (r.traces, r.part, r.scale) == (MATCHED[0], ALL, 1))
    assert row.accuracy[DEADLINES_S.index(0.15)] == 0.0
    assert row.accuracy[DEADLINES_S.index(0.3)] == pytest.approx((0.4 + 3 * 0.8) / 4)
    assert row.accuracy[-1] == pytest.approx(0.8)
    tenfold = next(r for r in rows if (r.traces, r.part, r.scale) == (MATCHED[0], ALL, 10))
    assert tenfold.accuracy[DEADLINES_S.index(0.3)] == 0.0
    fitted, held_back = (next(r for r in rows if r.part == which and r.scale == 1) for which in PARTS)
    # Fitted are 1 and 4 Mbit/s, held back 2 and 8.
    assert fitted.accuracy[DEADLINES_S.index(0.3)] == pytest.approx((0.4 + 0.8) / 2)
    assert held_back.accuracy[DEADLINES_S.index(0.3)] == pytest.approx(0.8)
    assert len(rows) == (len(SETS) + len(PARTS)) * len(SCALES)


def test_parts_are_by_turns() -> None:
    assert part(("a", "b", "c"), PARTS[0]) == ("a", "c")  # type: ignore[arg-type]
    assert part(("a", "b", "c"), PARTS[1]) == ("b",)  # type: ignore[arg-type]


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [Row("g", "t", ALL, 1, "x", 0, (0.1,) * len(DEADLINES_S))]
    assert read_rows(write_rows(rows, tmp_path / "data" / "d.json")) == rows
    assert read_rows(tmp_path / "none.json") == []
    (tmp_path / "bad.json").write_text('{"schema_version": 1, "deadlines_s": [1], "rows": []}')
    with pytest.raises(FormatError, match="does not say what was delivered"):
        read_rows(tmp_path / "bad.json")


def test_the_matched_policy_is_how_often_each_is_the_largest(make: Make, traces: Path) -> None:
    outcome = make("ResNet", 0, [400, 300, 200, 100], experiment="delivered")
    value = json.loads(demand_matched(outcome, traces))
    # Ten times 10, 25, 50 and 100 kB over steady 1 and 4 Mbit/s. Of six deadlines: at 0.15 s nothing; 1 Mbit/s brings 18,750
    # bytes in 0.3 s, 43,750 in 0.5 s, 106,250 in 1 s, 231,250 in 2 s, 606,250 in 5 s; 4 Mbit/s four times as much.
    slow, fast = [0, 0, 1, 1, 3], [0, 1, 2, 3, 4]  # how many of the four arrive
    counts = [sum(n == k + 1 for n in (*slow, *fast)) for k in range(4)]
    assert value["probabilities"] == pytest.approx([count / sum(counts) for count in counts])
    assert value["made"]["nothing"] == pytest.approx(1 - sum(counts) / 12)
    assert demand_matched(outcome, traces) == demand_matched(outcome, traces)


def test_the_guarantee_is_measured_against_the_best_fixed_policy(make: Make, tmp_path: Path, traces: Path) -> None:
    one = make("CoML-05", 0, [400, 300, 200, 100], validation=[200, 150, 100, 50])
    other = make("uniform", 0, [380, 310, 220, 140], validation=[190, 155, 110, 70])
    value = json.loads(guarantee([one, other]))
    assert value["references"] == [0.38, 0.3, 0.2, 0.1]
    assert value["certify"] == "test"
    with pytest.raises(UsageError, match="run next --only resnet20-cifar10-brief"):
        write_policies([one], tmp_path / "policies", traces)
    runs = [brief(make(scheme, 0, [400, 300, 200, 100])) for scheme in ("ResNet", *FIXED)]
    assert [path.name for path in write_policies(runs, tmp_path / "policies", traces)] == ["demand-matched.json", "guarantee.json"]


def delivered(name: str, which: str, scale: int, way: str, value: float, seed: int = 0) -> Row:
    return Row(NAME, name, which, scale, way, seed, (value,) * len(DEADLINES_S))


def test_verdicts_compare_with_the_best_rival() -> None:
    name, scale = MATCHED
    rows = [
        delivered(name, PARTS[0], scale, MATCHED_WAY, 0.7),
        delivered(name, PARTS[0], scale, "CoML-05", 0.6),
        delivered(name, PARTS[0], scale, SHRUNK, 0.65),
        delivered(name, PARTS[1], scale, MATCHED_WAY, 0.6),
        delivered(name, PARTS[1], scale, "CoML-05", 0.61),
        delivered(name, ALL, 1, COMPACT, 0.89),
        delivered(name, ALL, 1, "ResNet-8 alone, int8", 0.85),
        delivered(name, ALL, 1, "ResNet-20 alone, float32", 0.9),
        delivered(name, ALL, 1, ORACLE, 0.905),
        delivered(name, ALL, 1, "compressed: 75 % pruned, int8", 0.91),
        delivered(name, ALL, 1, "compressed: resnet20, int4", 0.5),
    ]
    found = Delivered(rows, NAME)
    assert [(gap.where, gap.rival, round(gap.points, 6)) for gap in over_fixed(found)] == [
        (PARTS[1], "CoML-05", -1.0),
        (PARTS[0], SHRUNK, 5.0),
    ]
    assert {(gap.rival, round(gap.points, 6)) for gap in over_best_alone(found)} == {("ResNet-20 alone, float32", -1.0)}
    assert {gap.rival: round(gap.points, 6) for gap in over_best_compressed(found)} == {"compressed: 75 % pruned, int8": -2.0}
    assert len(of_oracle(found)) == len(DEADLINES_S)
    text = "\n".join(tables.target_lines(rows))
    assert "held back traces of lumos5g-4g, bytes × 10 | 60.00 % against 61.00 % (CoML-05): -1.00 points | missed" in text
    assert "fitted traces of lumos5g-4g, bytes × 10 | 70.00 % against 65.00 % (ResNet, shrunk): +5.00 points | met" in text
    assert "≥ best single separate network at every deadline | 0 of 6 cases" in text
    assert "≥ 98 % of the oracle | 6 of 6 cases; lowest: 98.3 %" in text


def test_ways_are_compared_over_the_seeds_that_both_have() -> None:
    name, scale = MATCHED
    rows = [delivered(name, PARTS[0], scale, MATCHED_WAY, 0.60, 0)]
    # At the one seed that both have, the fixed policy is better; another seed of it alone is much worse.
    rows += [delivered(name, PARTS[0], scale, "CoML-05", value, seed) for seed, value in ((0, 0.61), (1, 0.40))]
    (gap,) = over_fixed(Delivered(rows, NAME))
    assert (gap.rival, round(gap.points, 6)) == ("CoML-05", -1.0)
    assert Delivered(rows, NAME).seeds_of("CoML-05") == 2


def test_seeds_are_taken_together() -> None:
    rows = [delivered("t", ALL, 1, "x", 0.5, 0), delivered("t", ALL, 1, "x", 0.7, 1)]
    mean = Delivered(rows, NAME).mean("t", ALL, 1, "x")
    assert mean is not None and mean.mean == pytest.approx(0.6) and mean.sd == pytest.approx(0.1414, abs=1e-3)


def test_without_data_nothing_is_claimed(tmp_path: Path) -> None:
    assert tables.lines([]) == tables.target_lines([]) == tables.guarantee_lines({}) == ["Nothing of this has run yet."]
    assert figure.draw([], tmp_path) is None


def test_ways_tables_and_picture_from_outcomes(make: Make, traces: Path, tmp_path: Path) -> None:
    plain = brief(make("ResNet", 0, [900, 700, 400, 100]))
    coml = brief(make("CoML-05", 0, [400, 300, 200, 120]))
    learned = brief(make("balanced", 0, [400, 300, 200, 110], experiment="delivered"))
    small = brief(make("alone", 0, [150], experiment="reference", network="resnet8", shapes=[(1, 1, 1)]))
    elsewhere = brief(make("CoML-03", 0, [400, 300, 200, 120], network="resnet56"))
    other_recipe, change = make("CoML-03", 0, [400, 300, 200, 120]), brief(make("joint", 0, [4, 3, 2, 1], experiment="ablation"))
    tax = brief(make("alone", 0, [150], experiment="reference", network="resnet3-0-0", shapes=[(3, 0, 0)]))
    outcomes = [plain, coml, learned, small]
    assert compared([elsewhere, *outcomes, other_recipe, change, tax]) == outcomes
    sizes, data = [10_000, 25_000, 50_000, 100_000], tmp_path / "data"
    for one, codec in wanted(outcomes):
        errors = [row.test.error for row in one.configurations]
        found = encoding(one.name, sizes[-len(errors) :], [1 - error for error in errors], codec)
        write(found, data / "encodings")
    assert read_encodings(data / "encodings").keys() == {f"{one.name}-{codec}" for one, codec in wanted(outcomes)}
    names = [way.name for way in ways_of(outcomes, read_encodings(data / "encodings"))]
    assert {PLAIN, SHRUNK, "CoML-05", COMPACT, ORACLE, "ResNet-8 alone, int8", "ResNet-20 alone, float32"} <= set(names)
    assert sum(map(is_alone, names)) == 4
    rows = tuple(
        ComparisonRow(family, label, (File("f", size, "d"),), 1, 1.0, Count(wrong, 1000), Count(wrong, 1000))
        for family, label, size, wrong in (
            ("pruned", "75 % pruned, int8", 9000, 110),
            ("low rank", "50 % of the weights of blocks, int8", 12_000, 120),
        )
    )
    for seed, method in ((0, "pruned"), (1, "low-rank"), (0, "alone")):
        training = Training(18, 1e12, 60.0)
        Result(f"{method}-{seed}", method, "x", "cifar10", "resnet20", "brief", seed, {}, training, rows).write(
            data / "comparisons"
        )
    small = tuple(
        ComparisonRow("any", f"{label}, {codec}", (File("f", 500, "d"),), 1, 1.0, Count(150, 1000), Count(150, 1000))
        for label in ("resnet8",)
        for codec in ("int8", "int4")
    )
    for seed in (0, 1):
        Result(f"small-{seed}", "alone", "resnet8", "cifar10", "resnet20", "brief", seed, {}, Training(18, 1.0, 1.0), small).write(
            data / "comparisons"
        )
    in_int4 = alone_in_int4(read_results(data / "comparisons"), 0, 10)
    assert [(way.name, way.bytes, way.accuracy) for way in in_int4] == [("ResNet-8 alone, int4", (510,), (0.85,))]
    assert is_alone(in_int4[0].name)
    extra = compressed(read_results(data / "comparisons"), 0, 10)
    assert [(way.name, way.bytes, way.accuracy) for way in extra] == [
        ("compressed: 75 % pruned, int8", (9010,), (0.89,)),
        ("compressed: low rank, 50 % of the weights of blocks, int8", (12_010,), (0.88,)),
    ]
    path = make_data(outcomes, traces, data)
    found_rows = read_rows(path)
    assert {row.group for row in found_rows} == {NAME, ZOO}
    assert {way.name for way in (*extra, *in_int4)} <= {row.way for row in found_rows}
    assert {bill.way for bill in read_bills(data / "delivered" / "energy.json")} >= {PLAIN, COMPACT}
    text = "\n".join(tables.lines(found_rows))
    assert "bytes × 10, traces held back, by deadline" in text and "| CoML-05 |" in text and "resnet56-cifar10-compact" in text
    drawn = figure.draw(found_rows, tmp_path)
    assert drawn is not None
    svg = drawn[1].read_text()
    assert "deadline (s)" in svg and "delivered accuracy (%)" in svg and COMPACT in svg and "best alone" in svg


def test_the_energy_of_a_way_can_be_counted(make: Make, traces: Path) -> None:
    plain = brief(make("ResNet", 0, [900, 700, 400, 100]))
    small = brief(make("alone", 0, [150], experiment="reference", network="resnet8", shapes=[(1, 1, 1)]))
    encodings = {
        f"{plain.name}-float32": encoding(plain.name, [10_000, 25_000, 50_000, 100_000], [0.1, 0.3, 0.6, 0.9]),
        f"{plain.name}-int8": encoding(plain.name, [100_000], [0.89], "int8"),
        f"{small.name}-int8": encoding(small.name, [30_000], [0.8], "int8"),
    }
    found = {bill.way: bill for bill in bills([plain, small], encodings, traces)}
    assert "oracle" not in found  # nobody can be one
    whole, alone_, turns = found[PLAIN], found["ResNet-8 alone, int8"], found["alone in turn, int8"]
    # Steady 1, 2, 4 and 8 Mbit/s bring all of it within five seconds: what counts is when.
    assert (whole.bytes, turns.bytes) == pytest.approx((100_010, 130_020)) and alone_.accuracy == pytest.approx(0.8)
    seconds = [0.05 * np.ceil((0.15 + 8 * 100_010 / (rate * 1e6)) / 0.05) for rate in (1, 2, 4, 8)]
    expected = transfer_j(radio("lte"), 100_010, float(np.mean(seconds)))
    assert whole.receiving.value == pytest.approx(expected.value)
    assert turns.training.value == pytest.approx(whole.training.value + alone_.training.value)
    assert whole.inference.value == pytest.approx(1000 * inference_j(1000, 25_000).value)
    # Another form of a network that is there costs that network's training and its computation.
    small_form = Way("ResNet-8 alone, int4", (9_000,), (0.79,))
    again = {bill.way: bill for bill in bills([plain, small], encodings, traces, [small_form])}[small_form.name]
    assert again.training == alone_.training and again.bytes == pytest.approx(9_000) and again.accuracy == pytest.approx(0.79)
    assert again.inference.value == pytest.approx(alone_.inference.value, rel=0.02)
    text = "\n".join(tables.energy_lines(list(found.values())))
    assert "| alone in turn, int8 |" in text and "130 kB" in text
    assert tables.energy_lines([]) == ["Nothing of this has run yet."]


def test_errors_of_what_is_compared(make: Make) -> None:
    found = collect([brief(make("CoML-05", 0, [400, 300, 200, 120])), make("ResNet", 0, [400, 300, 200, 100])])
    text = "\n".join(tables.error_lines(found))
    assert "| CoML-05 | 1 | 40.0 % (1, 0, 0) | 20.0 % (3, 3, 0) | 12.00 % |" in text and "ResNet" not in text
    assert tables.error_lines([]) == ["Nothing of this has run yet."]


def make_data(outcomes: Sequence[Outcome], traces: Path, data: Path) -> Path:
    path = make(outcomes, traces, data)
    assert path == data / FILE.parent.name / FILE.name
    return path


def test_a_finished_run_is_packaged_and_says_what_its_package_says(finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    folder, outcome = finished
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / outcome.name).mkdir()
    (runs / outcome.name / "run").symlink_to(folder / "runs" / outcome.name / "run")
    found = encode(outcome, "int8", runs=runs, data=tmp_path / "encodings")
    assert read_encodings(tmp_path / "encodings")[found.name] == found
    again = read_package(runs / outcome.name / "package", outcome.name, "int8", "int8")
    assert again == found
    assert found.rungs[-1].bytes < outcome.complete.package_bytes
    assert 0 < found.manifest_bytes < 20_000
    assert len(found.rungs) == len(outcome.configurations)
    whole = encode(replace(outcome, scheme="ResNet"), "int8", runs=runs, data=tmp_path / "encodings")
    assert [rung.blocks_by_stage for rung in whole.rungs] == [outcome.complete.blocks_by_stage]
    assert whole.rungs[0].bytes < found.rungs[-1].bytes
    with pytest.raises(UsageError, match="finished on another machine"):
        encode(outcome, "int8", runs=tmp_path / "elsewhere")


def test_what_can_not_be_encoded_here_is_named(make: Make, tmp_path: Path) -> None:
    lacks = encode_all([brief(make("CoML-05", 0, [400, 300, 200, 120]))], tmp_path, tmp_path / "data")
    assert len(lacks) == 1 and "holds no weights" in lacks[0]


def test_a_guarantees_report_becomes_a_table(tmp_path: Path) -> None:
    row = {"index": 0, "target": 0.4, "error": 0.39, "upper_bound": 0.41, "steps": 1200, "met": True, "certified": False}
    value = {"met": 1, "certified": 0, "confidence": 0.95, "samples": 10_000, "dataset": "cifar10", "split": "test"}
    (tmp_path / "run.json").write_text(json.dumps({**value, "configurations": [row]}))
    text = "\n".join(tables.guarantee_lines(read_guarantees(tmp_path)))
    assert "1 of 1 met, 0 certified at 95 %" in text
    assert "| 0 | – | 40.00 % | 39.00 % | 41.00 % | 1,200 | met |" in text
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(FormatError, match="no report of a guarantee"):
        read_guarantees(tmp_path)
