from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from accordion.errors import FormatError
from experiments import document
from experiments.catalogue import SCHEMES
from experiments.changes import effects
from experiments.outcome import Count, Curve, Outcome
from experiments.paper import SIZE_ORDER
from experiments.recipes import ZOO
from experiments.references import alone, taxes
from experiments.run import Run
from experiments.series import Group, Spread, collect
from experiments.tables import ablations, claims, figure4, runs, targets, tax, training, zoo
from experiments.tables.claims import failures_to_rise, rise
from experiments.tables.markdown import change, megabytes, percent, spread
from experiments.zoo.record import CLEAN, PURGED, VALIDATION, Evaluation, Row

Make = Callable[..., Outcome]
GROUP = Group("cifar10", "resnet20", "short")


@pytest.fixture
def coml(make: Make) -> list[Outcome]:
    """Two seeds: 60 and 62, 40 and 42, 20 and 24, 10 and 12 % error."""
    return [make("CoML-05", 0, (600, 400, 200, 100)), make("CoML-05", 1, (620, 420, 240, 120))]


def test_seeds_become_mean_and_standard_deviation(coml: list[Outcome]) -> None:
    (one,) = collect(coml)
    assert one.seeds == (0, 1)
    assert [rung.test.mean for rung in one.rungs] == pytest.approx([0.61, 0.41, 0.22, 0.11])
    assert one.rungs[2].test.sd == pytest.approx(0.02 * 2**0.5)  # of 0.20 and 0.24
    assert [rung.share for rung in one.rungs] == pytest.approx([0.1, 0.25, 0.5, 1.0])
    assert [rung.macs_share for rung in one.rungs] == pytest.approx([0.1, 0.3, 0.6, 1.0])
    assert Spread((0.5,)).sd is None


def test_outcomes_that_differ_by_more_than_the_seed_are_not_mixed(coml: list[Outcome]) -> None:
    other = replace(coml[1], config=replace(coml[1].config, width=8))
    with pytest.raises(FormatError, match="differ by more than the seed"):
        collect([coml[0], other])


def test_seeds_in_different_precisions_are_taken_together(coml: list[Outcome]) -> None:
    other = replace(coml[1], config=replace(coml[1].config, precision="bf16-mixed"))
    (one,) = collect([coml[0], other])
    assert one.seeds == (0, 1)


def test_the_validation_split_chooses_and_the_test_split_is_reported(make: Make) -> None:
    (one,) = collect([make("CoML-05", 0, (100, 400, 200, 100), validation=(300, 100, 200, 50))])
    rung = one.within(share=0.5)
    assert rung is not None and rung.index == 1 and rung.test.mean == 0.4
    reached = one.reaching(0.25)
    assert reached is not None and reached.index == 1
    assert one.within(share=0.05) is None and one.reaching(0.01) is None
    few = one.within(blocks=0.5)
    assert few is not None and few.blocks_by_stage == (3, 0, 0)
    small = one.within(size=10_000)
    assert small is not None and small.index == 0


def test_figure_4_in_numbers(coml: list[Outcome]) -> None:
    text = "\n".join(figure4.lines(collect(coml)))
    assert "| CoML-05 | 2 | – | 61.0 ± 1.4 % (1, 0, 0) | 41.0 ± 1.4 % (3, 0, 0) | 22.0 ± 2.8 % (3, 3, 0) | 11.0 ± 1.4 % |" in text
    assert "Not run: ResNet, CoML-03, BlockCoML-05, BlockCoML-03." in text
    assert "ResNet-20 on CIFAR-10, recipe short" in text


