"""A training that takes a second: the smallest ResNet on a part of digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accordion.data import Dataset, load
from accordion.training import MODERN, TrainingConfig, train


@pytest.fixture(scope="session")
def few_digits() -> Dataset:
    """160 pictures, which leaves four steps an epoch in batches of 32."""
    digits = load("digits")
    rows = np.arange(160)
    return Dataset("digits", digits.classes, digits.mean, digits.std, digits.train.take(rows), digits.test, mirror=False)


@pytest.fixture(scope="session")
def config() -> TrainingConfig:
    return TrainingConfig(
        dataset="digits", network="resnet8", width=4, recipe=MODERN.with_changes(epochs=2, batch=32), policy="uniform", seed=5
    )


@pytest.fixture(scope="session")
def finished(config: TrainingConfig, few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a training that nothing interrupted. Read only."""
    run = tmp_path_factory.mktemp("finished") / "run"
    train(config, run, accelerator="cpu", dataset=few_digits)
    return run
