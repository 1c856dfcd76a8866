"""Outcomes made by hand, whose means can be checked by hand, and one real training of a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

from accordion.training import TrainingConfig
from experiments.execute import execute
from experiments.outcome import Configuration, Count, Curve, Outcome
from experiments.recipes import SHORT
from experiments.run import Run

Make = Callable[..., Outcome]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make() -> Make:
    """An outcome of ResNet-20 on CIFAR-10: four configurations of 10, 25, 50 and 100 kB with the test errors given (in 1,000)."""

    def made(
        scheme: str,
        seed: int,
        wrong: Sequence[int],
        *,
        experiment: str = "figure4",
        against: str | None = None,
        validation: Sequence[int] | None = None,
        network: str = "resnet20",
        order: str = "right-to-left",
        policy: str = "CoML-05",
        shapes: Sequence[tuple[int, int, int]] = ((1, 0, 0), (3, 0, 0), (3, 3, 0), (3, 3, 3)),
        seconds: float = 100.0,
        objective: str = "sampled",
    ) -> Outcome:
        rows = tuple(
            Configuration(shape, size // 4, macs, size, size, Count(errors, 1000), Count(held, 500))
            for shape, size, macs, errors, held in zip(
                shapes,
                (10_000, 25_000, 50_000, 100_000)[-len(shapes) :],
                (100, 300, 600, 1000)[-len(shapes) :],
                wrong,
                validation or [errors // 2 for errors in wrong],
                strict=True,
            )
        )
        recipe = SHORT.with_changes(objective=objective)
        losses = (*(3.0 - 0.1 * epoch for epoch in range(29)), 0.2)
        curve = Curve(losses, (1, 15, 30), (0, len(rows) - 1), ((0.9, 0.8), (0.6, 0.4), (0.5, 0.3)))
        return Outcome(
            f"{experiment}-{network}-{scheme}-{seed}".lower(),
            experiment,
            scheme,
            against,
            TrainingConfig("cifar10", network, order=order, policy=policy, recipe=recipe, seed=seed),
            (1 / len(rows),) * len(rows),
            "2.13.0",
            "cpu",
            "a machine, 2 cores",
            "0" * 40,
            seconds,
            curve,
            rows,
        )

    return made


@pytest.fixture(scope="session")
def digits_run() -> Run:
    changes = {"epochs": 2, "batch": 64}
    return Run(
        "figure4",
        "CoML-05",
        "digits",
        "resnet8",
        "right-to-left",
        "CoML-05",
        "short",
        0,
        changes,
        {"width": 4},
        precision="32-true",
    )


@pytest.fixture(scope="session")
def finished(digits_run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A folder with `runs` and `data` of a training that nothing interrupted, and its outcome. Read only."""
    folder = tmp_path_factory.mktemp("experiments")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    outcome = execute(digits_run, runs=folder / "runs", data=folder / "data", accelerator="cpu")
    torch.set_num_threads(threads)
    assert outcome is not None
    return folder, outcome
