from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from accordion.data import Dataset
from accordion.elastic import CifarResNet, ElasticNetwork, nested, right_to_left
from accordion.errors import TrainingError
from accordion.training import MODERN, PAPER, Policy, RunDirectory, TrainingConfig, build_network, train, uniform
from accordion.training.objectives import balanced, configurations, loss
from accordion.training.policies import named
from accordion.training.recipes import Recipe

SAMPLED = PAPER
JOINT = PAPER.with_changes(objective="joint")
POLICY = Policy("mine", (0.2, 0.0, 0.8))


def network_and_batch() -> tuple[ElasticNetwork, torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    module = CifarResNet(8, 5, widths=(2, 4, 8), in_channels=1)
    return ElasticNetwork(module, right_to_left(module.stages)), torch.rand(6, 1, 8, 8), torch.arange(6) % 5


def gradients(recipe: Recipe, weights: dict[int, float]) -> dict[str, torch.Tensor]:
    network, x, y = network_and_batch()
    loss(network, network.train().outputs(x, weights), y, weights, recipe).backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in network.module.named_parameters()}


def test_sampled_runs_one_configuration_drawn_from_the_policy() -> None:
    rng = np.random.default_rng(1)
    drawn = [configurations(SAMPLED, POLICY, rng) for _ in range(50)]
    assert all(len(weights) == 1 and set(weights.values()) == {1.0} for weights in drawn)
    assert {k for weights in drawn for k in weights} == {0, 2}


def test_joint_weighs_every_configuration_by_its_probability() -> None:
    assert configurations(JOINT, POLICY, np.random.default_rng(1)) == {0: 0.2, 2: 0.8}


def test_sandwich_runs_the_largest_the_smallest_and_one_more() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        weights = configurations(PAPER.with_changes(objective="sandwich"), uniform(5), rng)
        assert {0, 4} <= set(weights)
        assert len(weights) <= 3
        assert sum(weights.values()) == pytest.approx(1)


@torch.no_grad()
def test_the_joint_loss_is_the_policys_expectation_of_the_sampled_one() -> None:
    network, x, y = network_and_batch()
    single = [float(loss(network, network.outputs(x, [k]), y, {k: 1.0}, SAMPLED)) for k in range(3)]
    weights = configurations(JOINT, POLICY, np.random.default_rng(1))
    joint = float(loss(network, network.outputs(x, weights), y, weights, JOINT))
    assert joint == pytest.approx(sum(p * part for p, part in zip(POLICY.probabilities, single, strict=True)), rel=1e-6)


def test_the_joint_gradient_is_the_policys_expectation_of_the_sampled_one() -> None:
    joint = gradients(JOINT, configurations(JOINT, POLICY, np.random.default_rng(1)))
    single = {k: gradients(SAMPLED, {k: 1.0}) for k in (0, 2)}
    for name, gradient in joint.items():
        torch.testing.assert_close(gradient, 0.2 * single[0][name] + 0.8 * single[2][name], rtol=1e-4, atol=1e-6)


def test_only_the_complete_network_learns_from_softened_labels() -> None:
    network, x, y = network_and_batch()
    recipe = SAMPLED.with_changes(label_smoothing=0.2)
    for k, smoothing in ((0, 0.0), (2, 0.2)):
        outputs = network.outputs(x, [k])
        expected = F.cross_entropy(outputs[k], y, label_smoothing=smoothing)
        torch.testing.assert_close(loss(network, outputs, y, {k: 1.0}, recipe), expected)


def test_distillation_teaches_the_smaller_and_not_the_teacher() -> None:
    network, x, y = network_and_batch()
    recipe = JOINT.with_changes(distill=1.0)
    outputs = {k: output.detach().requires_grad_() for k, output in network.outputs(x, [0, 2]).items()}
    loss(network, outputs, y, {0: 1.0, 2: 0.0}, recipe).backward()
    expected = F.softmax(outputs[0], 1) - F.softmax(outputs[2], 1)
    torch.testing.assert_close(outputs[0].grad, expected.detach() / len(y))
    assert not outputs[2].grad.any()


