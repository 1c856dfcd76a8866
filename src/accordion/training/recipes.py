"""Recipes: everything about how weights are fitted that is not the network, the data or the policy. Values, no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from accordion.errors import UsageError

__all__ = ["MODERN", "PAPER", "RECIPES", "Recipe", "learning_rate", "picture_size"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Stochastic gradient descent with momentum, and what goes with it.

    `schedule` is "steps" (the rate is divided by 10 at each of `milestones`, in epochs) or "one-cycle" (linear from 0 up to
    `learning_rate` over the first `warm_up` of the training, linear down to 0 over the rest).
    `objective` is "sampled", "joint", "stratified" or "sandwich" (see `accordion.training.objectives`); `distill` the share of the loss of a
    smaller configuration that comes from the complete network's output. `balance` above 0 keeps small configurations, whose losses
    stay large, from ruling the blocks that all share: the loss of one with n of N blocks counts (n/N)^balance times its
    probability. `sizes` are (until this share of the training, scale of the picture) pairs: early epochs on smaller pictures cost
    less. `decay_norms` says whether weight decay also acts on batch-norm values and biases.
    """

    name: str
    epochs: int
    batch: int
    learning_rate: float
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay_norms: bool = True
    schedule: str = "steps"
    milestones: tuple[int, ...] = ()
    warm_up: float = 0.2
    label_smoothing: float = 0.0
    zero_init_last_norm: bool = False
    objective: str = "sampled"
    distill: float = 0.0
    balance: float = 0.0
    sizes: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    crop: bool = True
    flip: bool = True

    def __post_init__(self) -> None:
        checks = {
            "epochs": self.epochs >= 1,
            "batch": self.batch >= 2,
            "learning_rate": self.learning_rate > 0,
            "momentum": 0 <= self.momentum < 1,
            "weight_decay": self.weight_decay >= 0,
            "warm_up": 0 < self.warm_up < 1,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "distill": 0 <= self.distill <= 1,
            "balance": 0 <= self.balance <= 10,
            "schedule": self.schedule in ("steps", "one-cycle"),
            "objective": self.objective in ("sampled", "joint", "stratified", "sandwich"),
            "sizes": bool(self.sizes)
            and self.sizes[-1][0] == 1.0
            and all(0 < until <= 1 and 0 < scale <= 1 for until, scale in self.sizes),
        }
        for field, fine in checks.items():
            if not fine:
                raise UsageError(f"recipe {self.name!r}: {field} can't be {getattr(self, field)!r}")

    def with_changes(self, **changes: Any) -> Recipe:
        """A copy with the fields given (those that are None are left alone)."""
        return replace(self, **{field: value for field, value in changes.items() if value is not None})


PAPER = Recipe("paper", epochs=164, batch=124, learning_rate=0.1, milestones=(82, 123))
"""The paper's evaluation. Momentum and weight decay are He et al.'s, whose set-up it takes over."""

MODERN = Recipe(
    "modern",
    epochs=24,
    batch=128,
    learning_rate=0.2,
    nesterov=True,
    weight_decay=5e-4,
    decay_norms=False,
    schedule="one-cycle",
    label_smoothing=0.1,
    zero_init_last_norm=True,
    objective="joint",
    distill=0.5,
    sizes=((0.4, 0.5), (0.7, 0.75), (1.0, 1.0)),
)
"""The default: short."""

RECIPES = {recipe.name: recipe for recipe in (MODERN, PAPER)}


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The rate for global step `step` (0 is the first)."""
    total = recipe.epochs * steps_per_epoch
    if recipe.schedule == "steps":
        passed = sum(step >= milestone * steps_per_epoch for milestone in recipe.milestones)
        return float(recipe.learning_rate * 0.1**passed)
    top = recipe.warm_up * total
    return recipe.learning_rate * min(1.0, (step + 1) / top, (total - step) / (total - top))


def picture_size(recipe: Recipe, epoch: int, size: int) -> int:
    """The side of the training pictures in `epoch`, in pixels: a multiple of 4, so that two poolings come out even.

    Never under 16, where too little would be left to see; smaller pictures are not scaled.
    """
    done = epoch / recipe.epochs
    scale = next(scale for until, scale in recipe.sizes if done < until)
    return size if scale == 1.0 else min(size, max(16, round(size * scale / 4) * 4))
