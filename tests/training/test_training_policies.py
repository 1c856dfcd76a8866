from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from accordion.errors import FormatError, UsageError
from accordion.training import MODERN, PAPER, POLICY_NAMES, Policy, TrainingConfig, full_with_probability, uniform
from accordion.training.policies import from_file, named


def test_uniform_is_uniform() -> None:
    assert uniform(4).probabilities == (0.25,) * 4


@pytest.mark.parametrize(
    ("name", "p"), [("CoML-05", 0.5), ("CoML-03", 0.3), ("BlockCoML-05", 0.5), ("BlockCoML-03", 0.3), ("coml-05", 0.5)]
)
def test_the_papers_policies_favour_the_complete_network(name: str, p: float) -> None:
    *others, complete = named(name, 27).probabilities
    assert complete == p
    assert others == pytest.approx([(1 - p) / 26] * 26)


def test_full_trains_the_complete_network_only() -> None:
    assert named("full", 3).probabilities == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("name", POLICY_NAMES)
@pytest.mark.parametrize("k", [1, 2, 9, 18, 27, 54])
def test_probabilities_sum_to_1(name: str, k: int) -> None:
    policy = named(name, k)
    assert len(policy) == k
    assert math.fsum(policy.probabilities) == pytest.approx(1, abs=1e-12)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'CoML-07': choose uniform, full, CoML-05"):
        named("CoML-07", 3)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ((), "no probabilities"),
        ((0.5, 0.4), "sum to 0.9"),
        ((0.5, 0.6), "sum to 1.1"),
        ((-0.5, 1.5), "configuration 0 is -0.5"),
        ((math.nan, 1.0), "configuration 0 is nan"),
        ((0.0, math.inf), "configuration 1 is inf"),
        ((True, 0.0), "configuration 0 is True"),
        (("1", 0.0), "configuration 0 is '1'"),
        ((None, 1.0), "configuration 0 is None"),
    ],
)
def test_what_is_no_distribution_is_refused(probabilities: tuple[float, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Policy("mine", probabilities)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_a_probability_outside_0_to_1_is_refused(p: float) -> None:
    with pytest.raises(UsageError, match="not within 0 to 1"):
        full_with_probability(3, p)


def test_drawing_follows_the_probabilities() -> None:
    rng = np.random.default_rng(1)
    policy = Policy("mine", (0.2, 0.0, 0.8))
    counts = np.bincount([policy.draw(rng) for _ in range(2000)], minlength=3)
    assert counts[1] == 0
    assert counts[0] == pytest.approx(400, abs=80)


def test_drawing_depends_on_the_generator_alone() -> None:
    one, other = ([uniform(9).draw(rng) for _ in range(20)] for rng in (np.random.default_rng(3), np.random.default_rng(3)))
    assert one == other


def test_a_policy_comes_back_from_a_file(tmp_path: Path) -> None:
    policy = Policy("mine", (0.25, 0.0, 0.75))
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(policy.to_json()))
    assert from_file(path, 3) == policy


def test_a_file_without_a_name_gives_its_own(tmp_path: Path) -> None:
    path = tmp_path / "evening.json"
    path.write_text('{"probabilities": [0.5, 0.5]}')
    assert from_file(path, 2).name == "evening"


@pytest.mark.parametrize(
    "text", ["", "[0.5, 0.5]", "{}", '{"probabilities": 1}', '{"probabilities": [0.5]}', '{"probabilities": "11"}', "\x00"]
)
def test_a_file_that_is_no_policy_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.json"
    path.write_text(text)
    with pytest.raises(UsageError):
        from_file(path, 2)


def test_a_policy_file_for_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(uniform(3).to_json()))
    with pytest.raises(UsageError, match="is for 3 configurations, the network has 27"):
        from_file(path, 27)


def test_a_policy_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't read the policy"):
        from_file(tmp_path / "none.json", 2)


def test_the_settings_take_a_policy_by_name_by_value_and_by_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(uniform(3).to_json()))
    for policy in ("uniform", uniform(3), str(path)):
        assert TrainingConfig(policy=policy).policy_for(3) == uniform(3)


def test_an_explicit_policy_for_another_network_is_refused() -> None:
    with pytest.raises(UsageError, match="'uniform' is for 3 configurations, the network has 4"):
        TrainingConfig(policy=uniform(3)).policy_for(4)


@pytest.mark.parametrize(
    "config", [TrainingConfig(), TrainingConfig(policy=uniform(3), recipe=PAPER), TrainingConfig(recipe=MODERN)]
)
def test_settings_come_back_from_json(config: TrainingConfig) -> None:
    assert TrainingConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    "changes", [{"recipe": None}, {"recipe": {}}, {"policy": {}}, {"depth": 56}, {"recipe": {"name": "x", "sizes": [[1]]}}]
)
def test_settings_that_are_none_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(FormatError, match="not the settings of a training"):
        TrainingConfig.from_json({**TrainingConfig().to_json(), **changes})
