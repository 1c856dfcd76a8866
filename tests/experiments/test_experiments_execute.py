from __future__ import annotations

import fcntl
import json
import math
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from accordion.errors import FormatError, StoppedError, TrainingError
from accordion.training import RunDirectory
from experiments import catalogue, commands
from experiments.execute import BusyError, alone, execute, package_sizes
from experiments.listing import estimates
from experiments.one_by_one import one_by_one
from experiments.outcome import Outcome, read_all, read_outcome
from experiments.run import Run
from experiments.timing import StepTimes


def test_a_run_ends_in_one_small_file(digits_run: Run, finished: tuple[Path, Outcome]) -> None:
    folder, outcome = finished
    (path,) = (folder / "data").iterdir()
    assert path.name == f"{digits_run.name}.json" and path.stat().st_size < 5000
    data = json.loads(path.read_text())
    assert data["seed"] == 0 and data["config"]["recipe"]["epochs"] == 2 and data["commit"]
    assert read_outcome(path) == outcome


def test_every_configuration_is_measured(finished: tuple[Path, Outcome]) -> None:
    _, outcome = finished
    assert [row.blocks_by_stage for row in outcome.configurations] == [(1, 0, 0), (1, 1, 0), (1, 1, 1)]
    assert {(row.test.of, row.validation.of) for row in outcome.configurations} == {(359, 144)}
    # 4, 8 and 16 channels: two 3×3 convolutions a block, with biases for the folded norms; the input layer, the head.
    # (What normalises a single input channel is two numbers, which stay in the graphs.)
    fixed = (9 * 4 + 4) + (16 * 10 + 10)
    sizes = [fixed + sum(2 * (9 * w * w + w) for w in widths) for widths in ((4,), (4, 8), (4, 8, 16))]
    assert [row.weights_bytes for row in outcome.configurations] == [4 * size for size in sizes]
    assert all(row.package_bytes > row.weights_bytes for row in outcome.configurations)


def test_the_curve_is_the_trainings(finished: tuple[Path, Outcome], digits_run: Run) -> None:
    folder, outcome = finished
    rows = [json.loads(line) for line in (folder / "runs" / digits_run.name / "run" / "metrics.jsonl").read_text().splitlines()]
    assert outcome.curve.loss == pytest.approx([row["loss"] for row in rows], abs=1e-4)
    assert outcome.curve.epochs == (1, 2)
    last = [count.validation.error for count in outcome.configurations]
    assert outcome.curve.validation_errors[-1] == pytest.approx(last, abs=1e-4)


def test_a_run_that_had_no_time_goes_on_to_the_same_outcome(
    digits_run: Run, finished: tuple[Path, Outcome], tmp_path: Path
) -> None:
    where: dict[str, Any] = {"runs": tmp_path / "runs", "data": tmp_path / "data", "accelerator": "cpu"}
    for _ in range(3):
        assert execute(digits_run, deadline=time.monotonic(), **where) is None
    assert not (tmp_path / "data").exists()
    outcome = execute(digits_run, deadline=None, **where)
    assert outcome is not None
    assert replace(outcome, seconds=0, commit="") == replace(finished[1], seconds=0, commit="")
    one, two = (RunDirectory(folder / "runs" / digits_run.name / "run").read_weights() for folder in (tmp_path, finished[0]))
    assert all((one[name] == two[name]).all() for name in two)


def test_two_processes_do_not_do_one_run(digits_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / digits_run.name
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="another process"):
            execute(digits_run, runs=tmp_path / "runs", data=tmp_path / "data")


def test_whoever_needs_what_another_process_is_at_waits_for_it(tmp_path: Path) -> None:
    released = threading.Event()
    with (tmp_path / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="another process"), alone(tmp_path, waits=0.05):
            pytest.fail("it is locked")

        def release() -> None:
            released.set()
            fcntl.flock(handle, fcntl.LOCK_UN)

        timer = threading.Timer(0.2, release)
        timer.start()
        with alone(tmp_path, waits=math.inf):
            assert released.is_set()
        timer.join()


