from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from comparing import comparison
from torch import Tensor, nn
from torch.nn import functional as F

from accordion.data import Split, load
from accordion.errors import FormatError, TrainingError, UsageError
from experiments.comparisons.context import Context, OutOfTimeError
from experiments.comparisons.fit import CHECKPOINT, Moment, Task, at_full_size, begun_in, fit, further
from experiments.recipes import BRIEF, SHORT


def linear() -> tuple[nn.Module, Task]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def loss(x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        noise = torch.from_numpy(moment.rng.normal(size=x.shape)).to(x)
        return F.cross_entropy(module(x + 0.01 * noise), y)

    return module, Task(module, loss, channels_last=False)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(comparison("pruned", "50"), load("digits"), tmp_path, "cpu")


def test_it_learns_and_counts(context: Context) -> None:
    module, task = linear()
    training = fit(task, context.comparison.steps, context)
    assert len(training.loss) == training.epochs == 3 and training.loss[-1] < training.loss[0]
    # 20 steps of 64 pictures an epoch; forward and the gradient of the weights (the pictures need none).
    assert training.macs == pytest.approx(2 * 640 * 64 * 20 * 3)
    assert not module.training


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(context: Context, tmp_path: Path) -> None:
    module, task = linear()
    steps = context.comparison.steps
    whole = fit(task, steps, context)
    hurried = replace(context, runs=tmp_path / "other", deadline=time.monotonic())
    for _ in range(2):
        with pytest.raises(OutOfTimeError):
            fit(linear()[1], steps, hurried)
    other, again = linear()
    last = fit(again, steps, replace(hurried, deadline=None))
    assert (last.loss, last.macs) == (whole.loss, whole.macs)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))
    assert fit(linear()[1], steps, replace(hurried, deadline=None)) == last  # done is done


def test_what_can_not_be_gone_on_with_is_said(context: Context) -> None:
    _, task = linear()
    steps = context.comparison.steps
    fit(task, steps, context)
    with pytest.raises(UsageError, match="by another recipe"):
        fit(task, steps.with_changes(epochs=2), context)
    with pytest.raises(UsageError, match="began with other weights"):
        fit(task, steps, context)  # this one has been trained
    with pytest.raises(UsageError, match="began with other weights"):
        fit(replace(linear()[1], beside=(nn.Linear(1, 1),)), steps, context)
    with pytest.raises(UsageError, match="holds a training in 32-true"):
        fit(linear()[1], steps, replace(context, comparison=context.comparison.at("bf16-mixed")))
    assert begun_in(context.folder) == "32-true" and begun_in(context.runs) is None
    (context.folder / "fit" / CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(FormatError, match="can't be read"):
        begun_in(context.folder)
    with pytest.raises(FormatError, match="can't be read"):
        fit(task, steps, context)
    with pytest.raises(UsageError, match="averages weights"):
        fit(task, steps.with_changes(average=0.9), context)


def test_a_loss_that_is_no_number_ends_it(context: Context) -> None:
    module, _ = linear()
    with pytest.raises(TrainingError, match="became nan"):
        fit(Task(module, lambda x, y, moment: module(x).sum() * float("nan")), context.comparison.steps, context)


def test_rates_follow_the_schedule(context: Context) -> None:
    module = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)})
    seen: list[float] = []

    def loss(x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        before = float(module["a"].weight.detach())
        seen.append(before)
        return module["a"].weight.sum() + 0 * module["b"].weight.sum()

    fit(Task(module, loss, adam=(("a", 0.5), ("b", 0.1))), context.comparison.steps, context)
    moved = [abs(a - b) for a, b in zip(seen, seen[1:], strict=False)]
    # Adam moves by the rate: up for a fifth of 60 steps, then down.
    assert max(range(len(moved)), key=moved.__getitem__) in (10, 11, 12)
    assert max(moved) == pytest.approx(0.5, rel=0.01) and moved[-1] < 0.05


def test_going_on_is_shorter_and_slower() -> None:
    assert (further(BRIEF).epochs, further(BRIEF).learning_rate, further(BRIEF).sizes) == (6, 0.05, ((1.0, 1.0),))
    assert further(SHORT).milestones == (5, 8) and further(SHORT).epochs == 10


def test_a_finished_network_is_asked_about_whole_pictures(context: Context) -> None:
    """Digits of 8 pixels, blown up to 32 so that a recipe can make them smaller."""
    digits = context.dataset
    train, test = (Split(np.repeat(np.repeat(one.x, 4, 2), 4, 3), one.y) for one in (digits.train, digits.test))
    grown = replace(digits, train=train, test=test)
    seen: set[tuple[int, int]] = set()
    module = nn.Linear(10, 10)

    def loss(x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        seen.add((x.shape[-1], moment.whole.shape[-1]))
        return F.cross_entropy(module(x.flatten(1)[:, :10]), y)

    steps = context.comparison.steps.with_changes(epochs=2, sizes=((0.5, 0.5), (1.0, 1.0)))
    fit(Task(module, loss, channels_last=False), steps, replace(context, dataset=grown))
    assert seen == {(16, 32), (32, 32)}


def test_pictures_of_full_size_cost_as_much() -> None:
    steps = at_full_size(BRIEF)
    # Eight epochs on a quarter of the pixels, five on nine sixteenths, five on all.
    assert steps.epochs == round(8 / 4 + 5 * 9 / 16 + 5) == 10
    assert steps.sizes == ((1.0, 1.0),) and steps.learning_rate == BRIEF.learning_rate
    assert at_full_size(SHORT).with_changes(name=SHORT.name) == SHORT
