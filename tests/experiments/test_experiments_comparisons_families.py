"""Families made by hand, whose verdicts and matrices can be checked by hand."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from accordion.errors import FormatError
from accordion.training.config import INITIALISATION
from experiments.comparisons import document
from experiments.comparisons.families import ABOVE, Family, changes, families, float32_bytes, judge, levels
from experiments.comparisons.figures.all import draw_all
from experiments.comparisons.figures.errors import _points
from experiments.comparisons.outcome import File, Result, Row, Training, read_results
from experiments.comparisons.tables import costs, errors
from experiments.comparisons.tables.listed import listed_lines
from experiments.document import read
from experiments.outcome import Count, Outcome
from experiments.series import Group
from experiments.zoo.record import CLEAN, VALIDATION, Evaluation
from experiments.zoo.record import Row as ZooRow

GROUP = Group("cifar10", "resnet20", "brief")
COMPACT = "Accordion, blockwise, compact"


def file(name: str, size: int) -> File:
    return File(name, size, f"digest of {name}")


def row(family: str, label: str, files: Sequence[File], wrong: int, validation: int | None = None, macs: float = 1e6) -> Row:
    held = wrong // 2 if validation is None else validation
    return Row(family, label, tuple(files), 1000, macs, Count(wrong, 1000), Count(held, 500))


def result(method: str, variant: str, rows: Sequence[Row], seed: int = 0, macs: float = 1e12) -> Result:
    training = Training(18, macs, 60.0, (1.0,), "base", 2e12, 120.0) if method != "plain" else Training(18, 2e12, 120.0)
    name = f"{method}-{variant}-{seed}".lower()
    return Result(
        name, method, variant, "cifar10", "resnet20", "brief", seed, {"initialisation": INITIALISATION}, training, tuple(rows)
    )


def nested(family: str, sizes: Sequence[int], wrong: Sequence[int], macs: Sequence[float] | None = None) -> list[Row]:
    """Rows that add one file each."""
    files = [file(f"{family} {k}", size) for k, size in enumerate(sizes)]
    work = macs or [1e6 * (k + 1) for k in range(len(sizes))]
    return [row(family, f"{k}", files[: k + 1], wrong[k], macs=work[k]) for k in range(len(sizes))]


@pytest.fixture
def results() -> list[Result]:
    alone = [row("smaller networks alone", f"n{size}", [file(f"n{size}", size)], bad) for size, bad in ((3000, 250), (20_000, 130))]
    return [
        result("plain", "float32", [row("plain", "resnet20, float32", [file("plain", 100_000)], 100)]),
        result("alone", "both", alone),
        result("pruned", "75", [row("pruned", "75 % pruned, float32", [file("pruned", 30_000)], 112)], macs=0.5e12),
        result("elastic", "BlockCoML-05", nested(COMPACT, [2000, 6000, 12_000], [240, 130, 103])),
    ]


def test_bytes_are_counted_once() -> None:
    a, b = file("a", 100), file("b", 50)
    one, both = row("f", "one", [a], 1), row("f", "both", [a, b, a], 1)
    assert (one.bytes, both.bytes) == (100, 150)
    assert (both.missing(None), both.missing(one), one.missing(both)) == (150, 50, 0)


def test_a_data_file_is_read_as_it_was_written(results: list[Result], tmp_path: Path) -> None:
    for one in results:
        one.write(tmp_path)
    assert {one.name: one for one in read_results(tmp_path)} == {one.name: one for one in results}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.update(schema_version=2),
        lambda data: data.update(rows=[]),
        lambda data: data["rows"].append(data["rows"][0]),
        lambda data: data["rows"][0].update(bytes=1),
        lambda data: data["rows"][0]["test"].update(wrong=1001),
        lambda data: data.pop("training"),
        lambda data: data["rows"][0].update(files=[["a", 1]]),
    ],
)
def test_files_that_are_none_are_refused(
    results: list[Result], tmp_path: Path, spoil: Callable[[dict[str, object]], object]
) -> None:
    data = json.loads(json.dumps(results[0].to_json()))
    spoil(data)
    (tmp_path / "bad.json").write_text(json.dumps(data))
    with pytest.raises(FormatError, match=r"bad\.json is not the outcome of a comparison"):
        read_results(tmp_path)
    for text in ("", "[]", "{"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(FormatError, match=r"bad\.json is not"):
            read_results(tmp_path)


def test_families_are_what_one_user_chooses_among(results: list[Result]) -> None:
    ((group, found),) = families(results).items()
    assert group == GROUP and [family.name for family in found] == ["plain", COMPACT, "pruned", "smaller networks alone"]
    assert float32_bytes(found) == 100_000
    assert levels(found) == pytest.approx([0.1 + above for above in ABOVE])
    alone = found[3]
    assert [row.bytes for row in alone.rows[0]] == [3000, 20_000]
    assert alone.within(2999) is None
    within = alone.within(50_000)
    assert within is not None and within.values == (0.13,)


def test_a_seed_that_is_done_in_part_waits_for_the_rest(results: list[Result]) -> None:
    def alone(seed: int, *sizes: int) -> list[Result]:
        rows = [row("smaller networks alone", f"n{size}", [file(f"n{size} {seed}", size)], 200) for size in sizes]
        return [result("alone", one.label, [one], seed) for one in rows]

    def seeds(*more: Result) -> set[int]:
        (found,) = (f for f in families([*alone(0, 3000, 20_000), *more])[GROUP] if f.method == "alone")
        return set(found.rows)

    assert seeds(*alone(1, 3000)) == {0}
    assert seeds(*alone(1, 3000), *alone(2, 3000, 20_000)) == {0, 2}
    again = [replace(one, settings={**one.settings, "version": 2}) for one in alone(1, 3000, 20_000)]
    assert seeds(*again) == {0}


def test_who_began_with_another_training_is_named(results: list[Result]) -> None:
    plain, _, pruned, _ = results
    known = replace(plain, training=replace(plain.training, weights="a"))

    def said(of: Result, base: str) -> str:
        return listed_lines([of, replace(pruned, training=replace(pruned.training, base_weights=base))])[0]

    assert f"than its own rows are of: {pruned.name}." in said(known, "b")
    # An elastic network that goes on for its encoding goes on with an elastic one, not with the plain one.
    elastic, finished = (replace(result(*one, rows=plain.rows)) for one in (("elastic", "balanced"), ("finished", "balanced-75")))
    begun = replace(finished, training=replace(finished.training, base_weights="e"))
    for weights, wrong in (("e", False), ("f", True)):
        elastic = replace(elastic, training=replace(elastic.training, weights=weights))
        assert (f"rows are of: {finished.name}." in listed_lines([known, elastic, begun])[0]) == wrong
    assert "Begun with another" not in said(known, "a") + said(known, "") + said(plain, "b")


def test_the_validation_split_picks_and_the_test_split_is_reported() -> None:
    rows = [row("f", "a", [file("a", 10)], 300, 100), row("f", "b", [file("b", 20)], 100, 150)]
    family = families([result("alone", "x", rows)])[GROUP][0]
    within = family.within(20)
    assert within is not None and within.mean == 0.3
    found = family.reaching(0, 0.25)
    assert found is not None and found.label == "a"


def test_the_verdict_names_where_it_is_missed(results: list[Result]) -> None:
    (verdict,) = judge(families(results)[GROUP])
    assert verdict.chosen is not None and verdict.chosen.name == COMPACT and verdict.baselines == 3
    # At 3 kB: 250 against 240; at 20 kB 130 against 103; the plain network's 100 against 103 is within half a point.
    assert verdict.failures == ()
    text = "\n".join(errors.verdict_lines(families(results)))
    assert "**met**" in text and "ResNet-20 on CIFAR-10, recipe brief" in text
    better = [row("quantized", "int4", [file("int4", 11_000)], 110)]
    (verdict,) = judge(families([*results, result("quantized", "x", better)])[GROUP])
    (failure,) = verdict.failures
    assert failure.family.name == "quantized"
    # Ours has 130 of 1,000 wrong with 8 kB, until its last part comes at 20 kB.
    assert failure.sizes == ((11_000, 20_000),) and failure.gap == pytest.approx(0.02)
    text = "\n".join(errors.verdict_lines(families([*results, result("quantized", "x", better)])))
    assert "**missed**" in text and "quantized: from 11 kB to 20 kB, by up to 2.0 points (11.0 % against 13.0 %)" in text


def test_where_nothing_of_ours_is_so_small_the_target_is_missed(results: list[Result]) -> None:
    large = [one for one in results if one.method != "elastic"]
    large.append(result("elastic", "BlockCoML-05", nested(COMPACT, [5000, 10_000], [130, 100])))
    (verdict,) = judge(families(large)[GROUP])
    (failure,) = verdict.failures
    assert failure.ours is None and math.isinf(failure.gap)
    assert "nothing of ours is so small" in "\n".join(errors.verdict_lines(families(large)))


def test_stretches_with_a_hole_and_sizes_of_theirs_alone_are_told_apart(results: list[Result]) -> None:
    rows = [row("quantized", f"q{size}", [file(f"q{size}", size)], bad) for size, bad in ((2000, 600), (7000, 110), (15_000, 50))]
    large = [one for one in results if one.method in ("plain",)]
    large += [result("quantized", "x", rows), result("elastic", "BlockCoML-05", nested(COMPACT, [5000, 5000], [130, 100]))]
    (verdict,) = judge(families(large)[GROUP])
    nothing, worse = verdict.failures
    # 2 kB alone up to ours of 5 kB; at 7 kB 110 against 130 until our 10 kB have 100; from 15 kB on 50 against 100.
    assert nothing.ours is None and nothing.sizes == ((2000, 5000),)
    assert worse.sizes == ((7000, 10_000), (15_000, math.inf)) and worse.gap == pytest.approx(0.05)
    text = "\n".join(errors.verdict_lines(families(large)))
    assert "quantized: from 7 kB to 10 kB and from 15 kB on, by up to 5.0 points (5.0 % against 10.0 %)" in text


def test_the_summary_says_where_the_target_is_met_and_how_far_off_it_is(results: list[Result]) -> None:
    def summary(*more: Result) -> str:
        return "\n".join(errors.target_lines(families([*results, *more])))

    assert "against 3 families of baselines at" in summary() and "| 1 | 2 kB | everywhere | – |" in summary()
    better = result("quantized", "x", [row("quantized", "int4", [file("int4", 11_000)], 110)])
    # As the verdict: 110 of 1,000 from 11 kB on, until ours has 103 at 20 kB.
    cells = "| 2 kB | from 2 kB to 11 kB and from 20 kB on | 2.0 points behind quantized (13.0 %, theirs 11.0 %) |"
    assert cells in summary(better)
    best = result("quantized", "x", [row("quantized", "int4", [file("int4", 1000)], 10)])
    assert "| nowhere | 23.0 points behind quantized (24.0 %, theirs 1.0 %) |" in summary(best)
    large = [one for one in results if one.method != "elastic"]
    large.append(result("elastic", "BlockCoML-05", nested(COMPACT, [5000, 10_000], [130, 100])))
    text = "\n".join(errors.target_lines(families(large)))
    assert "| 5 kB | from 5 kB on | – |" in text, "where it has nothing it does not meet the target, by no number of points"
    assert errors.target_lines({}) == errors.UNTRIED == errors.target_lines(families(results[1:]))


def test_the_spread_over_seeds_is_allowed(results: list[Result]) -> None:
    def seeds(bad: Sequence[int]) -> list[Result]:
        found = []
        for seed, wrong in enumerate(bad):
            found.append(result("quantized", "x", [row("quantized", "int4", [file(f"int4 {seed}", 30_000)], wrong)], seed))
            found.append(result("plain", "float32", [row("plain", "p", [file(f"p {seed}", 100_000)], 110)], seed))
            found.append(result("elastic", "BlockCoML-05", nested(COMPACT, [2000, 20_000], [240, 110]), seed))
        return found

    (wide,), (narrow,) = judge(families(seeds((80, 120)))[GROUP]), judge(families(seeds((99, 101)))[GROUP])
    assert wide.failures == () and len(narrow.failures) == 1


def test_each_compact_package_has_its_verdict_the_best_by_validation_first(results: list[Result]) -> None:
    other = "Accordion, learned order, compact"
    worse = result("elastic", "learned", nested(other, [2000, 20_000], [240, 180]))
    first, second = judge(families([*results, worse])[GROUP])
    assert first.chosen is not None and second.chosen is not None
    assert (first.chosen.name, second.chosen.name) == (COMPACT, other)
    assert first.failures == () and second.failures
    assert "\n".join(errors.verdict_lines(families([*results, worse]))).count("**ResNet-20") == 2


def test_without_a_plain_network_or_a_package_nothing_is_claimed(results: list[Result]) -> None:
    assert judge(families(results[1:])[GROUP]) == []
    (none,) = judge(families(results[:3])[GROUP])
    assert none.chosen is None
    assert "has not been tried" in "\n".join(errors.verdict_lines(families(results[:3])))
    assert "not been tried yet" in errors.verdict_lines({})[0]


def test_what_a_change_costs(results: list[Result]) -> None:
    found = {family.name: family for family in families(results)[GROUP]}
    wanted = [0.26, 0.14, 0.11]
    # 240 and 130 and 103 of 1,000: one part more each time, and nothing to go back.
    assert found[COMPACT].path(wanted) == [2000, 6000, 12_000]
    assert found[COMPACT].path([0.11, 0.26]) == [20_000, 0]
    alone = found["smaller networks alone"]
    assert alone.path([0.26, 0.14, 0.26]) == [3000, 20_000, 3000]
    assert alone.path(wanted)[2] is None
    assert changes(found[COMPACT], wanted) == {
        None: [2000, 8000, 20_000],
        0: [0, 6000, 18_000],
        1: [0, 0, 12_000],
        2: [0, 0, 0],
    }
    # What it can't meet can be neither gone to nor left; nothing is free, since each network alone is received whole.
    assert changes(alone, wanted) == {
        None: [3000, 20_000, None],
        0: [0, 20_000, None],
        1: [3000, 0, None],
        2: [None, None, None],
    }
    assert changes(found["plain"], wanted) is None, "one file meets all"
    assert changes(alone, [0.01, 0.14]) is None, "it meets one of them alone"
    text = "\n".join(costs.change_lines(families(results)))
    assert f"| {COMPACT} | 2 kB | " in text
    assert "| nothing → +20 |" in text.replace("|  | nothing", "| nothing")


def test_more_is_reached_by_the_least_that_is_missing_and_less_by_the_smallest() -> None:
    """A small network whose parts are replaced by a large one's, which can also be had at once."""
    small, first, second = file("small", 300), file("first part", 200), file("second part", 700)
    rows = [
        row("f", "small", [small], 400),
        row("f", "mixed", [small, first], 250),
        row("f", "all in turn", [small, first, second], 100),
        row("f", "at once", [first, second], 100),
    ]
    (family,) = families([result("student-first", "x", rows)])[GROUP]
    # From nothing to 250 of 1,000 it is 500; what is there already makes it 200; the rest is the second part, either way.
    assert family.path([0.40, 0.25, 0.10]) == [300, 200, 700]
    assert family.path([0.10]) == [900] and family.path([0.40, 0.10]) == [300, 900]
    assert family.path([0.10, 0.40]) == [900, 300], "it has to compute less, so the small one is received"
    assert family.path([0.25, 0.40]) == [500, 0] and family.path([0.40, 0.01, 0.40]) == [300, None, None]


