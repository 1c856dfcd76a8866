"""The list of runs, in order of value: what is near the top says most for its time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accordion.training import MODERN, TrainingConfig
from experiments.recipes import PAPER, ZOO
from experiments.run import Run

__all__ = ["ABLATIONS", "DELIVERED", "ORDERS", "SCHEMES", "SEPARATE", "Ablation", "by_name", "catalogue", "delivered", "searched"]

ORDERS = Path(__file__).parent / "orders"
"""Learned orders, as `accordion order` writes them."""

ROOT = Path(__file__).parents[1]

SCHEMES: dict[str, tuple[str, str]] = {
    "ResNet": ("right-to-left", "full"),
    "CoML-05": ("right-to-left", "CoML-05"),
    "CoML-03": ("right-to-left", "CoML-03"),
    "BlockCoML-05": ("blockwise", "BlockCoML-05"),
    "BlockCoML-03": ("blockwise", "BlockCoML-03"),
}
"""The paper's five: order and policy. ResNet is trained whole, and shrunk from the right."""


@dataclass(frozen=True, slots=True)
class Ablation:
    """One change. `against` is the scheme without it: `CoML-05`, or another ablation where the change needs that one."""

    scheme: str
    changes: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    against: str = "CoML-05"
    order: str = "right-to-left"
    policy: str = "CoML-05"


PAPERS_STEPS: dict[str, Any] = {
    "schedule": "steps",
    "milestones": (9, 14),
    **{name: getattr(PAPER, name) for name in ("learning_rate", "nesterov", "weight_decay", "decay_norms", "batch")},
}
"""The optimiser's part of the paper's recipe in the eighteen epochs of `brief`, the rate divided after the same shares of them."""

_SANDWICH: dict[str, Any] = {"objective": "sandwich"}
_TAUGHT: dict[str, Any] = {**_SANDWICH, "distill": 0.5}

FIRST_ABLATIONS: tuple[Ablation, ...] = (
    Ablation("batch norm for each configuration", {"norms": "configuration"}),
    Ablation("sandwich", _SANDWICH),
    Ablation("sandwich + distillation", _TAUGHT, against="sandwich"),
    Ablation("sandwich + distillation + balance", {**_TAUGHT, "balance": 2.0}, against="sandwich + distillation"),
    Ablation("the paper's optimiser", PAPERS_STEPS),
    Ablation("without zero-initialised last scale", {"zero_init_last_norm": False}),
    Ablation("weight averaging", {"average": 0.999}),
)
"""What is most often said to lower the tax."""

FURTHER_ABLATIONS: tuple[Ablation, ...] = (
    Ablation("joint", {"objective": "joint"}),
    Ablation("stage heads", settings={"heads": "stage"}),
    Ablation("without label smoothing", {"label_smoothing": 0.0}),
    Ablation("all epochs on pictures of full size", {"sizes": ((1.0, 1.0),)}),
    Ablation("batch norm measured again", {"norms": "shared"}),
    Ablation("stratified", {"objective": "stratified"}),
    Ablation("cosine schedule", {"schedule": "cosine"}),
    Ablation(
        "blockwise: batch norm for each configuration", {"norms": "configuration"}, {}, "BlockCoML-05", "blockwise", "BlockCoML-05"
    ),
)

ABLATIONS = FIRST_ABLATIONS + FURTHER_ABLATIONS
"""One change each of what CoML-05 does by the recipe `brief`. The policy `uniform` is among `DELIVERED`."""


DELIVERED: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{scheme: (order, policy, {}) for scheme, (order, policy) in SCHEMES.items()},
    "uniform": ("right-to-left", "uniform", {}),
    "demand-matched": ("right-to-left", "experiments/policies/demand-matched.json", {}),
    "guarantee": ("right-to-left", "guarantee:experiments/policies/guarantee.json", {}),
    "learned": (str(ORDERS / "resnet20-cifar10.json"), "uniform", {"objective": "sandwich", "distill": 0.5}),
    "balanced": (
        str(ORDERS / "resnet20-even.json"),
        "uniform",
        {"objective": "sandwich", "distill": 0.5, "balance": 2.0, "norms": "configuration"},
    ),
}
"""What is compared by what it delivers: order, policy, changes of the recipe `brief`."""

COMPARED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "late-start": (str(ORDERS / "resnet20-late-start.json"), *DELIVERED["balanced"][1:]),
    "by-depth": (str(ORDERS / "resnet20-by-depth.json"), "uniform", {"objective": "joint", "distill": 0.5, "balance": 2.0}),
}
"""Further schemes, of the comparisons alone, by networks that have the order."""

HEADS = {"learned": "stage", "by-depth": "configuration"}
"""Whose the heads are where not all configurations share one."""

SEPARATE = ("resnet8", "resnet14")
"""Smaller networks that are compared by what they deliver, too."""


def catalogue() -> list[Run]:
    """Every run, in the order in which they are best done."""
    runs: dict[str, Run] = {}
    for run in _in_order():
        runs.setdefault(run.name, run)
    return list(runs.values())


def by_name() -> dict[str, Run]:
    """The list by name."""
    return {run.name: run for run in catalogue()}


