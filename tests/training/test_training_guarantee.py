from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import binomtest

from accordion.data import Dataset, load
from accordion.errors import TrainingError, UsageError
from accordion.training import Finishing, RunDirectory, TrainingConfig, calibrate, correct, finish, load_run, train
from accordion.training.guarantee import Chooser, Guarantee, parse_guarantee
from accordion.training.report import report, report_table, upper_bound

Array = NDArray[np.float64]


def parsed(value: Any, k: int = 3) -> Guarantee:
    return parse_guarantee(json.dumps(value).encode(), "g.json", k)


def test_one_target_for_all_or_one_for_each() -> None:
    assert parsed({"target_error": 0.1}).targets == (0.1,) * 3
    assert parsed({"target_error": [0.3, 0.2, 0.1]}).targets == (0.3, 0.2, 0.1)


def test_points_of_regret_are_counted_from_the_references() -> None:
    made = parsed({"regret_points": 2, "references": [0.3, 0.2, 0.99], "confidence": 0.9})
    assert made.targets == pytest.approx((0.32, 0.22, 1.0))
    assert (made.references, made.confidence) == ((0.3, 0.2, 0.99), 0.9)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "either 'target_error' or 'regret_points'"),
        ({"target_error": 0.1, "regret_points": 1}, "either"),
        ({"target_error": 1.1}, "target of configuration 0 is 1.1"),
        ({"target_error": -0.1}, "target of configuration 0 is -0.1"),
        ({"target_error": "0.1"}, "neither a number"),
        ({"target_error": [True, 0.1, 0.1]}, "neither a number"),
        ({"target_error": [0.1, 0.1]}, "for 2 configurations, the network has 3"),
        ({"target_error": 0.1, "references": 0.1}, "belong to 'regret_points'"),
        ({"regret_points": 1}, "needs 'references'"),
        ({"regret_points": -20, "references": 0.1}, "target of configuration 0 is -0.1"),
        ({"regret_points": 1, "references": [0.1]}, "for 1 configurations"),
        ({"regret_points": 1, "references": 2}, "configuration 0"),
        ({"target_error": 0.1, "speed": 0}, "speed can't be 0"),
        ({"target_error": 0.1, "speed": "fast"}, "no number"),
        ({"target_error": 0.1, "bound": 0}, "bound can't be 0"),
        ({"target_error": 0.1, "exploration": 0.9}, "exploration can't be 0.9"),
        ({"target_error": 0.1, "confidence": 1}, "confidence can't be 1"),
        ({"target_error": 0.1, "certify": "train"}, "certify can't be 'train'"),
        ({"target_error": 0.1, "evil": 1}, "no 'evil'"),
        ([0.1], "not a JSON object"),
    ],
)
def test_what_is_no_guarantee_is_refused(value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"^g.json.*{message}"):
        parsed(value)


def test_every_configuration_keeps_its_share_of_the_exploration() -> None:
    chooser = Chooser(Guarantee((0.0, 1.0, 1.0, 1.0), exploration=0.2), 50_000)
    for _ in range(2000):
        chooser.observe(0, 1.0)
    shares = chooser.policy().probabilities
    assert math.fsum(shares) == pytest.approx(1)
    assert min(shares) >= chooser.exploration / 4 * (1 - 1e-9)
    assert chooser.exploration == 0.2


def test_no_estimate_moves_the_probabilities_by_more_than_the_analysis_allows() -> None:
    for k, steps, speed in ((2, 10, 1.0), (27, 500, 1.0), (54, 10_000, 3.0), (3, 10**6, 1.0)):
        chooser = Chooser(Guarantee((0.5,) * k, exploration=0.0, speed=speed), steps)
        largest = chooser.rate * (1 + chooser.optimism) / (chooser.exploration / k)
        assert largest <= 1.05 or chooser.exploration == 0.5


def test_estimates_are_unbiased_but_for_the_optimism() -> None:
    errors, rng, rounds = np.array([0.30, 0.10, 0.55]), np.random.default_rng(3), 4000
    guarantee = Guarantee((0.2, 0.2, 0.5), bound=1.0)
    found = np.zeros(3)
    for _ in range(rounds):
        chooser = Chooser(guarantee, 1000)
        policy = chooser.policy()
        k = policy.draw(rng)
        chooser.observe(k, errors[k], policy)
        found += chooser.gains - chooser.optimism / np.asarray(policy.probabilities)
    assert found / rounds == pytest.approx(errors - np.asarray(guarantee.targets), abs=0.02)