def test_claims_by_hand(make: Make, coml: list[Outcome]) -> None:
    plain = [make("ResNet", seed, (950, 900, 800, wrong), policy="full") for seed, wrong in ((0, 90), (1, 92))]
    series = collect([*coml, *plain])
    text = "\n".join(claims.lines(series))
    # 41 % with a quarter of the bytes and 30 % of the multiply-accumulates is the first at or under 50 %.
    assert "| 0.0 % (3, 3, 3), error 9.1 ± 0.1 % | 75.0 % (3, 0, 0), error 41.0 ± 1.4 % |" in text
    assert "| multiply-accumulates saved there | 0.0 % | 70.0 % |" in text
    assert "| error with 27 % of the bytes (the paper's reading) | 90.0 ± 0.0 % | 41.0 ± 1.4 % |" in text
    assert (
        "| error with 3.75 MB (100 Mbit/s, 0.3 s, float32) | 9.1 ± 0.1 % (100 % of the bytes) | 11.0 ± 1.4 % (100 % of the bytes) |"
        in text
    )
    assert "| error with half of the blocks | 90.0 ± 0.0 % | 41.0 ± 1.4 % |" in text
    # Seed for seed: 10 - 9.0 = 1.0 and 12 - 9.2 = 2.8 points; 1.9 of 9.1.
    assert "| its rise against plain ResNet | – | +1.90 ± 1.27 points, +21 % relative |" in text


def test_a_rise_is_counted_for_the_seeds_that_both_have(make: Make, coml: list[Outcome]) -> None:
    one, plain = collect([*coml, make("ResNet", 1, (950, 900, 800, 92), policy="full")])
    found = rise(one, plain)
    assert found is not None and found.values == pytest.approx((0.028,))
    assert rise(one, None) is None and rise(plain, plain) is None


def test_the_size_order_is_checked_at_equal_error(make: Make) -> None:
    good, bad = (800, 140, 120, 100), (800, 700, 400, 100)
    holds = collect([make("CoML-03", 0, good), make("BlockCoML-05", 0, bad)])
    fails = collect([make("CoML-03", 0, bad), make("BlockCoML-05", 0, good)])
    assert "| ≤ 15 % | 25 kB (14.0 %) | 100 kB (10.0 %) | holds for those that reach it |" in "\n".join(claims.lines(holds))
    assert "| ≤ 15 % | 100 kB (10.0 %) | 25 kB (14.0 %) | does not hold |" in "\n".join(claims.lines(fails))
    one = collect([make("CoML-03", 0, good), make("BlockCoML-05", 0, (800, 700, 400, 200))])
    assert "| ≤ 15 % | 25 kB (14.0 %) | – | open |" in "\n".join(claims.lines(one))
    same = collect([make(scheme, 0, good) for scheme in SIZE_ORDER])
    assert f"| ≤ 15 % |{' 25 kB (14.0 %) |' * 4} does not hold |" in "\n".join(claims.lines(same))
    pairs = collect([make(scheme, 0, good if scheme.startswith("CoML") else bad) for scheme in SIZE_ORDER])
    assert "100 kB (10.0 %) | 100 kB (10.0 %) | holds but for ties |" in "\n".join(claims.lines(pairs))


def test_more_layers_worse_accuracy_is_found_beyond_noise(make: Make) -> None:
    (within,) = collect([make("CoML-05", 0, (600, 400, 410, 100))])
    (beyond,) = collect([make("CoML-05", 0, (600, 400, 480, 100))])
    assert failures_to_rise(within) == []
    ((larger, smaller),) = failures_to_rise(beyond)
    assert (larger.index, smaller.index) == (2, 1)
    assert "- CoML-05: (3, 3, 0) 48.0 % after (3, 0, 0) 40.0 %" in claims.lines([beyond])
    # The same difference with the pictures of four seeds is beyond noise.
    (more,) = collect([make("CoML-05", seed, (600, 400, 440, 100)) for seed in range(4)])
    assert failures_to_rise(collect([make("CoML-05", 0, (600, 400, 430, 100))])[0]) == []
    assert len(failures_to_rise(more)) == 1
    # 48 % and 40 % on the mean of two seeds, but once 12 points and once 4: with two seeds that says nothing.
    (seeds,) = collect([make("CoML-05", seed, (600, 400, wrong, 100)) for seed, wrong in enumerate((520, 440))])
    assert failures_to_rise(seeds) == []