def steps(config: TrainingConfig, run: Path, dataset: Dataset, count: int) -> Iterator[dict[str, Any]]:
    """The checkpoint after each of the first `count` steps of a training."""
    for _ in range(count):
        with pytest.raises(TrainingError, match="time is over"):
            train(config, run, accelerator="cpu", dataset=dataset, max_seconds=0)
        state = RunDirectory(run).read_checkpoint()
        assert state is not None
        yield state


def test_a_sampled_step_leaves_weights_momentum_and_decay_of_skipped_blocks_alone(
    config: TrainingConfig, few_digits: Dataset, tmp_path: Path
) -> None:
    recipe = PAPER.with_changes(epochs=2, batch=32, weight_decay=0.1)
    config = replace(config, recipe=recipe, policy="uniform")
    policy = uniform(3)
    network = build_network(config, few_digits)
    names = [name for name, _ in network.module.named_parameters()]
    blocks = [block for stage in network.order.stages for block in stage]

    states = list(steps(config, tmp_path, few_digits, 6))
    seen = []
    for number, (before, after) in enumerate(pairwise(states), start=1):
        epoch, step = divmod(number, 4)
        (k,) = configurations(recipe, policy, np.random.default_rng([config.seed, epoch, step, 1]))
        skipped = tuple(f"{block}." for block in blocks if block not in network.order.configurations[k])
        for key, value in after["module"].items():
            if key.startswith(skipped):
                assert torch.equal(value, before["module"][key]), key
            elif key in names:
                assert not torch.equal(value, before["module"][key]), key
        for position, name in enumerate(names):
            old, new = (state["optimizer"]["state"].get(position, {}).get("momentum_buffer") for state in (before, after))
            if name.startswith(skipped):
                assert (old is None and new is None) or torch.equal(old, new), name
                seen.append(old is not None)
            else:
                assert old is None or not torch.equal(old, new), name
    # Blocks without momentum so far and blocks that had some: both were skipped at least once.
    assert True in seen


def test_skipped_blocks_that_no_policy_draws_keep_their_first_weights(
    config: TrainingConfig, few_digits: Dataset, tmp_path: Path
) -> None:
    recipe = PAPER.with_changes(epochs=1, batch=32, weight_decay=0.1)
    config = replace(config, recipe=recipe, policy=Policy("smallest", (1.0, 0.0, 0.0)))
    torch.manual_seed(config.seed)
    first = build_network(config, few_digits).module.state_dict()
    train(config, tmp_path, accelerator="cpu", dataset=few_digits)
    trained = RunDirectory(tmp_path).read_weights()
    for key, value in first.items():
        if key.startswith(("stage2.", "stage3.")):
            assert torch.equal(trained[key], value), key
    assert not torch.equal(trained["stage1.0.conv1.weight"], first["stage1.0.conv1.weight"])


def test_the_blocks_of_a_nested_order_that_is_not_a_prefix_are_skipped_too() -> None:
    _, x, y = network_and_batch()
    module = CifarResNet(14, 5, widths=(2, 4, 8), in_channels=1)
    network = ElasticNetwork(module, nested("mine", module.stages, [(1, 0, 1), (2, 2, 2)]))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for k in (1, 0):
        before = {name: p.detach().clone() for name, p in module.named_parameters()}
        optimizer.zero_grad(set_to_none=True)
        loss(network, network.outputs(x, [k]), y, {k: 1.0}, SAMPLED).backward()
        optimizer.step()
    skipped = ("stage1.1.", "stage2.", "stage3.1.")
    for name, p in module.named_parameters():
        assert torch.equal(p, before[name]) == name.startswith(skipped), name


def test_balance_takes_weight_from_small_configurations_and_keeps_the_sum() -> None:
    module = CifarResNet(14, 10, widths=(4, 8, 16))
    network = ElasticNetwork(module, right_to_left(module.stages))
    recipe = MODERN.with_changes(balance=2.0)
    weights = dict(enumerate(named("CoML-05", 6).probabilities))
    found = balanced(network, weights, recipe)
    assert sum(found.values()) == pytest.approx(1.0)
    for k in range(6):
        ratio = weights[k] / weights[5] * ((k + 1) / 6) ** 2
        assert found[k] / found[5] == pytest.approx(ratio)
    assert balanced(network, weights, MODERN) == weights