def test_probability_goes_to_what_misses_its_target() -> None:
    rng, errors = np.random.default_rng(1), (0.2, 0.2, 0.2, 0.2)
    chooser = Chooser(Guarantee((0.25, 0.25, 0.05, 0.25)), 3000)
    for _ in range(3000):
        policy = chooser.policy()
        k = policy.draw(rng)
        chooser.observe(k, errors[k] + rng.normal(0, 0.03), policy)
    assert chooser.draws.argmax() == 2
    assert chooser.draws[2] > 1500


def test_the_gap_to_unseen_pictures_counts() -> None:
    """Both have an error of 0.1 in training; on the adapting half the second one's is 0.4."""
    rng, chooser = np.random.default_rng(2), Chooser(Guarantee((0.2, 0.2)), 2000)
    for _ in range(10):
        for _ in range(200):
            policy = chooser.policy()
            chooser.observe(policy.draw(rng), 0.1, policy)
        chooser.compare({0: 0.1, 1: 0.4})
    assert chooser.gaps == pytest.approx([0.0, 0.3])
    assert chooser.policy().probabilities[1] > 0.6


def test_a_gap_is_that_of_the_configuration_that_was_looked_at() -> None:
    """Of a grid, a few of many."""
    chooser = Chooser(Guarantee((0.2,) * 5), 2000)
    for _ in range(50):
        for k in range(5):
            chooser.observe(k, 0.1)
    chooser.compare({0: 0.1, 4: 0.4})
    assert chooser.gaps == pytest.approx([0, 0, 0, 0, 0.3])


def test_a_data_set_without_a_half_to_certify_with_is_refused(config: TrainingConfig, digits: Dataset, tmp_path: Path) -> None:
    rows = np.concatenate([np.flatnonzero(digits.train.y == label)[:12] for label in range(10)])
    told = asked(config, tmp_path / "g.json", {"target_error": 0.5})
    with pytest.raises(UsageError, match="too few pictures for a guarantee"):
        train(told, tmp_path / "run", accelerator="cpu", dataset=replace(digits, train=digits.train.take(rows)))
    assert not (tmp_path / "run").exists()


def test_the_state_survives_json_and_goes_on_the_same() -> None:
    one, other = (Chooser(Guarantee((0.1, 0.2, 0.3)), 500) for _ in range(2))
    rng = np.random.default_rng(5)
    for step in range(60):
        policy = one.policy()
        one.observe(policy.draw(rng), float(rng.random()), policy)
        if step % 20 == 19:
            one.compare({0: 0.3, 1: 0.2, 2: 0.1})
    other.restore(json.loads(json.dumps(one.state())))
    for chooser in (one, other):
        chooser.observe(1, 0.5)
        chooser.compare(dict.fromkeys(range(3), 0.5))
    assert one.state() == other.state()
    assert one.policy() == other.policy()


# A convex problem: logistic regression of the digits from their first 2, 4, 6 or 8 columns of pixels, with one matrix of weights for
# all four. Losses are divided by 3, so that they lie within 0 to 1 as errors do.

SCALE, COUNT = 3.0, 4


class Columns:
    """`masks` [K, 65]: what configuration k sees of 64 pixels and a constant."""

    def __init__(self) -> None:
        digits = load("digits").train
        pixels = digits.x.reshape(len(digits), 64) / 255.0
        self.x, self.y = np.c_[pixels, np.ones(len(pixels))], digits.y
        seen = [np.repeat([[0.0] * 8], 8, axis=0) for _ in range(COUNT)]
        for k, mask in enumerate(seen):
            mask[:, : 2 * (k + 1)] = 1
        self.masks = np.array([np.r_[mask.ravel(), 1.0] for mask in seen])
        self.references = np.array([minimize(self.flat, np.zeros(650), k, jac=True, method="L-BFGS-B").fun for k in range(COUNT)])

    def flat(self, weights: Array, k: int) -> tuple[float, Array]:
        value, slope = self.loss(weights.reshape(65, 10), k)
        return value, slope.ravel()

    def loss(self, weights: Array, k: int, rows: Any = slice(None)) -> tuple[float, Array]:
        x, y = self.x[rows] * self.masks[k], self.y[rows]
        logits = x @ weights
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        value = -np.log(shares[np.arange(len(y)), y] + 1e-300).mean() / SCALE
        shares[np.arange(len(y)), y] -= 1
        return float(value), x.T @ shares / (len(y) * SCALE)

    def regrets(self, steps: int, seed: int, chooser: Chooser | None) -> Array:
        """Of the mean iterate of stochastic gradient descent, in which one configuration is drawn a step."""
        rng = np.random.default_rng(seed)
        weights, total = np.zeros((65, 10)), np.zeros((65, 10))
        for step in range(steps):
            policy = None if chooser is None else chooser.policy()
            k = int(rng.integers(COUNT)) if policy is None else policy.draw(rng)
            value, slope = self.loss(weights, k, rng.integers(0, len(self.y), 32))
            weights = weights - 6.0 / math.sqrt(1 + step / 50) * slope
            total += weights
            if chooser is not None:
                chooser.observe(k, value, policy)
        return np.array([self.loss(total / steps, k)[0] for k in range(COUNT)]) - self.references