def test_the_tax_by_hand(make: Make, coml: list[Outcome]) -> None:
    small = [
        make("alone", seed, (wrong,), experiment="reference", network="resnet3-0-0", policy="full", shapes=((3, 0, 0),))
        for seed, wrong in ((0, 380), (1, 400))
    ]
    whole = make("ResNet", 0, (900, 900, 800, 90), policy="full")
    series = collect([*coml, *small, whole])
    references = alone(series, "cifar10", "short")
    assert set(references) == {(3, 0, 0), (3, 3, 3)}
    first, last = taxes(series[0].rungs, references)
    assert first.points == pytest.approx(0.41 - 0.39)
    assert first.by_seeds and first.deviation == pytest.approx(((2e-4 + 2e-4) / 2) ** 0.5)  # variances 2e-4, two seeds each
    assert last.points == pytest.approx(0.11 - 0.09)
    assert not last.by_seeds
    assert last.deviation == pytest.approx((2e-4 / 2 + 0.09 * 0.91 / 1000) ** 0.5)  # one side has no seeds to know
    text = "\n".join(tax.lines(series))
    assert "| CoML-05 | (3, 0, 0) | 25 kB | 41.0 ± 1.4 % (2) | 39.0 ± 1.4 % (2) | +2.00 ± 1.41 |" in text
    assert "+2.00 ± 1.35 * |" in text
    assert alone(series, "cifar100", "short") == {}


def test_every_elastic_network_of_a_group_stands_in_its_table_of_taxes(make: Make) -> None:
    whole = make("ResNet", 0, (900, 900, 800, 90), policy="full")
    ours = [make("CoML-05", 0, (600, 400, 200, 100)), make("balanced", 0, (500, 300, 200, 95), experiment="delivered")]
    learned = make("learned", 0, (500, 300, 200, 97), experiment="order")
    text = "\n".join(tax.lines(collect([whole, *ours, learned])))
    assert text.count("**ResNet-20") == text.count("![tax]") == 1
    for row in ("| CoML-05 | (3, 3, 3) |", "| balanced | (3, 3, 3) |", "| learned order | (3, 3, 3) |"):
        assert row in text


def test_the_effect_of_a_change_by_hand(make: Make, coml: list[Outcome]) -> None:
    better = [
        make("joint", seed, (500, 300, 200, 80), experiment="ablation", against="CoML-05", objective="joint", seconds=150)
        for seed in (0, 1)
    ]
    (effect,) = effects(collect([*coml, *better]))
    # Shares 10 to 20 % have the first configuration (3 of the grid), 25 to 45 % the second (5), 50 to 95 % the third (10), 100 % the last.
    seeds = [(3 * -100 + 5 * -100 + 10 * 0 + -20) / 19e3, (3 * -120 + 5 * -120 + 10 * -40 + -40) / 19e3]
    assert effect.mean.values == pytest.approx(seeds)
    assert effect.small is not None and effect.small.values == pytest.approx([-0.1, -0.12])
    assert effect.complete.values == pytest.approx([-0.02, -0.04])
    assert effect.seconds == pytest.approx(1.5)
    assert effect.macs > 1
    # Of two seeds, the changes would have to agree twelve times as well as they differ: Student's t with one degree of freedom.
    assert effect.pays == "no difference beyond noise"
    text = "\n".join(ablations.lines(collect([*coml, *better])))
    assert f"| joint | CoML-05 | 2 | {change(Spread(tuple(seeds)))} | -11.00 ± 1.41 | -3.00 ± 1.41 |" in text
    assert "Not run" in text and "sandwich" in text


def test_what_does_not_pay_is_said(make: Make, coml: list[Outcome]) -> None:
    def pays(*wrong: tuple[int, int, int, int]) -> str:
        changed = [
            make("joint", seed, row, experiment="ablation", against="CoML-05", objective="joint") for seed, row in enumerate(wrong)
        ]
        (effect,) = effects(collect([*coml, *changed]))
        return effect.pays

    assert pays((600, 400, 200, 100)) == "one seed: open"
    assert pays((700, 500, 300, 200), (720, 520, 340, 224)) == "no, worse"
    assert pays((600, 400, 220, 100), (620, 420, 224, 120)) == "no difference beyond noise"