def test_tables_say_what_has_not_run() -> None:
    tables = document.tables([], {}) | document.tables_in_full({})
    assert all(lines for lines in tables.values())
    for name in ("errors", "paper", "changes", "first", "training", "matrices", "rows"):
        assert tables[name] == ["Nothing of this has run yet."], name
    assert tables["listed"][0].startswith("0 of ") and "not run" in "\n".join(tables["listed"])
    assert "BranchyNet" in "\n".join(tables["sources"])


def test_tables_hold_what_was_measured(results: list[Result]) -> None:
    groups = families(results)
    found = document.tables(results, groups) | document.tables_in_full(groups)
    tables = {name: "\n".join(lines) for name, lines in found.items()}
    assert "| plain | 1 | – | – | – | – | – | 10.0 % | 10.0 % |" in tables["errors"]
    assert "| pruned | 1 | – | – | – | – | 11.2 % | 11.2 % | 11.2 % |" in tables["errors"]
    assert "| here | 75 % pruned, float32 | 30.0 % of float32 | 11.2 % |" in tables["paper"]
    assert "| here | Accordion, blockwise, compact | ≤ 25 % of float32 | 10.3 % |" in tables["paper"]
    assert "| paper, ResNet-56 | 8 bits | 75 % smaller | 8 % |" in tables["paper"]
    # 2 kB are 1.6 ms at 10 Mbit/s, 20 kB 16 ms.
    assert "| Accordion, blockwise, compact | 0.002 s | 24.0 % | 0.006 s | 0.016 s | 10.3 % |" in tables["first"]
    assert "| pruned by magnitude, with further training | 75 | 1 | 1.25 | 0.25 | 2.5 | 3.0 | – |" in tables["training"]
    assert "| Accordion | a new session with each upgrade | everything |" in tables["device"]
    assert f"{COMPACT}:\n\n|  | to +20 | to +10 | to +5 | to +1 |\n" in tables["matrices"]
    assert "| from nothing | 2 kB | " in tables["matrices"] and "\nplain:" not in tables["matrices"]
    assert "| smaller networks alone | n3000 | 3 kB | 3.0 % | 1.0 M | 25.00 % | 25.00 % |" in tables["rows"]