def test_on_a_convex_problem_the_worst_regret_falls_below_that_of_uniform_training() -> None:
    problem, steps = Columns(), 3000
    for seed in (0, 1):
        uniform = problem.regrets(steps, seed, None)
        chooser = Chooser(Guarantee(tuple(problem.references)), steps)
        guaranteed = problem.regrets(steps, seed, chooser)
        assert guaranteed.max() < 0.95 * uniform.max()
        assert chooser.draws[uniform.argmax()] > 1.2 * steps / COUNT


# The loop.


def asked(config: TrainingConfig, path: Path, value: Any, **changes: Any) -> TrainingConfig:
    path.write_text(json.dumps(value))
    return replace(config, policy=f"guarantee:{path}", recipe=config.recipe.with_changes(objective="sampled", **changes))


@pytest.fixture
def digits() -> Dataset:
    return load("digits")


def test_steps_go_to_the_configuration_that_misses(config: TrainingConfig, digits: Dataset, tmp_path: Path) -> None:
    for strict in (0, 2):
        targets = [0.9] * 3
        targets[strict] = 0.02
        told = asked(config, tmp_path / f"{strict}.json", {"target_error": targets}, epochs=4)
        found = train(told, tmp_path / f"run{strict}", accelerator="cpu", dataset=digits).report
        assert found is not None
        steps = [row["steps"] for row in found["configurations"]]
        assert sum(steps) == 4 * 40
        assert steps[strict] > 0.5 * sum(steps)
        assert min(steps) > 0


def test_the_report_is_of_pictures_that_were_not_used(config: TrainingConfig, digits: Dataset, tmp_path: Path) -> None:
    told = asked(config, tmp_path / "g.json", {"regret_points": 5, "references": 0.5, "confidence": 0.9}, epochs=1)
    found = train(told, tmp_path / "run", accelerator="cpu", dataset=digits).report
    assert found is not None
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == found
    _, validation = digits.hold_out()
    adapted, unseen = validation.halves()
    assert found["samples"] == len(unseen)
    assert len(adapted) + len(unseen) == len(validation)
    _, network, _ = load_run(tmp_path / "run")
    hits = correct(network, unseen, range(3))
    assert [row["error"] for row in found["configurations"]] == pytest.approx([1 - float(h.float().mean()) for h in hits.values()])
    for row in found["configurations"]:
        assert (row["target"], row["reference"]) == (0.55, 0.5)
        assert row["upper_bound"] > row["error"]
        assert row["met"] == (row["error"] <= 0.55) and row["certified"] == (row["upper_bound"] <= 0.55)
    assert len(report_table(found)) == 5
    again = train(told, tmp_path / "run", accelerator="cpu", dataset=digits)
    assert again.report == found


def test_a_finishing_reports_on_configurations_with_their_own_statistics(
    config: TrainingConfig, digits: Dataset, tmp_path: Path
) -> None:
    told = asked(replace(config, network="resnet14", order="blockwise"), tmp_path / "g.json", {"target_error": 0.5}, epochs=1)
    train(told, tmp_path / "run", accelerator="cpu", dataset=digits)
    calibrate(tmp_path / "run", norms="configuration", pictures=64, dataset=digits)
    out = tmp_path / "finished"
    found = finish(tmp_path / "run", out, Finishing(prune=0.5), epochs=1, accelerator="cpu", dataset=digits).report
    assert found is not None
    unseen = digits.hold_out()[1].halves()[1]
    _, network, _ = load_run(out)
    hits = correct(network, unseen, range(len(network)))
    assert [row["error"] for row in found["configurations"]] == pytest.approx(
        [1 - float(h.float().mean()) for h in hits.values()], abs=1.1 / len(unseen)
    )