def test_training_time_is_compared_on_one_machine(make: Make) -> None:
    plain = make("ResNet", 0, (900, 900, 800, 90), policy="full", seconds=200)
    one = make("CoML-05", 0, (600, 400, 200, 100), seconds=150)
    elsewhere = replace(one, scheme="CoML-03", config=replace(one.config, policy="CoML-03"), machine="another", seconds=1)
    other = replace(one, scheme="BlockCoML-05", config=replace(one.config, order="blockwise", precision="bf16-mixed"), seconds=1)
    text = "\n".join(training.time_lines(collect([plain, one, elsewhere, other])))
    # Nine configurations right to left; the complete one with p = 1/2: 1/2 + 1/2 · mean(1 to 8)/9 = 3/4.
    assert "| CoML-05 | 1 | 75 % | 75 % | 75 % |" in text
    assert "| CoML-03 | 1 | 65 % | 65 % | – |" in text
    assert "| BlockCoML-05 | 1 | 75 % | 75 % | – |" in text  # another precision


def test_a_single_epoch_has_nothing_before_it(make: Make) -> None:
    one = make("CoML-05", 0, (600, 400, 200, 100))
    short = replace(one, curve=Curve((1.0,), (1,), (0,), ((0.5,),)))
    assert "| CoML-05 | 1 | +0.0 % | – |" in "\n".join(training.convergence_lines(collect([short])))


def test_a_run_in_another_precision_than_the_lists_is_named(digits_run: Run, finished: tuple[Path, Outcome]) -> None:
    _, outcome = finished
    assert "Trained in" not in "\n".join(runs.lines([digits_run], [outcome]))
    assert f"Trained in 32-true where the list says bf16-mixed: {digits_run.name}." in "\n".join(
        runs.lines([digits_run.at("bf16-mixed")], [outcome])
    )


def test_convergence_compares_the_last_tenths(make: Make) -> None:
    text = "\n".join(training.convergence_lines(collect([make("CoML-05", 0, (600, 400, 200, 100))])))
    # Losses of epochs 25 to 27 are 0.6, 0.5, 0.4, those of 28 to 30 are 0.3, 0.2, 0.2; errors 0.8, then 0.4, and the last row is of
    # other pictures.
    assert "| CoML-05 | 1 | -53.3 % | -40.00 |" in text


