"""A training that takes a second: the smallest ResNet on a part of digits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from accordion.data import Dataset, load
from accordion.training import MODERN, TrainingConfig, train


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for one another on several cores, for minutes where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


@pytest.fixture(scope="module")
def finished(config: TrainingConfig, few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a training that nothing interrupted. Read only."""
    run = tmp_path_factory.mktemp("finished") / "run"
    train(config, run, accelerator="cpu", dataset=few_digits)
    return run
