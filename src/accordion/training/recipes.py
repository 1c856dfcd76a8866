"""Recipes: everything about how weights are fitted that is not the network, the data or the policy. Values, no torch."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from accordion.errors import UsageError

__all__ = ["MODERN", "PAPER", "RECIPES", "Recipe", "learning_rate", "picture_size"]

OBJECTIVES = ("sampled", "joint", "stratified", "sandwich")
SCHEDULES = ("steps", "one-cycle", "cosine")
MOST_BYTES = 2**20
LARGEST = 1e300  # of any number; whole ones of hundreds of digits, which are valid JSON, fit no float


@dataclass(frozen=True, slots=True)
class Recipe:
    """Stochastic gradient descent with momentum, and what goes with it.

    Learning rate: `schedule` is "steps" (divided by 10 at each of `milestones`, in epochs), "one-cycle" (linear from 0 up to
    `learning_rate` over the first `warm_up` of the training, linear down to 0 over the rest) or "cosine" (the same way up, half
    a cosine down). `decay_norms` says whether weight decay also acts on batch-norm values and biases.

    What a step minimises: `objective` is "sampled", "joint", "stratified" or "sandwich" (see `accordion.training.objectives`), and
    `draws` how many configurations the last two draw at random (None: 2 and 1); `distill` is the share of the loss of a
    smaller configuration that comes from the complete network's output. `balance` above 0 keeps small configurations, whose
    losses stay large, from ruling the blocks that all share: the loss of one with n of N blocks counts (n/N)^balance times its
    probability. `label_smoothing` softens the labels of the complete network, with `smooth_all` those of every configuration.

    The weights that come out: with `average` above 0 they are an exponential moving average over the steps with this decay,
    batch-norm statistics included. `norms` says whose batch-norm statistics are kept: "running" (what the training tracked),
    "shared" (measured again at the end on `norm_pictures` augmented training pictures, one set for all), a number of groups of
    neighbouring configurations with a set each, or "configuration" (see `accordion.training.norms`).

    `sizes` are (until this share of the training, scale of the picture) pairs: early epochs on smaller pictures cost less.
    `zero_init_last_norm`: blocks begin as the identity.
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
    draws: int | None = None
    smooth_all: bool = False
    average: float = 0.0
    norms: str = "running"
    norm_pictures: int = 8000
    sizes: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    crop: bool = True
    flip: bool = True

    def __post_init__(self) -> None:
        _check_types(self)
        checks = {
            "epochs": self.epochs >= 1,
            "batch": self.batch >= 2,
            "learning_rate": 0 < self.learning_rate < math.inf,
            "momentum": 0 <= self.momentum < 1 and not (self.nesterov and self.momentum == 0),
            "weight_decay": 0 <= self.weight_decay < math.inf,
            "warm_up": 0 < self.warm_up < 1,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "distill": 0 <= self.distill <= 1,
            "balance": 0 <= self.balance <= 10,
            "schedule": self.schedule in SCHEDULES,
            "objective": self.objective in OBJECTIVES,
            "draws": self.draws is None or 1 <= self.draws <= 1000,
            "average": 0 <= self.average < 1,
            "norms": self.norms in ("running", "shared", "configuration")
            or (self.norms.isdecimal() and 1 <= int(self.norms) <= 10**6),
            "norm_pictures": self.norm_pictures >= 2,
            "sizes": bool(self.sizes)
            and self.sizes[-1][0] == 1.0
            and all(0 < until <= 1 and 0 < scale <= 1 for until, scale in self.sizes)
            and all(one[0] < next_[0] for one, next_ in pairwise(self.sizes)),
        }
        for field, fine in checks.items():
            if not fine:
                raise UsageError(f"recipe {self.name!r:.100}: {field} can't be {getattr(self, field)!r:.100}")

    def to_json(self) -> dict[str, Any]:
        """JSON values, as `from_json` reads them."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any, base: Recipe | None = None) -> Recipe:
        """From an object of fields. What it leaves out is `base`'s, or else the field's default. UsageError names what is wrong."""
        if not isinstance(data, dict):
            raise UsageError("a recipe is an object of fields")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise UsageError(f"a recipe has no field {unknown[0]!r:.100}; it has {', '.join(sorted(known))}")
        values = dict(data)
        try:
            if "milestones" in values:
                values["milestones"] = tuple(values["milestones"])
            if isinstance(values.get("norms"), int) and not isinstance(values["norms"], bool):
                values["norms"] = str(values["norms"])  # so many groups
            if "sizes" in values:
                values["sizes"] = tuple((float(until), float(scale)) for until, scale in values["sizes"])
            needed = [field.name for field in fields(cls) if field.default is MISSING]
            if base is None and (lacking := [name for name in needed if name not in values]):
                raise UsageError(f"without a base a recipe needs {', '.join(needed)}: it lacks {', '.join(lacking)}")
            return cls(**values) if base is None else replace(base, **values)
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"this is not a recipe: {str(error).removeprefix('Recipe.__init__() ')[:200]}") from error

    @classmethod
    def from_file(cls, path: Path | str) -> Recipe:
        """From a JSON file of fields. `"base": "modern"` or `"paper"` says whose values stand for what it leaves out."""
        path = Path(path)
        try:
            with path.open("rb") as stream:
                raw = stream.read(MOST_BYTES + 1)
            data = json.loads(raw) if len(raw) <= MOST_BYTES else None
        except OSError as error:
            raise UsageError(f"can't read the recipe {path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path} is not JSON: {error}") from error
        try:
            base = None
            if isinstance(data, dict) and "base" in data:
                name = data.pop("base")
                if not isinstance(name, str) or name not in RECIPES:
                    raise UsageError(f"there is no recipe {name!r:.100} to build on: choose {' or '.join(RECIPES)}")
                base = RECIPES[name]
                data.setdefault("name", path.stem)
            return cls.from_json(data, base)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error

    def with_changes(self, **changes: Any) -> Recipe:
        """A copy with the fields given (those that are None are left alone). UsageError for what is no field, or no value of it."""
        if unknown := sorted(set(changes) - {field.name for field in fields(self)}):
            raise UsageError(f"a recipe has no field {unknown[0]!r:.100}")
        return replace(self, **{field: value for field, value in changes.items() if value is not None})


_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "int | None": (int, type(None)),
}


def _check_types(recipe: Recipe) -> None:
    """Fields read from a file hold what somebody wrote there."""
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        kinds = _KINDS.get(str(field.type), (tuple,))
        odd = isinstance(value, int | float) and not abs(value) < LARGEST
        if odd or not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise UsageError(f"recipe {recipe.name!r:.100}: {field.name} can't be {value!r:.100}")
    if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in recipe.sizes):
        raise UsageError(f"recipe {recipe.name!r:.100}: sizes can't be {recipe.sizes!r:.100}")
    if not all(isinstance(milestone, int) and milestone >= 0 for milestone in recipe.milestones):
        raise UsageError(f"recipe {recipe.name!r:.100}: milestones can't be {recipe.milestones!r:.100}")


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
    up, left = (step + 1) / top, (total - step) / (total - top)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * min(1.0, up, math.sin(math.pi / 2 * min(1.0, left)) ** 2)
    return recipe.learning_rate * min(1.0, up, left)


def picture_size(recipe: Recipe, epoch: int, size: int) -> int:
    """The side of the training pictures in `epoch`, in pixels: a multiple of 4, so that two poolings come out even.

    Never under 16, where too little would be left to see; smaller pictures are not scaled.
    """
    done = epoch / recipe.epochs
    scale = next(scale for until, scale in recipe.sizes if done < until)
    return size if scale == 1.0 else min(size, max(16, round(size * scale / 4) * 4))