@pytest.fixture
def evaluation() -> Evaluation:
    def row(index: int, shape: tuple[int, int, int], size: int, macs: int, wrong: int) -> Row:
        results = {CLEAN: Count(wrong, 1000), VALIDATION: Count(wrong // 2, 500), PURGED: Count(wrong - 5, 990)}
        return Row(index, shape, size, macs, wrong / 1000, results)

    rows = (
        row(0, (1, 0, 0), 100_000, 10, 300),
        row(1, (9, 0, 0), 260_000, 30, 75),
        row(2, (9, 9, 9), 1_000_000, 100, 66),
    )
    return Evaluation("resnet56-cifar10", "sha256:" + "a" * 64, "cifar10", "onnxruntime 1", rows)


def test_targets_are_met_or_missed(evaluation: Evaluation) -> None:
    text = "\n".join(targets.lines([], [evaluation]))
    assert "| CIFAR-10, ResNet-56, complete | – | ≤ 6.5 % | 6.60 % (9, 9, 9) | missed |" in text
    assert "| CIFAR-10, ≤ 27 % of the bytes | 12 % | ≤ 8 % | 7.50 % (9, 0, 0) | met |" in text
    assert "| CIFAR-10, ≤ 10 % of the bytes | – | ≤ 11 % | 30.00 % (1, 0, 0) | missed |" in text
    assert "| no worse than plain by the same recipe | – | ≤ 0 points | not run (the plain network) |  |" in text
    assert "| CIFAR-100, ResNet-110, complete | 3 to 9 % worse than plain | ≤ 28 % | not run |  |" in text
    assert "beyond its interval | (claims none) | none | none | met |" in text


def test_a_compact_package_is_held_against_the_float32_bytes(evaluation: Evaluation) -> None:
    small = replace(
        evaluation, name="resnet56-cifar10-compact", rows=tuple(replace(row, bytes=row.bytes // 4) for row in evaluation.rows)
    )
    text = "\n".join(targets.lines([], [evaluation, small]))
    assert (
        text.count("| the same by its compact package, of the float32 bytes |  |  | 6.60 % (9, 9, 9) | met |") == 1
    )  # within 27 %
    assert (
        text.count("| the same by its compact package, of the float32 bytes |  |  | 7.50 % (9, 0, 0) | met |") == 1
    )  # within 10 %
    assert "resnet56-cifar10-compact: a larger configuration worse" in text
    alone = "\n".join(targets.lines([], [small]))
    assert "| the same by its compact package, of the float32 bytes |  |  | not run |  |" in alone


def test_targets_against_references(evaluation: Evaluation, make: Make) -> None:
    plain = make("alone", 0, (60,), experiment="reference", network="resnet56", policy="full", shapes=((9, 9, 9),))
    plain = replace(plain, config=replace(plain.config, recipe=plain.config.recipe.with_changes(name=ZOO["cifar10"].name)))
    text = "\n".join(targets.lines(collect([plain]), [evaluation]))
    assert "+0.60 points against 6.00 % | missed |" in text
    assert "| at most +0.60 (9, 9, 9) of 1 | missed |" in text


def test_without_anything_everything_is_said_not_to_have_run() -> None:
    rows = targets.lines([], [])[2:]
    assert len(rows) == 14 and all("not run" in row for row in rows)
    for lines in (figure4.lines([]), claims.lines([]), ablations.lines([]), training.time_lines([]), zoo.lines([]), tax.lines([])):
        assert len(lines) == 1 and lines[0].endswith("yet.")


def test_the_zoo_table(evaluation: Evaluation) -> None:
    evaluation.rows[0].results["noise-0.04"] = Count(40, 100)
    text = "\n".join(zoo.lines([evaluation]))
    assert "without near-duplicates (990 pictures)" in text
    assert "| 1 | (9, 0, 0) | 260 kB | 26.0 % | 0.0 M | 7.50 % | 7.50 % | 5.94–9.31 % | 7.07 % |" in text
    assert "| Gaussian noise, σ = 0.04 of the range | 40.0 % |" in text


def test_runs_done_are_counted(finished: tuple[Path, Outcome]) -> None:
    from experiments.catalogue import catalogue

    listed = [run for run in catalogue() if run.experiment == "figure4"][:5]
    text = "\n".join(runs.lines(listed, []))
    assert text.startswith("0 of 5 runs") and text.count("not run") == 5
    assert set(SCHEMES) <= set(text.replace("|", " ").split())
    one = replace(finished[1], name=listed[0].name)
    assert "1 of 5 runs of the list are done." in "\n".join(runs.lines(listed, [one]))
    earlier = replace(one, config=replace(one.config, initialisation=1))
    assert "0 of 5 runs of the list are done. 1 were done with" in "\n".join(runs.lines(listed, [earlier]))


def test_marks_are_filled_and_filled_again_to_the_same() -> None:
    text = "before\n<!-- table: a -->\nold\n<!-- end -->\nbetween\n<!-- table: b -->\n<!-- end -->\nafter\n"
    once = document.fill(text, {"a": ["| 1 |"], "b": ["x", "y"]})
    assert once == (
        "before\n<!-- table: a -->\n\n| 1 |\n\n<!-- end -->\nbetween\n<!-- table: b -->\n\nx\ny\n\n<!-- end -->\nafter\n"
    )
    assert document.fill(once, {"a": ["| 1 |"], "b": ["x", "y"]}) == once
    with pytest.raises(FormatError, match="no place for c"):
        document.fill(text, {"a": [], "b": [], "c": []})
    with pytest.raises(FormatError, match="unknown table 'b'"):
        document.fill(text, {"a": []})


def test_the_document_is_what_the_data_files_give() -> None:
    assert document.current() == document.read(), "run python -m experiments tables"


def test_numbers_as_they_are_written() -> None:
    assert (percent(0.1234), percent(None), percent(0.5, 0)) == ("12.3 %", "–", "50 %")
    assert (spread(Spread((0.1, 0.2))), spread(Spread((0.1,)))) == ("15.0 ± 7.1 %", "10.0 %")
    assert (change(Spread((0.01,))), change(Spread((-0.01, -0.02)))) == ("+1.00", "-1.50 ± 0.71")
    assert (megabytes(12_345), megabytes(1_234_567)) == ("12 kB", "1.23 MB")
