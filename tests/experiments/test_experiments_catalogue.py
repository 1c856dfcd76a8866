from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from accordion.errors import UsageError
from accordion.training import PAPER, RunDirectory
from experiments.catalogue import ABLATIONS, DELIVERED, SCHEMES, SEPARATE, Ablation, by_name, catalogue, delivered
from experiments.computation import expected_work, training_macs
from experiments.execute import set_aside
from experiments.outcome import read_all
from experiments.recipes import SHORT, ZOO
from experiments.run import Run, run_name
from experiments.state import AGAIN, DONE, OTHER, TO_DO, state_of
from experiments.timing import StepTimes, faster


def test_names_are_unique_and_can_name_files() -> None:
    runs = catalogue()
    assert len(by_name()) == len(runs)
    assert all(re.fullmatch(r"[a-z0-9-]+", run.name) for run in runs)


def test_the_list_begins_with_what_says_most_for_its_time() -> None:
    runs = catalogue()
    compared = len(DELIVERED) + len(SEPARATE)
    ten, hundred, zoo = runs[:compared], runs[compared : compared + 5], runs[compared + 5 : compared + 12]
    assert [run.scheme for run in ten] == [*DELIVERED, "alone", "alone"] and [run.scheme for run in hundred] == [*SCHEMES]
    assert {run.experiment for run in ten[:5]} == {run.experiment for run in hundred} == {"figure4"}
    assert {(run.dataset, run.recipe, run.seed) for run in (*ten, *hundred)} == {("cifar10", "brief", 0), ("cifar100", "brief", 0)}
    assert {(run.dataset, run.recipe) for run in zoo} == {(dataset, recipe.name) for dataset, recipe in ZOO.items()}


def test_a_run_that_serves_two_experiments_is_one_run() -> None:
    for scheme in SCHEMES:
        assert (
            delivered(scheme, "resnet20", "cifar10", "brief", 0) == by_name()[f"figure4-resnet20-cifar10-brief-{scheme.lower()}-s0"]
        )
    assert delivered("uniform", "resnet20", "cifar10", "brief", 0).against == "CoML-05"


@pytest.mark.parametrize("change", ABLATIONS, ids=lambda change: change.scheme)
def test_a_change_changes_something(change: Ablation) -> None:
    runs = by_name()
    own = runs[run_name("ablation", "resnet20", "cifar10", "brief", change.scheme, 0)].config()
    kind = "figure4" if change.against in SCHEMES else "ablation"
    base = runs[run_name(kind, "resnet20", "cifar10", "brief", change.against, 0)].config()
    assert own != base and own.order == base.order
    assert (own.recipe.epochs, own.policy) == (base.recipe.epochs, base.policy)


def test_every_scheme_has_three_seeds_on_the_small_network_and_the_papers_networks_their_recipe() -> None:
    names = by_name()
    for scheme in ("resnet", "coml-05", "coml-03", "blockcoml-05", "blockcoml-03"):
        for dataset in ("cifar10", "cifar100"):
            assert all(f"figure4-resnet20-{dataset}-brief-{scheme}-s{seed}" in names for seed in range(3))
        assert all(f"figure4-resnet56-cifar10-paper-{scheme}-s{seed}" in names for seed in range(5))
        assert all(f"figure4-resnet110-cifar100-paper-{scheme}-s{seed}" in names for seed in range(5))


def test_every_run_that_lacks_nothing_has_sound_settings() -> None:
    seen = set()
    for run in catalogue():
        kind = run.name.rpartition("-s")[0]
        if kind in seen or run.missing():
            continue
        seen.add(kind)
        work = expected_work(run.config())
        assert 0 < work.trained_share <= 1 + 1e-9 and sum(work.blocks) > 0
    assert len(seen) > 50


def test_the_short_recipe_is_the_papers_but_for_its_length() -> None:
    assert PAPER.with_changes(name="short", epochs=30, milestones=(15, 23)) == SHORT


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        ({"changes": {"no_such_field": 1}}, "the recipe's option no_such_field"),
        ({"settings": {"no_such_field": 1}}, "the training's option no_such_field"),
        ({"changes": {"schedule": "no-such"}}, "schedule can't be 'no-such'"),
        ({"files": (Path("nowhere/order.json"),)}, "nowhere/order.json"),
    ],
)
def test_a_run_says_what_it_lacks(digits_run: Run, change: dict[str, object], lacks: str) -> None:
    run = replace(digits_run, **change)  # type: ignore[arg-type]
    assert lacks in ", ".join(run.missing())
    assert state_of(run, {}).kind == "needs"
    with pytest.raises(UsageError, match="needs"):
        run.config()


