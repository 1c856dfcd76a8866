"""The recipes of the experiments, beside the paper's own."""

from __future__ import annotations

from pathlib import Path

from accordion.training import MODERN, PAPER, RECIPES, Recipe

__all__ = ["BRIEF", "KNOWN", "PAPER", "SHORT", "ZOO"]

_FOLDER = Path(__file__).parents[1] / "zoo" / "recipes"

SHORT = PAPER.with_changes(name="short", epochs=30, milestones=(15, 23))
"""The paper's recipe in less than a fifth of its epochs: the rate falls after the same shares of the training (a half, three
quarters), nothing else differs. For machines that can't afford 164 epochs; never mixed with those in one curve."""

BRIEF = MODERN.with_changes(name="brief", epochs=18, objective="sampled", distill=0.0)
"""For what needs many trainings on two cores (everything on ResNet-20, the comparisons): the modern optimiser and growing pictures,
one configuration a step as in the paper, eighteen epochs."""

ZOO = {
    "cifar10": Recipe.from_file(_FOLDER / "balanced-28.json"),
    "cifar100": Recipe.from_file(_FOLDER / "balanced-16.json"),
}
"""What the networks in zoo/ are trained by, by data set, so that their references are trained by it too."""

KNOWN: dict[str, Recipe] = {recipe.name: recipe for recipe in (*RECIPES.values(), SHORT, BRIEF, *ZOO.values())}
