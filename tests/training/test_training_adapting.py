"""What single configurations learn for themselves, with the weights as they are."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from accordion.cli import main
from accordion.data import Dataset
from accordion.elastic import OrderTable
from accordion.errors import FormatError, StoppedError, UsageError
from accordion.packaging import package
from accordion.profiling import profile
from accordion.training import (
    Finishing,
    RunDirectory,
    TrainingConfig,
    adapt,
    calibrate,
    correct,
    finish,
    load_run,
    restore,
    train,
)
from accordion.training.adapting import _Norm

ORDER = OrderTable("odd", ((1, 1, 0), (2, 1, 0), (2, 1, 1), (2, 2, 2)))
HEAD = ("head.linear.weight", "head.linear.bias")


@pytest.fixture(scope="module")
def trained(config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that learned a little as a whole, so that its smaller configurations have much to learn. Read only."""
    run = tmp_path_factory.mktemp("trained") / "run"
    recipe = config.recipe.with_changes(epochs=3)
    train(replace(config, network="resnet14", order=ORDER, policy="full", recipe=recipe), run, accelerator="cpu")
    calibrate(run, pictures=200)
    return run


@pytest.fixture(scope="module")
def adapted(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The same, adapted with two heads. Read only."""
    run = tmp_path_factory.mktemp("adapted") / "run"
    shutil.copytree(trained, run)
    return run, adapt(run, epochs=3, heads=2)


def answers(run: Path) -> list[torch.Tensor]:
    _, network, dataset = load_run(run)
    x = torch.from_numpy(dataset.test.x[:50]).float() / 255
    with torch.no_grad():
        return [network.at(k)(x) for k in range(len(network))]


def test_small_configurations_get_better_and_the_complete_one_stays_bit_for_bit(trained: Path, adapted: tuple[Path, Any]) -> None:
    run, found = adapted
    assert found.configurations == (0, 1, 2)  # the second has no other statistics than the complete one, but a head
    assert all(after <= before for before, after in zip(found.before, found.after, strict=True))
    assert found.after[0] < found.before[0] - 0.05
    assert 0 in found.kept and set(found.heads) <= {0, 1}
    # What it says is what the run now does.
    _, network, dataset = load_run(run)
    hits = correct(network, dataset.hold_out()[1], found.configurations)
    assert found.after == pytest.approx([1 - float(h.float().mean()) for h in hits.values()], abs=1e-6)
    before, after = answers(trained), answers(run)
    assert torch.equal(before[-1], after[-1])
    assert [k for k in range(3) if not torch.equal(before[k], after[k])] == list(found.kept)
    assert not (run / "adapting.json").exists()


def test_only_what_differed_already_and_heads_differ(trained: Path, adapted: tuple[Path, Any]) -> None:
    """Norms that see the same in all configurations keep common values, which travel once."""
    run, found = adapted
    before, after = RunDirectory(trained).read_norms(), RunDirectory(run).read_norms()
    assert before is not None and after is not None
    assert set(before.values) == {0, 2}
    for k in range(3):
        assert set(after.values.get(k, {})) == {*before.values.get(k, {}), *(HEAD if k in found.heads else ())}
    assert found.changed_values == sum({id(t): t.numel() for own in after.values.values() for t in own.values()}.values())


def test_without_a_number_heads_take_a_hundredth_of_the_parameters(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    assert adapt(tmp_path / "run", epochs=1).heads == ()  # 170 numbers are more than that of so small a network


def test_a_stop_costs_the_configuration_that_was_under_way(trained: Path, adapted: tuple[Path, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)

    begun: list[str] = []

    def stop(line: str) -> None:
        begun.append(line)
        if line.startswith("configuration 1 ("):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(StoppedError, match="time is over; the same command goes on with configuration 0"):
        adapt(run, epochs=3, heads=2, max_seconds=0)
    with pytest.raises(StoppedError, match="goes on with configuration 1"):
        adapt(run, epochs=3, heads=2, progress=stop)
    assert any("for those left" in line for line in begun)
    assert torch.equal(answers(run)[1], answers(trained)[1])
    record = json.loads((run / "adapting.json").read_text())
    del record["asked"]["smallest"]  # as before there was such an option
    (run / "adapting.json").write_text(json.dumps(record))
    said: list[str] = []
    assert adapt(run, epochs=3, heads=2, progress=said.append) == adapted[1]
    assert not any(line.startswith("configuration 0") for line in said)
    assert all(torch.equal(a, b) for a, b in zip(answers(run), answers(adapted[0]), strict=True))


@pytest.mark.parametrize("codec", ["float32", "int8"])
def test_a_package_carries_it(adapted: tuple[Path, Any], tmp_path: Path, codec: str) -> None:
    """Packaging runs every prefix and compares it with the network."""
    run = tmp_path / "run"
    shutil.copytree(adapted[0], run)
    profile(run, device_latency=False, limit=20)
    package(run, tmp_path / "package", codec=codec)
    if codec == "float32":
        again = restore(str(tmp_path / "package"), tmp_path / "again")
        assert again.heads == "shared"
        for one, other in zip(answers(run), answers(tmp_path / "again"), strict=True):
            assert torch.allclose(one, other, atol=1e-4)
        norms = RunDirectory(tmp_path / "again").read_norms()
        assert norms is not None
        assert [k for k, own in norms.values.items() if HEAD[0] in own] == list(adapted[1].heads)


def test_what_follows_keeps_it_and_calibrate_takes_it_back(adapted: tuple[Path, Any], trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(adapted[0], run)
    finish(run, tmp_path / "finished", Finishing(prune=0.1), epochs=1, learning_rate=1e-6, accelerator="cpu")
    kept, own = RunDirectory(tmp_path / "finished").read_norms(), RunDirectory(run).read_norms()
    assert kept is not None and own is not None
    assert torch.equal(kept.values[0][HEAD[0]], own.values[0][HEAD[0]])
    calibrate(run, pictures=200)
    assert all(torch.equal(a, b) for a, b in zip(answers(run), answers(trained), strict=True))


def test_heads_of_stages_become_heads_of_configurations(config: TrainingConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = config.recipe.with_changes(epochs=2)
    train(replace(config, network="resnet14", order=ORDER, heads="stage", recipe=recipe), run, accelerator="cpu")
    before = answers(run)
    found = adapt(run, epochs=2, heads=3)
    assert found.heads == found.kept and found.kept
    after = answers(run)
    assert [k for k in range(4) if not torch.equal(before[k], after[k])] == list(found.kept)
    norms = RunDirectory(run).read_norms()
    assert norms is not None
    last = {0: "head2", 1: "head2", 2: "head"}
    assert {k: set(own) for k, own in norms.values.items()} == {
        k: {f"{last[k]}.linear.weight", f"{last[k]}.linear.bias"} for k in found.kept
    }
    profile(run, device_latency=False, limit=20)
    package(run, tmp_path / "package")  # runs every prefix
    restore(str(tmp_path / "package"), tmp_path / "again")
    for one, other in zip(after, answers(tmp_path / "again"), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_the_smallest_alone(trained: Path, adapted: tuple[Path, Any], tmp_path: Path) -> None:
    """They learn what they learn when all do; everything else stays."""
    shutil.copytree(trained, tmp_path / "run")
    found = adapt(tmp_path / "run", epochs=3, heads=2, smallest=1)
    assert found.configurations == found.heads == (0,)
    assert (found.before[0], found.after[0]) == (adapted[1].before[0], adapted[1].after[0])
    for one, other in zip(answers(tmp_path / "run")[1:], answers(trained)[1:], strict=True):
        assert torch.equal(one, other)
    assert torch.equal(answers(tmp_path / "run")[0], answers(adapted[0])[0])


def test_the_same_twice_goes_on_learning(adapted: tuple[Path, Any], tmp_path: Path) -> None:
    shutil.copytree(adapted[0], tmp_path / "run")
    again = adapt(str(tmp_path / "run"), epochs=np.int64(1), heads=np.int64(1))
    assert again.before == (adapted[1].after[0], adapted[1].after[2])
    assert again.heads == adapted[1].heads  # also those that it did not go on with


def test_a_norm_learns_a_factor_and_a_shift_and_says_them_as_statistics() -> None:
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm2d(5).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -0.7, 0.0, 2.0, 1e-4]))
        norm.bias.normal_()
        norm.running_mean.normal_()
        norm.running_var.copy_(torch.tensor([1.0, 0.3, 2.0, 0.0, 1e-6]))
    x = torch.randn(4, 5, 3, 3)
    made = _Norm(norm)
    assert torch.allclose(made(x), norm(x), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        made.stretch.copy_(torch.tensor([0.4, -0.3, 0.2, 0.9, 3.0]))  # the last two can't grow as far: variances end at 0
        made.move.normal_()
    norm.running_mean, norm.running_var = made.statistics()
    assert float(norm.running_var.min()) >= 0
    assert torch.allclose(made(x), norm(x), rtol=1e-3, atol=1e-3)


def test_wrong_usage(trained: Path, config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    for wrong, problem in (
        ({"epochs": 0}, "whole number"), ({"epochs": 1.5}, "whole number"), ({"learning_rate": 0.0}, "learning rate"),
        ({"heads": -1}, "whole number"), ({"heads": 1.5}, "whole number"), ({"smallest": 0}, "whole number"),
        ({"precision": "64-true"}, "precision"), ({"accelerator": "none"}, "can't train on"),
        ({"dataset": replace(few_digits, train=few_digits.train.take(np.arange(3)))}, "too few pictures"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=problem):
            adapt(trained, **wrong)  # type: ignore[arg-type]
    only = tmp_path / "only"
    one = replace(config, order=OrderTable("one", ((1, 1, 1),)), network="resnet8", policy="uniform")
    train(replace(one, recipe=config.recipe.with_changes(epochs=1)), only, accelerator="cpu", dataset=few_digits)
    with pytest.raises(UsageError, match="one configuration"):
        adapt(only, dataset=few_digits)
    plain = tmp_path / "plain"
    train(replace(config, recipe=config.recipe.with_changes(epochs=1)), plain, accelerator="cpu", dataset=few_digits)
    with pytest.raises(UsageError, match="calibrate it, or give heads"):
        adapt(plain, heads=0, dataset=few_digits)
    with pytest.raises(UsageError, match="none of the 1 smallest configurations"):
        adapt(plain, heads=0, smallest=1, dataset=few_digits)
    (tmp_path / "run").mkdir()
    shutil.copytree(trained, tmp_path / "run", dirs_exist_ok=True)
    for text in (
        "{",
        "[]",
        '{"asked": 1, "done": {"0": {"before": 1}}}',
        '{"done": {"x": {"before": 0.5, "after": 0.4, "kept": true}}}',
    ):
        (tmp_path / "run" / "adapting.json").write_text(text)
        with pytest.raises(FormatError, match="damaged"):
            adapt(tmp_path / "run")


def test_the_command(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    assert main(["adapt", str(run), "--epochs", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["configurations"] == [0, 2]
    assert len(told["validation_errors"]) == len(told["validation_errors_before"]) == 2
    assert main(["adapt", str(run), "--epochs", "1", "--heads", "0"]) == 0
    assert "validation error" in capsys.readouterr().out
    assert main(["adapt", str(run), "--epochs", "1", "--smallest", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["configurations"] == [0]
    for wrong in (["--learning-rate", "2"], ["--epochs", "0"], ["--heads", "-1"], ["--smallest", "0"]):
        assert main(["adapt", str(run), *wrong]) == 2
    assert main(["adapt", str(tmp_path / "nothing")]) == 2