def test_pictures_are_drawn(results: list[Result], tmp_path: Path) -> None:
    for one in results:
        one.write(tmp_path / "data" / "comparisons")
    drawn = draw_all(tmp_path / "data", tmp_path / "pictures")
    assert {path.name for path in drawn} == {
        f"{kind}-resnet20-cifar10-brief.{ending}" for kind in ("bytes", "macs", "changes", "training") for ending in ("png", "svg")
    }
    text = (tmp_path / "pictures" / "bytes-resnet20-cifar10-brief.svg").read_text()
    for label in ("bytes received (kB, files as sent)", "seconds at 10 Mbit/s", "paper: 8 bits", "smaller networks alone (1 seed)"):
        assert label in text, label
    text = (tmp_path / "pictures" / "changes-resnet20-cifar10-brief.svg").read_text()
    for label in ("blockwise, compact", "smaller networks alone", "nothing", "+20", "can't be met"):
        assert label in text, label
    assert ">plain<" not in text, "of which one file meets all"
    with Image.open(tmp_path / "pictures" / "macs-resnet20-cifar10-brief.png") as picture:
        assert min(picture.size) > 200
    assert draw_all(tmp_path / "nothing", tmp_path) == []


def test_the_lists_own_outcomes_and_packages_stand_beside(make: Callable[..., Outcome], results: list[Result]) -> None:
    own = make("BlockCoML-05", 0, (600, 400, 200, 100), experiment="delivered")
    brief = replace(own, config=replace(own.config, recipe=own.config.recipe.with_changes(name="brief")))
    package = Evaluation(
        "resnet20-cifar10-compact",
        "sha256:0",
        "cifar10",
        "onnxruntime",
        (ZooRow(0, (1, 1, 1), 5000, 10, 0.2, {CLEAN: Count(200, 1000), VALIDATION: Count(100, 500)}),),
    )
    found = families(results, [brief], [package])
    (ours,) = [family for family in found[GROUP] if family.name == "Accordion, blockwise, float32"]
    assert [row.bytes for row in ours.rows[0]] == [10_000, 25_000, 50_000, 100_000]
    assert ours.rows[0][1].missing(ours.rows[0][0]) == 15_000
    (zoo,) = found[Group("cifar10", "resnet20", "zoo")]
    assert zoo.name == "Accordion, zoo/resnet20-cifar10-compact" and isinstance(zoo, Family)
    assert families([], [replace(brief, scheme="other")]) == {}