def test_sizes_are_those_of_the_package(finished: tuple[Path, Outcome], digits_run: Run) -> None:
    folder, outcome = finished
    sizes = package_sizes(folder / "runs" / digits_run.name / "package")
    assert sizes == [(row.package_bytes, row.weights_bytes) for row in outcome.configurations]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.update(schema_version=2),
        lambda data: data.pop("seconds"),
        lambda data: data["configurations"].pop(),
        lambda data: data["configurations"].reverse(),
        lambda data: data["configurations"][0]["test"].update(wrong=400),
        lambda data: data["configurations"][0]["test"].update(of=0),
        lambda data: data["curve"]["loss"].pop(),
        lambda data: data["curve"]["validation_errors"].pop(),
        lambda data: data["config"].pop("recipe"),
        lambda data: data.update(curve=[1]),
    ],
)
def test_files_that_are_no_outcome_are_refused(
    finished: tuple[Path, Outcome], tmp_path: Path, spoil: Callable[[dict[str, Any]], object]
) -> None:
    data = finished[1].to_json()
    data = json.loads(json.dumps(data))
    spoil(data)
    (tmp_path / "bad.json").write_text(json.dumps(data))
    with pytest.raises(FormatError, match=r"bad\.json is not the outcome of a run"):
        read_all(tmp_path)


def test_a_copy_is_no_further_seed(finished: tuple[Path, Outcome], tmp_path: Path) -> None:
    path = finished[1].write(tmp_path)
    assert read_all(tmp_path) == [finished[1]]
    (tmp_path / "copy.json").write_bytes(path.read_bytes())
    with pytest.raises(FormatError, match=rf"belongs into {finished[1].name}\.json: is it a copy"):
        read_all(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "nonsense", '{"seed": 1e999}', '{"seed": NaN}', "[" * 100_000])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(FormatError, match=r"bad\.json is not"):
        read_outcome(tmp_path / "bad.json")


