"""What a training computes: how many blocks of each stage a step passes through, on average. No weights, no data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from accordion.data import Dataset, Split
from accordion.elastic import ElasticNetwork, closed_form_macs
from accordion.training import MODERN, TrainingConfig, build_network
from accordion.training.objectives import configurations
from accordion.training.recipes import picture_size

__all__ = ["SHAPES", "TRAINING_PICTURES", "Work", "adapting_macs", "expected_work", "norms_macs", "training_macs"]

SHAPES = {"cifar10": (3, 32, 10), "cifar100": (3, 32, 100), "digits": (1, 8, 10)}
"""Channels, side and classes of each data set's pictures."""

TRAINING_PICTURES = {"cifar10": 45_000, "cifar100": 45_000, "digits": 1_293}
"""Without the validation split."""

DRAWS = 400


@dataclass(frozen=True, slots=True)
class Work:
    """Means over the steps of a training, for one picture of full size: how often the input layer and the blocks of each stage run
    forward and back. `trained_share` is the share of the network's blocks that a step updates."""

    stems: float
    blocks: tuple[float, float, float]
    trained_share: float

    def macs(self, classes: int, side: int, channels: int, widths: tuple[int, int, int]) -> float:
        """Multiply-accumulates of the forward pass for one picture."""

        def closed(by_stage: tuple[int, int, int]) -> int:
            return closed_form_macs(by_stage, classes, size=side, in_channels=channels, widths=widths)

        base = closed((0, 0, 0))
        one = [closed((1, 0, 0)) - base, closed((0, 1, 0)) - base, closed((0, 0, 1)) - base]
        return self.stems * base + sum(count * macs for count, macs in zip(self.blocks, one, strict=True))


def expected_work(config: TrainingConfig) -> Work:
    """The mean over the steps that `config` draws. Configurations that share a beginning run it once, as `ElasticNetwork` does."""
    network = _network(config.dataset, config.network, config.order, config.heads)
    policy = config.policy_for(len(network))
    rng = np.random.default_rng(0)
    steps: dict[tuple[int, ...], float] = {}
    if config.recipe.objective == "sampled":
        steps = {(k,): p for k, p in enumerate(policy.probabilities) if p > 0}
    else:
        for _ in range(DRAWS):
            drawn = tuple(sorted(configurations(config.recipe, policy, rng)))
            steps[drawn] = steps.get(drawn, 0.0) + 1 / DRAWS
    stems, share, blocks = 0.0, 0.0, np.zeros(3)
    total = sum(network.order.by_stage(len(network) - 1))
    for ks, p in steps.items():
        passes, trained = _passes(network, ks)
        stems += p
        blocks += p * passes
        share += p * trained / total
    return Work(stems, (float(blocks[0]), float(blocks[1]), float(blocks[2])), share)


def training_macs(config: TrainingConfig) -> float:
    """Forward multiply-accumulates of the whole training (a backward pass costs about twice that, for every run alike)."""
    channels, side, classes = SHAPES[config.dataset]
    widths = (config.width, 2 * config.width, 4 * config.width)
    work = expected_work(config)
    pictures = TRAINING_PICTURES[config.dataset]
    sizes = [picture_size(config.recipe, epoch, side) for epoch in range(config.recipe.epochs)]
    return sum(work.macs(classes, size, channels, widths) * pictures for size in sizes)


def norms_macs(config: TrainingConfig) -> float:
    """Multiply-accumulates of measuring batch-norm statistics again after the training: forward passes of all configurations."""
    recipe = config.recipe
    if recipe.norms == "running":
        return 0.0
    network = _network(config.dataset, config.network, config.order, config.heads)
    channels, side, classes = SHAPES[config.dataset]
    passes, _ = _passes(network, tuple(range(len(network))))
    work = Work(1.0, (float(passes[0]), float(passes[1]), float(passes[2])), 1.0)
    pictures = min(recipe.norm_pictures, TRAINING_PICTURES[config.dataset])
    return pictures * work.macs(classes, side, channels, (config.width, 2 * config.width, 4 * config.width))


def adapting_macs(config: TrainingConfig, epochs: int) -> float:
    """Forward multiply-accumulates of `accordion adapt` in so many epochs: each configuration but the complete one, by itself."""
    network = _network(config.dataset, config.network, config.order, config.heads)
    channels, side, classes = SHAPES[config.dataset]
    widths = (config.width, 2 * config.width, 4 * config.width)
    for_one = [
        closed_form_macs(network.order.by_stage(k), classes, size=side, in_channels=channels, widths=widths)
        for k in range(len(network) - 1)
    ]
    return float(sum(for_one) * epochs * TRAINING_PICTURES[config.dataset])


def _passes(network: ElasticNetwork, ks: tuple[int, ...]) -> tuple[NDArray[np.float64], int]:
    """How often blocks of each stage run in a step over `ks`, and how many blocks take part at all."""
    stages = network.order.stages
    beginnings: set[tuple[str, ...]] = set()
    for k in ks:
        active = network.order.configurations[k]
        # The joins stand in the chain too: what follows one has another input.
        chain = [step for stage, names in enumerate(stages) for step in [f"stage {stage}", *(n for n in names if n in active)]]
        beginnings.update(tuple(chain[: length + 1]) for length in range(len(chain)))
    of = {name: stage for stage, names in enumerate(stages) for name in names}
    passes = np.zeros(3)
    for beginning in beginnings:
        if (stage := of.get(beginning[-1])) is not None:
            passes[stage] += 1
    return passes, len(frozenset[str]().union(*(network.order.configurations[k] for k in ks)))


@lru_cache(maxsize=64)
def _network(dataset: str, network: str, order: str, heads: str) -> ElasticNetwork:
    """The network without data, narrow: only its order is looked at."""
    channels, side, classes = SHAPES[dataset]
    nothing = Split(np.zeros((1, channels, side, side), np.uint8), np.zeros(1, np.int64))
    stand_in = Dataset(dataset, ("",) * classes, (0.0,) * channels, (1.0,) * channels, nothing, nothing)
    one = MODERN.with_changes(objective="sampled")  # a grid refuses to run all that it has in one step
    return build_network(TrainingConfig(dataset, network, 1, order, heads=heads, recipe=one), stand_in)
