from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from accordion.errors import UsageError
from accordion.training import MODERN, PAPER, RECIPES, Recipe
from accordion.training.recipes import learning_rate, picture_size

STEPS = 362  # an epoch of 45,000 pictures in batches of 124


@pytest.mark.parametrize(("epoch", "rate"), [(0, 0.1), (81, 0.1), (82, 0.01), (122, 0.01), (123, 0.001), (163, 0.001)])
def test_the_papers_learning_rate_falls_at_epochs_82_and_123(epoch: int, rate: float) -> None:
    assert learning_rate(PAPER, epoch * STEPS, STEPS) == pytest.approx(rate)
    assert learning_rate(PAPER, epoch * STEPS + STEPS - 1, STEPS) == pytest.approx(rate)


def test_the_paper_recipe_is_the_papers() -> None:
    assert (PAPER.epochs, PAPER.batch, PAPER.objective, PAPER.distill, PAPER.milestones) == (164, 124, "sampled", 0.0, (82, 123))


def test_one_cycle_begins_and_ends_near_0_and_peaks_after_the_warm_up() -> None:
    recipe = Recipe("mine", epochs=10, batch=2, learning_rate=0.5, schedule="one-cycle", warm_up=0.2)
    rates = [learning_rate(recipe, step, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.5 / 20)
    assert rates[19] == rates[20] == 0.5 == max(rates)
    assert rates[-1] == pytest.approx(0.5 / 80)


def test_one_cycle_rises_then_falls_in_straight_lines() -> None:
    recipe = Recipe("mine", epochs=10, batch=2, learning_rate=0.5, schedule="one-cycle", warm_up=0.2)
    rates = [learning_rate(recipe, step, 10) for step in range(100)]
    assert [b - a for a, b in pairwise(rates[:20])] == pytest.approx([0.5 / 20] * 19)
    assert [a - b for a, b in pairwise(rates[20:])] == pytest.approx([0.5 / 80] * 79)


@pytest.mark.parametrize("total", [1, 2, 3, 7, 11, 97])
def test_one_cycle_stays_within_its_rate_however_short_the_training(total: int) -> None:
    rates = [learning_rate(MODERN.with_changes(epochs=1), step, total) for step in range(total)]
    assert all(0 < rate <= MODERN.learning_rate for rate in rates)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch", 1),
        ("learning_rate", 0),
        ("learning_rate", math.nan),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("weight_decay", -1e-4),
        ("warm_up", 0.0),
        ("warm_up", 1.0),
        ("label_smoothing", 1.0),
        ("distill", 1.1),
        ("schedule", "linear"),
        ("draws", 0),
        ("average", 1.0),
        ("norms", "all"),
        ("norms", "0"),
        ("norm_pictures", 1),
        ("learning_rate", math.inf),
        ("epochs", True),
        ("epochs", 2.5),
        ("crop", 1),
        ("milestones", (1.5,)),
        ("objective", "distilled"),
        ("sizes", ()),
        ("sizes", ((0.5, 1.0),)),
        ("sizes", ((0.5, 0.0), (1.0, 1.0))),
        ("sizes", ((0.5, 1.5), (1.0, 1.0))),
    ],
)
def test_bad_fields_are_refused_and_named(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"recipe 'modern': {field} can't be"):
        MODERN.with_changes(**{field: value})


def test_changes_that_are_none_are_left_alone() -> None:
    changed = MODERN.with_changes(epochs=3, batch=None)
    assert (changed.epochs, changed.batch) == (3, MODERN.batch)


def test_recipes_are_found_by_name() -> None:
    assert {name: recipe.name for name, recipe in RECIPES.items()} == {"modern": "modern", "paper": "paper"}


def test_early_epochs_take_smaller_pictures_and_the_last_the_full_ones() -> None:
    sizes = [picture_size(MODERN, epoch, 32) for epoch in range(MODERN.epochs)]
    assert sizes == sorted(sizes)
    assert set(sizes) == {16, 24, 32}
    assert sizes[-1] == 32


def test_the_paper_recipe_never_scales() -> None:
    assert {picture_size(PAPER, epoch, 32) for epoch in range(PAPER.epochs)} == {32}


@pytest.mark.parametrize("size", [8, 16])
def test_small_pictures_are_not_scaled(size: int) -> None:
    assert {picture_size(MODERN, epoch, size) for epoch in range(MODERN.epochs)} == {size}


@pytest.mark.parametrize("size", [20, 28, 64, 96])
def test_scaled_sides_are_divisible_by_4(size: int) -> None:
    assert all(picture_size(MODERN, epoch, size) % 4 == 0 for epoch in range(MODERN.epochs))


def test_a_recipe_survives_its_file(tmp_path: Path) -> None:
    recipe = PAPER.with_changes(sizes=((0.5, 0.5), (1.0, 1.0)), draws=3)
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.to_json()))
    assert Recipe.from_file(path) == recipe


def test_a_number_of_groups_may_be_a_number(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text('{"base": "modern", "norms": 4}')
    assert Recipe.from_file(path).norms == "4"


def test_a_file_builds_on_a_known_recipe_and_is_named_after_itself(tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    path.write_text('{"base": "modern", "epochs": 100, "average": 0.999}')
    assert Recipe.from_file(path) == MODERN.with_changes(name="long", epochs=100, average=0.999)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "object of fields"),
        ('{"name": "x"}', "it lacks epochs, batch, learning_rate"),
        ('{"base": "old"}', "no recipe 'old' to build on"),
        ('{"base": ["modern"]}', "to build on"),
        ('{"base": "modern", "epoch": 3}', "no field 'epoch'"),
        ('{"base": "modern", "epochs": "3"}', "epochs can't be '3'"),
        ('{"base": "modern", "sizes": [1]}', "not a recipe"),
        ('{"base": "modern", "milestones": 3}', "not a recipe"),
        ('{"base": "modern", "average": 1}', "average can't be 1"),
        ('{"base": "modern", "norms": 0}', "norms can't be '0'"),
        ('{"base": "modern", "sizes": [[0.7, 0.5], [0.4, 0.75], [1, 1]]}', "sizes can't be"),
    ],
)
def test_files_that_are_no_recipe_are_refused_and_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        Recipe.from_file(path)
    assert "recipe.json" in str(caught.value)


def test_a_recipe_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't read the recipe"):
        Recipe.from_file(tmp_path / "recipe.json")
