from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comparing import comparison, done

from accordion.profiling.latency import machine_name
from experiments import commands
from experiments.comparisons import catalogue as listed
from experiments.comparisons.catalogue import Comparison, catalogue, variants
from experiments.comparisons.costs import estimates, own_work
from experiments.comparisons.execute import execute
from experiments.comparisons.listing import state_of
from experiments.comparisons.methods import METHODS
from experiments.comparisons.outcome import FOLDER, read_result
from experiments.state import AGAIN, DONE, NEEDS, OTHER, TO_DO
from experiments.timing import StepTimes


def test_names_are_unique_and_can_name_files() -> None:
    found = catalogue()
    assert len({one.name for one in found}) == len(found)
    assert all(re.fullmatch(r"[a-z0-9-]+", one.name) for one in found)


def test_every_method_is_listed_for_every_network() -> None:
    for network in ("resnet20", "resnet56", "resnet110", "resnet32"):
        assert {method for method, _ in variants(network)} == set(METHODS)
    first = catalogue()[0]
    assert (first.method, first.network, first.dataset, first.recipe) == ("plain", "resnet20", "cifar10", "brief")


def test_the_list_can_be_asked_for_another_network() -> None:
    found = catalogue(network="resnet32", seeds=[4])
    assert {(one.network, one.dataset, one.recipe, one.seed) for one in found} == {("resnet32", "cifar10", "brief", 4)}


def test_work_by_hand() -> None:
    def work(method: str, variant: str) -> float:
        return own_work(Comparison(method, variant, "resnet20", "cifar10", "brief", 0))

    assert work("plain", "float32") == 1 and work("quantized", "post-training") == 0
    # Eighteen epochs: eight on quarter pictures, five on nine sixteenths, five whole; six more whole ones.
    assert work("pruned", "50") == pytest.approx(6 / (8 * 0.25 + 5 * 0.5625 + 5))
    assert work("low-rank", "50") == pytest.approx(work("pruned", "50") / 2)
    assert work("distilled", "resnet8") == pytest.approx(work("alone", "resnet8") + 1 / 3)
    assert 0.25 < work("alone", "resnet8") < 0.35
    assert all(work(*one) > 0 for one in variants("resnet20") if one[0] not in ("quantized", "bit-planes", "elastic"))


def test_estimates_are_for_this_machine() -> None:
    one = Comparison("plain", "float32", "resnet20", "cifar10", "brief", 0)
    times = [StepTimes("here", "bf16-mixed", "2", 0.01, (0.01, 0.01, 0.01))]
    assert estimates([one], {}, times, "here")[one.name] == pytest.approx(351 * 0.1 * (8 * 0.25 + 5 * 0.5625 + 5), rel=1e-3)
    assert estimates([one], {}, times, "elsewhere") == {} and machine_name()
    # The complete network with p = 1/2, else one of the eight smaller ones: three quarters of the blocks.
    elastic = replace(one, method="elastic", variant="CoML-05")
    expected = 351 * (0.01 + 0.09 * 0.75) * (8 * 0.25 + 5 * 0.5625 + 5)
    assert estimates([elastic], {}, times, "here")[elastic.name] == pytest.approx(expected, rel=1e-3)


def test_states(tmp_path: Path) -> None:
    one = comparison("plain", "float32")
    assert state_of(one, {}, tmp_path).kind == TO_DO
    result = done("plain", "float32", tmp_path)
    assert state_of(one, {one.name: result}).kind == DONE
    assert state_of(one, {}, tmp_path / "runs").kind == "partly"
    assert state_of(comparison("plain", "float32", changes={"epochs": 5}), {one.name: result}).kind == OTHER
    older = replace(result, settings={**result.settings, "version": 0})
    assert (state := state_of(one, {one.name: older})).kind == AGAIN and state.open
    lacking = state_of(Comparison("elastic", "learned", "resnet32", "cifar10", "brief", 0), {})
    assert lacking.kind == NEEDS and "resnet32-cifar10.json" in lacking.detail


def test_an_elastic_networks_own_settings_must_be_the_lists(tmp_path: Path) -> None:
    one = comparison("elastic", "CoML-05")
    result = done("elastic", "CoML-05", tmp_path)
    assert state_of(one, {one.name: result}).kind == DONE
    assert state_of(one.at("bf16-mixed"), {one.name: result}).kind == DONE  # where it was done, not what
    trained = {**result.settings["trained"], "policy": "CoML-03"}
    other = replace(result, settings={**result.settings, "trained": trained})
    assert state_of(one, {one.name: other}).kind == OTHER


def test_a_comparison_goes_on_in_the_precision_in_which_something_of_it_was_begun(tmp_path: Path) -> None:
    one = comparison("low-rank", "50")
    where: dict[str, Any] = {"runs": tmp_path / "runs", "data": tmp_path / "data", "accelerator": "cpu"}
    assert execute(one, **where) is not None
    again = execute(comparison("further", "a third").at("bf16-mixed"), **where)
    assert again is not None
    assert (again.training.precision, again.training.base_precision, again.settings["precision"]) == ("32-true",) * 3
    asked = execute(comparison("distilled", "resnet8"), precision="bf16-mixed", **where)
    assert asked is not None
    assert (asked.training.precision, asked.training.base_precision) == ("bf16-mixed", "32-true")


def test_what_finds_a_learned_order_counts() -> None:
    learned = read_result(FOLDER / "elastic-resnet20-cifar10-brief-learned-s0.json").training
    plain = read_result(FOLDER / "plain-resnet20-cifar10-brief-float32-s0.json").training
    # Ten epochs over a grid of 36 configurations: four fifths of what the plain network's training computes.
    assert learned.search_macs / plain.macs == pytest.approx(0.79, abs=0.02)
    assert learned.total_macs == learned.macs + learned.search_macs


def test_next_does_what_is_open_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = comparison("plain", "float32")
    monkeypatch.setattr(listed, "catalogue", lambda *asked: [one])
    where = ["--runs", str(tmp_path / "runs"), "--data", str(tmp_path / "data")]
    assert commands.main(["comparisons", "run", one.name, "--max-time", "1ms", "--accelerator", "cpu", *where]) == 3
    assert "the same command goes on from here" in capsys.readouterr().err
    assert commands.main(["comparisons", "run", "next", "--accelerator", "cpu", *where]) == 0
    said = capsys.readouterr()
    assert "resnet8, float32" in said.out and "nothing is left to do here" in said.err
    assert commands.main(["comparisons", "list", "--json", *where]) == 0
    (row,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert row["state"] == "done" and row["seconds"] > 0


def test_a_trial_goes_through_and_leaves_the_data_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = comparison("plain", "float32")
    monkeypatch.setattr(listed, "catalogue", lambda *asked: [one])
    assert commands.main(["comparisons", "run", "next", "--trial", str(tmp_path), "--accelerator", "cpu"]) == 0
    assert "nothing is left to do here" in capsys.readouterr().err
    (path,) = (tmp_path / "data").iterdir()
    assert json.loads(path.read_text())["training"]["epochs"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "no-such"], "there is no comparison 'no-such'"),
        (["list", "--recipe", "no-such"], "there is no recipe 'no-such'"),
        (["list", "--dataset", "mnist"], "'mnist' is no data set of the comparisons"),
        (["list", "--network", "resnet21"], "'resnet21' is no network of the comparisons"),
        ([], "required: COMMAND"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["comparisons", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