def test_other_seeds_of_the_plain_network_count_too(make: Callable[..., Outcome], results: list[Result]) -> None:
    seeds = []
    for seed, wrong in ((0, 1), (1, 80)):  # the first seed has been measured from its files, so that stands
        one = make("ResNet", seed, (900, 900, 900, wrong), policy="full")
        seeds.append(replace(one, config=replace(one.config, recipe=one.config.recipe.with_changes(name="brief"))))
    found = families(results, seeds)[GROUP]
    (plain,) = [family for family in found if family.name == "plain"]
    assert {seed: (rows[0].bytes, rows[0].test.wrong) for seed, rows in plain.rows.items()} == {0: (100_000, 100), 1: (100_000, 80)}
    assert float32_bytes(found) == 100_000
    assert levels(found) == pytest.approx([0.09 + above for above in ABOVE])
    assert not set(plain.rows[0][0].files) & set(plain.rows[1][0].files)


def test_the_document_is_what_the_data_files_give() -> None:
    for path, text in document.current().items():
        assert text == read(path), "run python -m experiments tables"


def test_every_picture_that_the_page_shows_is_there() -> None:
    shown = re.findall(r"!\[[^]]*\]\(([^)]+)\)", document.COMPARISONS.read_text())
    assert [path for path in shown if not (document.COMPARISONS.parent / path).is_file()] == []


def test_seeds_with_other_networks_are_drawn_as_their_mean_and_not_as_the_best_of_them() -> None:
    def of(seed: int, wrong: Sequence[int]) -> tuple[Row, ...]:
        return tuple(replace(one, label=f"{seed}: {one.label}") for one in nested("f", [1000, 2000 + 100 * seed], wrong))

    family = Family(GROUP, "elastic", "f", {0: of(0, (300, 100)), 1: of(1, (200, 160))})
    points = _points(family, lambda one: float(one.bytes))
    assert [(point.x, round(point.test, 3)) for point in points] == [(1000, 0.25), (3000, 0.15), (3100, 0.13)]
    assert points[-1].sd == pytest.approx(0.0424, abs=1e-3)
    late = replace(family, rows={0: family.rows[0], 1: family.rows[1][1:]})
    assert [point.x for point in _points(late, lambda one: float(one.bytes))] == [3100]