def test_an_order_is_read_from_its_file(digits_run: Run, tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    path.write_text('{"name": "mine", "configurations": [[1, 0, 0], [1, 1, 1]]}')
    run = replace(digits_run, order=str(path), files=(path,))
    if lacks := run.missing():
        pytest.skip(f"this code lacks {lacks[0]}")
    assert expected_work(run.config()).blocks == pytest.approx((1, 0.5, 0.5))


def test_a_done_run_is_known_by_its_data_file(digits_run: Run, finished: tuple[Path, object]) -> None:
    folder, _ = finished
    outcomes = {outcome.name: outcome for outcome in read_all(folder / "data")}
    assert state_of(digits_run, outcomes).kind == DONE
    assert state_of(digits_run.at("bf16-mixed"), outcomes).kind == DONE  # where it was done, not what
    assert state_of(digits_run, {}).kind == TO_DO
    partly = state_of(digits_run, {}, folder / "runs")
    assert (partly.kind, partly.epochs, partly.open) == ("partly", 2, True)
    assert state_of(replace(digits_run, changes={"epochs": 3, "batch": 64}), outcomes).kind == OTHER


def test_a_run_whose_network_began_as_in_an_earlier_version_is_to_do_again(
    digits_run: Run, finished: tuple[Path, object], tmp_path: Path
) -> None:
    outcome = read_all(finished[0] / "data")[0]
    earlier = replace(outcome, config=replace(outcome.config, initialisation=1))
    state = state_of(digits_run, {digits_run.name: earlier})
    assert (state.kind, state.open) == (AGAIN, True)
    directory = RunDirectory(tmp_path / "run")
    for name in ("run", "package"):
        (tmp_path / name).mkdir()
    directory.write_settings({"config": earlier.config.to_json()})
    set_aside(tmp_path, earlier.config)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "package"}
    set_aside(tmp_path, digits_run.config())
    assert {path.name for path in tmp_path.iterdir()} == {"run-initialisation-1", "package-initialisation-1"}


def test_a_sampled_step_computes_the_policys_mean(digits_run: Run) -> None:
    work = expected_work(digits_run.config())  # (1,0,0) and (1,1,0) with p = 1/4 each, (1,1,1) with 1/2
    assert work.stems == pytest.approx(1)
    assert work.blocks == pytest.approx((1, 0.75, 0.5))
    assert work.trained_share == pytest.approx(0.25 * 1 / 3 + 0.25 * 2 / 3 + 0.5)


@pytest.mark.parametrize(
    ("order", "blocks"),
    # Right to left, all share one pass. Blockwise, (1,1,1) and (2,2,2) share the first block alone.
    [("right-to-left", (2, 2, 2)), ("blockwise", (2, 3, 3))],
)
def test_configurations_of_a_step_share_what_they_have_in_common(
    digits_run: Run, order: str, blocks: tuple[float, float, float]
) -> None:
    run = replace(digits_run, network="resnet14", order=order, policy="uniform", changes={"objective": "joint"})
    assert expected_work(run.config()).blocks == pytest.approx(blocks)


def test_smaller_pictures_cost_less(digits_run: Run) -> None:
    run = replace(digits_run, dataset="cifar10", changes={"epochs": 2})
    half = replace(run, changes={"epochs": 2, "sizes": ((0.5, 0.5), (1.0, 1.0))})
    assert training_macs(half.config()) / training_macs(run.config()) == pytest.approx((1 + 0.25) / 2, rel=1e-3)


def test_the_list_says_where_another_precision_is_faster() -> None:
    def here(precision: str, rest: float) -> StepTimes:
        return StepTimes("here", precision, "2", rest, (0.01, 0.01, 0.01))

    slow, fast = here("bf16-mixed", 0.91), here("32-true", 0.16)  # with nine blocks: 1 s and 0.25 s
    assert "a step in 32-true takes 25% of one in bf16-mixed here" in (faster([slow, fast], "here") or "")
    assert faster([slow, fast], "elsewhere") is None and faster([slow], "here") is None
    assert faster([here("bf16-mixed", 0.1), fast], "here") is None
