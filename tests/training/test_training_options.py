"""Options of a recipe that change the weights: each does what it says, and a training that was stopped comes to the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from accordion.data import Dataset
from accordion.elastic import CifarResNet, ElasticNetwork, OrderTable, by_name
from accordion.errors import FormatError, TrainingError, UsageError
from accordion.packaging import package
from accordion.profiling import profile
from accordion.training import MODERN, Policy, RunDirectory, TrainingConfig, build_network, load_run, train, uniform
from accordion.training.averaging import WeightAverage
from accordion.training.compiled import CompiledSteps, straight_line
from accordion.training.config import INITIALISATION
from accordion.training.objectives import configurations, loss
from accordion.training.recipes import learning_rate

ORDER = OrderTable("mine", ((1, 1, 1), (1, 1, 2), (2, 1, 2), (2, 2, 2)))


def same_weights(run: Path, other: Path) -> bool:
    one, two = RunDirectory(run).read_weights(), RunDirectory(other).read_weights()
    return one.keys() == two.keys() and all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({}, {"average": 0.9, "norms": "shared", "norm_pictures": 64}),
        ({"order": "grid", "network": "resnet14"}, {"objective": "sandwich", "draws": 2, "schedule": "cosine"}),
        ({"order": ORDER, "network": "resnet14"}, {"objective": "stratified", "norms": "2", "norm_pictures": 64}),
        ({"compile": "eager"}, {"objective": "sampled"}),
    ],
)
def test_a_stopped_training_goes_on_to_the_same_weights(
    config: TrainingConfig, few_digits: Dataset, tmp_path: Path, settings: dict[str, Any], changes: dict[str, Any]
) -> None:
    config = replace(config, recipe=config.recipe.with_changes(**changes), **settings)
    straight = train(config, tmp_path / "straight", accelerator="cpu", dataset=few_digits)
    for _ in range(8):
        with pytest.raises(TrainingError, match="time is over"):
            train(config, tmp_path / "stopped", accelerator="cpu", dataset=few_digits, max_seconds=0)
    stopped = train(config, tmp_path / "stopped", accelerator="cpu", dataset=few_digits)
    assert stopped.errors == straight.errors
    assert same_weights(tmp_path / "stopped", tmp_path / "straight")
    for run in ("stopped", "straight"):
        assert RunDirectory(tmp_path / run).norms_path.exists() == (config.recipe.norms != "running")


def test_an_order_given_as_data_lands_in_run_ladder_and_package(
    config: TrainingConfig, few_digits: Dataset, tmp_path: Path
) -> None:
    config = replace(config, network="resnet14", order=ORDER, recipe=config.recipe.with_changes(epochs=1))
    train(config, tmp_path / "run", accelerator="cpu", dataset=few_digits)
    assert TrainingConfig.from_json(json.loads((tmp_path / "run" / "run.json").read_text())["config"]) == config
    found = profile(tmp_path / "run", device_latency=False, limit=20)
    assert [tuple(row["blocks"]["by_stage"]) for row in found.ladder["configurations"]] == list(ORDER.configurations)
    assert found.ladder["order"] == "mine"
    package(tmp_path / "run", tmp_path / "package")


def test_a_grid_is_trained_and_watched_but_never_packaged(config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    recipe = config.recipe.with_changes(objective="sandwich", epochs=1)
    config = replace(config, network="resnet14", order="grid:1,0,1", recipe=recipe)
    result = train(config, tmp_path / "run", accelerator="cpu", dataset=few_digits)
    assert result.trained == 2 * 3 * 2
    assert result.configurations[-1] == 11 and len(result.errors) == len(result.configurations) < 12
    for refused in (lambda: package(tmp_path / "run", tmp_path / "package"), lambda: profile(tmp_path / "run")):
        with pytest.raises(UsageError, match="accordion order"):
            refused()
    assert not (tmp_path / "package").exists()


def test_joint_over_a_grid_is_refused(config: TrainingConfig, few_digits: Dataset) -> None:
    with pytest.raises(UsageError, match="joint would run all 8 configurations"):
        build_network(replace(config, order="grid", network="resnet14"), few_digits)


def test_settings_of_an_earlier_version_load_and_go_on(config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    train_args = {"accelerator": "cpu", "dataset": few_digits}
    with pytest.raises(TrainingError):
        train(config, tmp_path, max_seconds=0, **train_args)
    settings = json.loads((tmp_path / "run.json").read_text())
    for field in ("devices", "compile"):
        del settings["config"][field]
    for field in ("draws", "smooth_all", "average", "norms", "norm_pictures"):
        del settings["config"]["recipe"][field]
    (tmp_path / "run.json").write_text(json.dumps(settings))
    state = RunDirectory(tmp_path).read_checkpoint()
    assert state is not None
    del state["norms"]
    RunDirectory(tmp_path).write_checkpoint(state)
    train(config, tmp_path, **train_args)
    assert load_run(tmp_path)[0] == config


def test_a_field_of_a_later_version_is_refused(config: TrainingConfig) -> None:
    data = json.loads(json.dumps(config.to_json()))
    assert TrainingConfig.from_json(data) == config
    with pytest.raises(FormatError, match="not the settings"):
        TrainingConfig.from_json({**data, "wings": 2})
    with pytest.raises(FormatError, match="wings"):
        TrainingConfig.from_json({**data, "recipe": {**data["recipe"], "wings": 2}})


def test_the_average_is_the_exponential_moving_one_with_a_short_memory_at_first() -> None:
    module = torch.nn.BatchNorm1d(1)
    average = WeightAverage(module, 0.5)
    value, expected = 1.0, 1.0
    for step in range(6):
        value += 1
        with torch.no_grad():
            module.weight.fill_(value)
            assert module.running_mean is not None and module.num_batches_tracked is not None
            module.running_mean.fill_(-value)
            module.num_batches_tracked.add_(1)
        average.update(module, step)
        kept = min(0.5, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * value
        assert float(average.module.state_dict()["weight"]) == pytest.approx(expected)
    assert int(average.module.state_dict()["num_batches_tracked"]) == 6
    assert not average.module.weight.requires_grad


def test_averaging_changes_what_is_kept_and_not_the_training(
    finished: Path, config: TrainingConfig, few_digits: Dataset, tmp_path: Path
) -> None:
    train(replace(config, recipe=config.recipe.with_changes(average=0.5)), tmp_path, accelerator="cpu", dataset=few_digits)
    state, plain = RunDirectory(tmp_path).read_checkpoint(), RunDirectory(finished).read_weights()
    assert state is not None
    assert all(torch.equal(tensor, plain[name]) for name, tensor in state["module"].items())
    assert not same_weights(tmp_path, finished)


def test_cosine_rises_in_a_line_falls_as_half_a_cosine_and_ends_near_0() -> None:
    recipe = MODERN.with_changes(epochs=10, learning_rate=0.5, schedule="cosine", warm_up=0.2)
    rates = [learning_rate(recipe, step, 10) for step in range(100)]
    assert rates[:20] == pytest.approx([0.5 * (step + 1) / 20 for step in range(20)])
    assert rates[20:] == pytest.approx([0.25 * (1 + np.cos(np.pi * n / 80)) for n in range(80)])


@pytest.mark.parametrize("draws", [1, 2, 5])
def test_sandwich_and_stratified_draw_as_many_as_asked_for(draws: int) -> None:
    policy, rng = Policy("mine", (0.1,) * 5 + (0.5,)), np.random.default_rng(0)
    sandwich, stratified = (MODERN.with_changes(objective=name, draws=draws) for name in ("sandwich", "stratified"))
    most, mean = 0, np.zeros(6)
    for _ in range(400):
        weights = configurations(sandwich, policy, rng)
        assert {0, 5} <= set(weights) and sum(weights.values()) == pytest.approx(1)
        most = max(most, len(weights))
        weights = configurations(stratified, policy, rng)
        assert weights[5] == 0.5 and len(weights) <= 1 + draws
        for k, weight in weights.items():
            mean[k] += weight / 400
    assert most == min(2 + draws, 6)
    assert mean == pytest.approx(policy.probabilities, abs=0.05)  # unbiased for the policy


def test_smooth_all_softens_the_labels_of_every_configuration() -> None:
    torch.manual_seed(2)
    module = CifarResNet(8, 5, widths=(2, 4, 8), in_channels=1)
    network = ElasticNetwork(module, by_name("right-to-left", module.stages))
    x, y = torch.rand(6, 1, 8, 8), torch.arange(6) % 5
    recipe = MODERN.with_changes(label_smoothing=0.2, smooth_all=True, distill=0.0)
    outputs = network.outputs(x, [0])
    torch.testing.assert_close(loss(network, outputs, y, {0: 1.0}, recipe), F.cross_entropy(outputs[0], y, label_smoothing=0.2))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_every_set_of_configurations_gets_a_step_of_its_own(backend: str) -> None:
    torch.manual_seed(4)
    module = CifarResNet(14, 5, widths=(2, 4, 8), in_channels=1)
    network = ElasticNetwork(module, by_name("right-to-left", module.stages))
    steps = CompiledSteps(network, backend)
    x = torch.rand(4, 1, 8, 8)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    # More than the compiler's limit of recompilations; the slower backend, which also compiles the backward pass, two of them.
    sets = [(k,) for k in range(6)] + [(0, 5), (0, 2, 5), (1, 3), (4, 5), (2, 3, 4)] if backend == "eager" else [(0,), (0, 5)]
    for _ in range(2):  # the second time nothing is compiled
        for ks in sets:
            found = steps.outputs(x, ks)
            network.zero_grad(set_to_none=True)
            sum((output.square().sum() for output in found.values()), torch.zeros(())).backward()
            for name, parameter in module.named_parameters():
                block = name.rpartition(".")[0].rpartition(".")[0]
                runs = not block.startswith("stage") or any(block in network.order.configurations[k] for k in ks)
                assert (parameter.grad is not None) == runs, (ks, name)
            expected = network.outputs(x, ks)
            for k in ks:
                torch.testing.assert_close(found[k], expected[k])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == len(sets)


def test_what_configurations_share_stands_once_in_the_straight_line() -> None:
    module = CifarResNet(14, 5, widths=(2, 4, 8), in_channels=1)
    network = ElasticNetwork(module, by_name("blockwise", module.stages))
    program, ends = straight_line(network, [0, 1])
    # 0: normalise, stem, block, join, block, join, block, head; 1 shares the first three and has nine of its own.
    assert len(program) == 8 + 9 - 1 and len(ends) == 2


def test_a_batch_that_can_not_be_shared_is_refused(config: TrainingConfig, few_digits: Dataset) -> None:
    with pytest.raises(UsageError, match="can't be shared by 3 processes"):
        build_network(replace(config, devices=3), few_digits)
    with pytest.raises(UsageError, match="unknown compile backend"):
        build_network(replace(config, compile="magic"), few_digits)


def test_uniform_policies_reach_grids(few_digits: Dataset, config: TrainingConfig) -> None:
    network = build_network(
        replace(config, order="grid", network="resnet20", recipe=config.recipe.with_changes(objective="sampled")), few_digits
    )
    assert len(network) == 27 and len(uniform(27)) == 27


@pytest.mark.parametrize(("zero", "expected"), [(True, 1), (False, INITIALISATION)])
def test_settings_of_an_earlier_version_say_how_the_network_began(zero: bool, expected: int) -> None:
    config = TrainingConfig(recipe=MODERN.with_changes(zero_init_last_norm=zero))
    written = config.to_json()
    assert TrainingConfig.from_json(written) == config
    del written["initialisation"]
    assert TrainingConfig.from_json(written).initialisation == expected