def test_the_test_split_can_certify(config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    told = asked(config, tmp_path / "g.json", {"target_error": 0.5, "certify": "test"}, epochs=1)
    found = train(told, tmp_path / "run", accelerator="cpu", dataset=few_digits).report
    assert found is not None
    assert (found["split"], found["samples"]) == ("test", len(few_digits.test))


def test_halves_share_no_picture_and_all_classes(digits: Dataset) -> None:
    _, validation = digits.hold_out()
    one, other = validation.halves()
    assert not {row.tobytes() for row in one.x} & {row.tobytes() for row in other.x}
    for label in range(10):
        assert abs(int((one.y == label).sum()) - int((other.y == label).sum())) <= 1


def test_a_stopped_training_goes_on_to_the_same_weights_and_choices(
    config: TrainingConfig, few_digits: Dataset, tmp_path: Path
) -> None:
    told = asked(config, tmp_path / "g.json", {"target_error": [0.05, 0.5, 0.9]})
    straight = train(told, tmp_path / "straight", accelerator="cpu", dataset=few_digits)
    for _ in range(8):
        with pytest.raises(TrainingError, match="its time is over"):
            train(told, tmp_path / "stopped", accelerator="cpu", dataset=few_digits, max_seconds=0)
    stopped = train(told, tmp_path / "stopped", accelerator="cpu", dataset=few_digits)
    assert stopped.report == straight.report
    one, two = (RunDirectory(tmp_path / name).read_weights() for name in ("straight", "stopped"))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_another_guarantee_is_another_training(config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    told = asked(config, tmp_path / "g.json", {"target_error": 0.5})
    with pytest.raises(TrainingError):
        train(told, tmp_path / "run", accelerator="cpu", dataset=few_digits, max_seconds=0)
    asked(config, tmp_path / "g.json", {"target_error": 0.4})
    with pytest.raises(UsageError, match="another guarantee"):
        train(told, tmp_path / "run", accelerator="cpu", dataset=few_digits)


def test_what_can_keep_no_guarantee_writes_nothing(config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    told = asked(config, tmp_path / "g.json", {"target_error": [0.5] * 2})
    with pytest.raises(UsageError, match="for 2 configurations, the network has 3"):
        train(told, tmp_path / "run", accelerator="cpu", dataset=few_digits)
    joint = replace(told, recipe=told.recipe.with_changes(objective="joint"))
    with pytest.raises(UsageError, match="must be sampled, not joint"):
        train(joint, tmp_path / "run", accelerator="cpu", dataset=few_digits)
    with pytest.raises(UsageError, match="can't read the guarantee"):
        train(replace(told, policy="guarantee:nowhere"), tmp_path / "run", accelerator="cpu", dataset=few_digits)
    assert not (tmp_path / "run").exists()


# The bound.


@pytest.mark.parametrize(("wrong", "samples"), [(0, 10), (3, 50), (50, 50), (120, 2500)])
def test_the_bound_is_clopper_and_pearsons_one_sided(wrong: int, samples: int) -> None:
    exact = binomtest(wrong, samples).proportion_ci(confidence_level=1 - 2 * 0.01, method="exact").high
    assert upper_bound(wrong, samples, 0.99) == pytest.approx(exact)


def test_all_bounds_hold_together_as_often_as_promised() -> None:
    """27 configurations of known error: in 1000 draws of 500 pictures, all bounds cover in 90 % or more."""
    rng, errors = np.random.default_rng(0), np.linspace(0.05, 0.6, 27)
    guarantee = Guarantee((0.5,) * 27, confidence=0.9)
    held = 0
    table = {wrong: upper_bound(wrong, 500, 1 - 0.1 / 27) for wrong in range(501)}
    for _ in range(1000):
        held += all(table[int(wrong)] >= error for wrong, error in zip(rng.binomial(500, errors), errors, strict=True))
    assert held >= 900
    made = report(guarantee, rng.random((27, 500)) > errors[:, None], [1] * 27, dataset="d", split="s")
    assert all(row["upper_bound"] == pytest.approx(table[round(row["error"] * 500)]) for row in made["configurations"])
