"""The list of comparisons, in order of value: what needs no training beyond one plain network first, then one of each kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from accordion.errors import UsageError
from accordion.training import Recipe
from experiments.recipes import KNOWN
from experiments.run import run_name

__all__ = ["SMALLER", "Comparison", "by_name", "catalogue", "variants"]

SMALLER = {
    "resnet20": ("resnet8", "resnet14", "resnet20/2"),
    "resnet56": ("resnet8", "resnet20", "resnet32"),
    "resnet110": ("resnet8", "resnet20", "resnet56"),
}
"""Three smaller networks for each, as students and to train alone; `/2` has half of the channels everywhere."""

LATE = {"resnet56": "late-start"}
"""What takes the place of `balanced`, whose first configuration has one block in each stage, on a network of which two percent of
the bytes hold more than that: the target is from there on."""

BY_DEPTH, WITH_BY_DEPTH = "by-depth", ("resnet20", "resnet56")
"""Prefixes of the network as it is computed, each with a head of its own, all trained in one pass; the networks that have
such an order, which begins with the first stage and what two percent of the bytes hold of the second."""

LISTED = (
    ("resnet20", "cifar10", "brief", (0,)),
    ("resnet56", "cifar10", "brief", (0,)),
    ("resnet20", "cifar10", "brief", (1, 2)),
    ("resnet20", "cifar100", "brief", (0, 1, 2)),
    ("resnet110", "cifar100", "brief", (0,)),
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One method in one variant on one network. `changes` are fields of the recipe that differ from what `recipe` says, `width`
    the channels of the first stage."""

    method: str
    variant: str
    network: str
    dataset: str
    recipe: str
    seed: int
    changes: Mapping[str, Any] = field(default_factory=dict)
    width: int = 16
    precision: str = "bf16-mixed"

    @property
    def name(self) -> str:
        """What its files are called."""
        return run_name(self.method, self.network, self.dataset, self.recipe, self.variant, self.seed)

    def at(self, precision: str) -> Comparison:
        """The same comparison, trained in another precision."""
        return replace(self, precision=precision)

    @property
    def steps(self) -> Recipe:
        """The recipe of everything in it that is trained from the beginning; UsageError for one that is not known."""
        try:
            recipe = KNOWN[self.recipe]
        except KeyError:
            raise UsageError(f"there is no recipe {self.recipe!r}: choose {', '.join(KNOWN)}") from None
        return recipe.with_changes(objective="sampled", **self.changes)


def variants(network: str) -> list[tuple[str, str]]:
    """Method and variant, in order. Every method of `experiments.comparisons.methods` is among them."""
    smaller = SMALLER.get(network, ("resnet8", "resnet14", f"{network}/2"))
    ours = LATE.get(network, "balanced")
    return [
        ("plain", "float32"),
        ("quantized", "post-training"),
        ("bit-planes", "8-of-2"),
        ("elastic", ours),
        ("finished", f"{ours}-further"),  # what pruning and low rank have, too
        *([] if ours == "balanced" else [("finished", f"{ours}-adapted")]),
        *([("elastic", BY_DEPTH), ("finished", f"{BY_DEPTH}-further")] if network in WITH_BY_DEPTH else []),
        *(("finished", f"{ours}-{share}") for share in ("75", "90")),
        ("pruned", "75"),
        ("further", "a third"),  # what of the pruned network's error is the pruning's
        ("alone", smaller[0]),
        ("distilled", smaller[0]),
        ("exits", "2"),
        ("student-first", "resnet8"),
        ("skipping", "5"),
        ("low-rank", "50"),
        *(("alone", shape) for shape in smaller[1:]),
        *(("pruned", share) for share in ("50", "90")),
        *(("distilled", shape) for shape in smaller[1:]),
        *(("elastic", variant) for variant in ("learned", "CoML-05", "BlockCoML-05")),
        ("finished", f"{ours}-0"),
        ("low-rank", "25"),
        *(("exits", count) for count in ("1", "4")),
        ("skipping", "1"),
    ]


def catalogue(
    network: str | None = None, dataset: str | None = None, recipe: str | None = None, seeds: Sequence[int] | None = None
) -> list[Comparison]:
    """Every comparison, in the order in which they are best done; with arguments, the same list for what they name."""
    asked = any(value is not None for value in (network, dataset, recipe, seeds))
    chosen = [(network or "resnet20", dataset or "cifar10", recipe or "brief", tuple(seeds or (0,)))] if asked else LISTED
    found: dict[str, Comparison] = {}
    for row in chosen:
        for one in _of(*row):
            found.setdefault(one.name, one)
    return list(found.values())


def by_name(list_of: Sequence[Comparison]) -> dict[str, Comparison]:
    """The list by name."""
    return {one.name: one for one in list_of}


def _of(network: str, dataset: str, recipe: str, seeds: Sequence[int]) -> Iterator[Comparison]:
    for seed in seeds:
        for method, variant in variants(network):
            yield Comparison(method, variant, network, dataset, recipe, seed)