def _in_order() -> Iterator[Run]:
    yield from _delivered(0)
    yield from _figure4("resnet20", "cifar100", "brief", [0])
    # The zoo's networks, whole, and shapes of their ladders that are cheap to train.
    yield from _references(("resnet56", "resnet2-1-0", "resnet4-3-0", "resnet6-5-1"), "cifar10", ZOO["cifar10"].name, [0])
    yield from _references(("resnet110", "resnet1-1-1", "resnet6-5-2"), "cifar100", ZOO["cifar100"].name, [0])
    small = ("resnet8", "resnet14", "resnet3-0-0", "resnet3-3-0", "resnet3-3-1")
    for seed in (1, 2):
        for dataset in ("cifar10", "cifar100"):
            yield from _figure4("resnet20", dataset, "brief", [seed])
    for seed in (0, 1, 2):
        yield from (_ablation(change, seed) for change in FIRST_ABLATIONS)
        yield _learned("resnet20", "cifar10", "brief", seed)
        yield from _references(small, "cifar10", "brief", [seed])
    yield from _figure4("resnet56", "cifar10", "brief", [0])  # the comparisons begin with three of these
    yield from _figure4("resnet56", "cifar10", "short", [0])
    for seed in (0, 1, 2):
        yield from (_ablation(change, seed) for change in FURTHER_ABLATIONS)
    # ResNet-56 alone is among Figure 4's runs.
    for seed in (1, 2):
        yield from _delivered(seed)
    large = ("resnet8", "resnet9-0-0", "resnet9-9-0", "resnet9-9-3", "resnet14", "resnet20", "resnet32", "resnet44")
    yield from _references(large, "cifar10", "short", [0])
    yield from _references(("resnet5-3-1", "resnet7-6-3", "resnet9-8-6"), "cifar10", ZOO["cifar10"].name, [0])
    yield from _figure4("resnet110", "cifar100", "short", [0], ("ResNet", "CoML-03", "BlockCoML-03"))
    yield from _references(small, "cifar100", "brief", [0, 1, 2])
    # The paper's own recipe: for whoever has a GPU.
    for seed in (0, 1, 2):
        for dataset in ("cifar10", "cifar100"):
            yield from _figure4("resnet20", dataset, "paper", [seed])
    for seed in range(5):
        yield from _figure4("resnet56", "cifar10", "paper", [seed])
        yield from _figure4("resnet110", "cifar100", "paper", [seed])
    yield from _references(large, "cifar10", "paper", [0])


def _figure4(
    network: str, dataset: str, recipe: str, seeds: Iterable[int], schemes: Iterable[str] = tuple(SCHEMES)
) -> Iterator[Run]:
    for seed in seeds:
        for scheme in schemes:
            order, policy = SCHEMES[scheme]
            yield Run("figure4", scheme, dataset, network, order, policy, recipe, seed)


def _references(networks: Iterable[str], dataset: str, recipe: str, seeds: Iterable[int]) -> Iterator[Run]:
    """Networks of their own, trained whole: nothing elastic in them. Blockwise, since few configurations are then looked at."""
    for seed in seeds:
        for network in networks:
            # A step that trains one configuration has one loss, so what the recipe says about several means nothing.
            yield Run("reference", "alone", dataset, network, "blockwise", "full", recipe, seed, {"objective": "sampled"})


def _delivered(seed: int) -> Iterator[Run]:
    yield from (delivered(scheme, "resnet20", "cifar10", "brief", seed) for scheme in DELIVERED)
    yield from _references(SEPARATE, "cifar10", "brief", [seed])


def delivered(scheme: str, network: str, dataset: str, recipe: str, seed: int) -> Run:
    """One of `DELIVERED` or `COMPARED` on any network, whose own the order is. The paper's schemes are Figure 4's runs."""
    if scheme in SCHEMES:
        return next(_figure4(network, dataset, recipe, [seed], [scheme]))
    order, policy, changes = {**DELIVERED, **COMPARED}[scheme]
    if order.endswith(".json"):
        order = str(ORDERS / Path(order).name.replace("resnet20", network).replace("cifar10", dataset))
    named = (text.removeprefix("guarantee:") for text in (order, policy) if text.endswith(".json"))
    files = tuple(ROOT / text for text in named)  # relative to the repository's root, where the experiments run
    settings = {"heads": HEADS[scheme]} if scheme in HEADS else {}
    # The policy is all that `uniform` changes, so it is an ablation too.
    against = "CoML-05" if scheme == "uniform" else None
    return Run("delivered", scheme, dataset, network, order, policy, recipe, seed, changes, settings, against=against, files=files)


SEARCHES = {"resnet56": ("grid:3,2,0", 6)}
"""Grid and epochs of the training by which an order is found, where they are not as on ResNet-20: single blocks of a stage are of
no use there, a step costs more, and all that is asked of it is which configuration is better than which."""


def searched(network: str, dataset: str) -> TrainingConfig:
    """The training by which the order of `learned` is found: over all configurations, and thrown away (see the README)."""
    grid, epochs = SEARCHES.get(network, ("grid:1,1,0", 10))
    recipe = MODERN.with_changes(objective="sandwich", distill=0.5, epochs=epochs)
    return TrainingConfig(dataset, network, order=grid, heads="stage", policy="uniform", recipe=recipe)


def _ablation(change: Ablation, seed: int) -> Run:
    return Run(
        "ablation",
        change.scheme,
        "cifar10",
        "resnet20",
        change.order,
        change.policy,
        "brief",
        seed,
        change.changes,
        change.settings,
        against=change.against,
    )


def _learned(network: str, dataset: str, recipe: str, seed: int) -> Run:
    order = ORDERS / f"{network}-{dataset}.json"
    # The complete network with p = 0.5, otherwise uniform, as CoML-05: the order alone differs from it.
    return Run("order", "learned", dataset, network, str(order), "CoML-05", recipe, seed, against="CoML-05", files=(order,))