@pytest.fixture
def short_list(digits_run: Run, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The list has a run that can't start, and one that takes a second."""
    runs = [replace(digits_run, scheme="impossible", changes={"no_such_field": 1}), digits_run]
    monkeypatch.setattr(catalogue, "catalogue", lambda: runs)
    return runs


def test_next_does_what_can_be_done_and_then_says_so(
    short_list: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--runs", str(tmp_path / "runs"), "--data", str(tmp_path / "data")]
    assert commands.main(["run", "next", "--accelerator", "cpu", *where]) == 0
    said = capsys.readouterr()
    assert f"{short_list[1].name}: test error complete" in said.out
    assert "nothing is left to do here" in said.err
    assert commands.main(["list", "--json", *where]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [row["state"] for row in rows] == ["needs", "done"]
    assert "no_such_field" in rows[0]["detail"] and rows[1]["epochs"] == 2
    assert commands.main(["list", *where]) == 0
    assert "1 of 2 runs are done" in capsys.readouterr().out


def test_a_run_by_name_that_has_no_time_says_so(short_list: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--runs", str(tmp_path / "runs"), "--data", str(tmp_path / "data"), "--accelerator", "cpu"]
    assert commands.main(["run", short_list[1].name, "--max-time", "1ms", *where]) == 3
    assert "the same command goes on from here" in capsys.readouterr().err
    assert commands.main(["list", "--runs", where[1], "--data", where[3]]) == 0
    assert "partly" in capsys.readouterr().out


def test_a_run_goes_on_in_the_precision_it_began_in(
    short_list: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = short_list[1].name
    where = ["--runs", str(tmp_path / "runs"), "--data", str(tmp_path / "data"), "--accelerator", "cpu"]
    assert commands.main(["run", name, "--precision", "bf16-mixed", "--max-time", "1ms", *where]) == 3
    assert commands.main(["run", name, "--precision", "32-true", *where]) == 2
    assert "precision 'bf16-mixed' → '32-true'" in capsys.readouterr().err
    assert commands.main(["run", name, *where]) == 0
    assert read_outcome(tmp_path / "data" / f"{name}.json").config.precision == "bf16-mixed"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "no-such-run"], 2, "there is no run 'no-such-run'"),
        (["run", "next", "--max-time", "soon"], 2, "'soon' is not a time"),
        (["run"], 2, "required: NAME|next"),
        (["nonsense"], 2, "invalid choice"),
        (["zoo", "no-such-package"], 1, "no-such-package is no package"),
        (["duplicates", "mnist"], 2, "unknown data set 'mnist'"),
        (["tables", "--data", "no-such-folder"], 2, "there is no folder no-such-folder"),
        (["figures", "--data", "no-such-folder"], 2, "there is no folder no-such-folder"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(arguments) == code
    error = capsys.readouterr().err
    assert said in error and error.startswith("experiments: ") and error.count("\n") == 1


def test_a_diverged_run_does_not_keep_the_others_from_being_done_and_a_signal_does(digits_run: Run) -> None:
    done: list[str] = []

    def work(error: Exception) -> Callable[[Run], object]:
        def one(run: Run) -> None:
            if run.seed == 1:
                raise error
            done.append(run.name)

        return one

    runs = [replace(digits_run, seed=1), digits_run]
    still_open = lambda: [run for run in runs if run.name not in done]  # noqa: E731
    assert one_by_one(still_open, work(TrainingError("the loss became nan")), lambda line: None) == 1
    assert done == [digits_run.name]
    done.clear()
    with pytest.raises(StoppedError, match="SIGTERM"):
        one_by_one(still_open, work(StoppedError("stopped (SIGTERM)")), lambda line: None)
    assert done == []


def test_what_another_process_is_at_is_waited_for_last(digits_run: Run) -> None:
    runs = [replace(digits_run, seed=seed) for seed in (1, 2, 3)]
    done: list[tuple[int, str]] = []

    def work(how: str) -> Callable[[Run], object]:
        def one(run: Run) -> None:
            if run.seed == 1 and how == "at once":
                raise BusyError("another process is at it")
            done.append((run.seed, how))

        return one

    still_open = lambda: [run for run in runs if run.seed not in [seed for seed, _ in done]]  # noqa: E731
    assert one_by_one(still_open, work("at once"), lambda line: None, patiently=work("patiently")) == 0
    assert done == [(2, "at once"), (3, "at once"), (1, "patiently")]
    done.clear()
    assert one_by_one(still_open, work("at once"), lambda line: None) == 0
    assert done == [(2, "at once"), (3, "at once")]


@pytest.mark.parametrize(("codes", "code"), [((0, 0), 0), ((0, 4), 4), ((-9, 0), 1), ((-9, 4), 4)])
def test_a_job_that_was_killed_is_no_success(codes: tuple[int, int], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left = list(codes)
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: SimpleNamespace(wait=lambda: left.pop(0)))
    assert commands.main(["run", "next", "--jobs", "2"]) == code


def test_the_list_is_the_same_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = catalogue.delivered("demand-matched", "resnet20", "cifar10", "brief", 0)
    monkeypatch.chdir(tmp_path)
    assert run.missing() == [] and len(run.config().policy_for(9)) == 9


def test_estimates_are_corrected_by_runs_in_the_same_precision(digits_run: Run, finished: tuple[Path, Outcome]) -> None:
    done = replace(finished[1], seconds=1000.0)
    times = [StepTimes(done.machine, precision, "2", 0.01, (0.01, 0.01, 0.01)) for precision in ("32-true", "bf16-mixed")]
    other = replace(digits_run, seed=1)
    plain = estimates([other], {}, times, done.machine)[other.name]
    assert estimates([digits_run, other], {done.name: done}, times, done.machine)[other.name] > 2 * plain
    runs = [digits_run.at("bf16-mixed"), other.at("bf16-mixed")]
    assert estimates(runs, {done.name: done}, times, done.machine)[other.name] == plain


def test_a_failed_run_does_not_keep_the_others_from_being_done(
    digits_run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = replace(digits_run, scheme="broken", seed=1)
    (tmp_path / "runs" / broken.name / "run").mkdir(parents=True)
    (tmp_path / "runs" / broken.name / "run" / "run.json").write_bytes(b"nothing")
    monkeypatch.setattr(catalogue, "catalogue", lambda: [broken, digits_run])
    where = ["--runs", str(tmp_path / "runs"), "--data", str(tmp_path / "data"), "--accelerator", "cpu"]
    assert commands.main(["run", "next", *where]) == 4
    said = capsys.readouterr()
    assert f"{broken.name} failed" in said.err and digits_run.name in said.out
    assert issubclass(BusyError, TrainingError)
