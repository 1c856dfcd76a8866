"""Two processes that train together. Each launch costs seconds for starting Python twice, so few tests do it, each for many claims."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed
from lightning_fabric import Fabric

from accordion.data import Dataset
from accordion.errors import StorageError, TrainingError, UsageError
from accordion.training import PAPER, Policy, RunDirectory, TrainingConfig, build_network, train
from accordion.training.parallel import Team, launch, make_fabric


def two(config: TrainingConfig) -> TrainingConfig:
    recipe = PAPER.with_changes(epochs=2, batch=32, weight_decay=0.1, average=0.5)
    return replace(config, recipe=recipe, policy=Policy("small", (0.5, 0.5, 0.0)), devices=2)


def test_two_processes_train_one_network_and_go_on_to_the_same_weights(
    config: TrainingConfig, few_digits: Dataset, tmp_path: Path
) -> None:
    config = two(config)
    torch.manual_seed(config.seed)
    first = build_network(config, few_digits).module.state_dict()
    train(config, tmp_path / "straight", accelerator="cpu", dataset=few_digits)
    trained = RunDirectory(tmp_path / "straight").read_weights()
    rows = [json.loads(line) for line in (tmp_path / "straight" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    for name, tensor in trained.items():
        # The third block is in no configuration that the policy draws: no process gave it a gradient, momentum, decay or statistics.
        assert torch.equal(tensor, first[name]) == name.startswith(("stage3.", "normalise.")), name
    with pytest.raises(TrainingError, match=r"its time is over.* in epoch 1 of 2; the same command goes on"):
        train(config, tmp_path / "stopped", accelerator="cpu", dataset=few_digits, max_seconds=0)
    train(config, tmp_path / "stopped", accelerator="cpu", dataset=few_digits)
    for name, tensor in RunDirectory(tmp_path / "stopped").read_weights().items():
        assert torch.equal(tensor, trained[name]), name


def _claims(fabric: Fabric, folder: Path) -> str:
    """Runs in both processes; what one asserts fails the launch."""
    team = Team(fabric)
    assert team.size == 2
    batch = torch.arange(6)
    assert team.part(batch).tolist() == ([0, 2, 4] if team.first else [1, 3, 5])
    assert team.agree(float(team.rank), stop=not team.first) == (0.5, True)

    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    for parameter in module.parameters():
        torch.nn.init.ones_(parameter)
    team.check_equal(module)
    module[:2](torch.full((3, 2), float(team.rank))).sum().backward()
    skipped = [buffer.clone() for buffer in module[3].buffers()]
    team.average(module)
    assert module[2].weight.grad is None
    assert all(torch.equal(a, b) for a, b in zip(skipped, module[3].buffers(), strict=True))
    mean = module[1].running_mean  # a tenth of what each saw: 2·0 + 1 and 2·1 + 1, averaged
    assert torch.allclose(mean, torch.full((2,), 0.1 * 2))
    team.check_equal(module)
    with torch.no_grad():
        module[0].weight[0, 0] += team.rank * 1e-6
    try:
        team.check_equal(module)
    except TrainingError:
        if team.first:
            (folder / "seen").write_text("different weights are noticed")
    else:
        raise AssertionError
    if not team.first:
        raise StorageError("the second process's own error arrives")
    return "answer"


def test_processes_share_batches_average_what_ran_and_notice_a_difference(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the second process's own error arrives"):
        launch(make_fabric("cpu", 2, "32-true"), 2, _claims, tmp_path)
    assert (tmp_path / "seen").exists()


def _breaks(fabric: Fabric) -> None:
    raise ZeroDivisionError("something unforeseen")


def test_an_unforeseen_end_of_a_process_is_an_error_of_the_training() -> None:
    with pytest.raises(TrainingError, match="a process of the training ended: ZeroDivisionError: something unforeseen"):
        launch(make_fabric("cpu", 2, "32-true"), 2, _breaks)


def test_alone_everything_is_a_plain_call() -> None:
    fabric = make_fabric("cpu", 1, "32-true")
    team = Team(fabric)
    assert (team.size, team.first, team.agree(2.0, True)) == (1, True, (2.0, True))
    assert launch(fabric, 1, lambda _, value: value + 1, 2) == 3


def test_what_the_machine_lacks_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match="can't train on 1 × cuda"):
        make_fabric("cuda", 1, "32-true")
    with pytest.raises(UsageError, match="can't train on 1 × cpu at precision 7"):
        make_fabric("cpu", 1, "7")
