"""Batch-norm statistics measured again after a training, for all configurations together or for groups of them.

In a chain of blocks, what a norm sees depends only on what runs before it. In the right-to-left order that is the same in every
configuration that has the norm, so one set of statistics is exact for all. In other orders norms of the second and third stage see
something else in each configuration; those of the first stage and the stem never do. Statistics are therefore kept by what runs
before: configurations share all that can be shared, and a package carries again only values that really differ.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from accordion.data import Split, batches_per_epoch, training_batches
from accordion.elastic import ElasticNetwork
from accordion.errors import UsageError
from accordion.training.recipes import Recipe

__all__ = ["Norms", "Sums", "groups", "measure_norms", "norm_batches", "recalibrated"]

BATCH = 250  # pictures normalised together while the statistics are taken
EPOCH = 1_000_000  # so that these pictures are cropped and mirrored otherwise than in any epoch of the training


@dataclass(frozen=True, slots=True)
class Norms:
    """Statistics by buffer name: `shared` for all; `values[k]` where configuration k has others.

    Equal statistics are the same tensor object in all configurations that have them.
    """

    shared: dict[str, Tensor]
    values: dict[int, dict[str, Tensor]]

    @property
    def changed_values(self) -> int:
        """Numbers that some configuration has different from the complete one, each once: a package carries them on top."""
        return sum({id(t): t.numel() for own in self.values.values() for t in own.values()}.values())

    def applied(self, network: ElasticNetwork) -> ElasticNetwork:
        """The network with these statistics, over a copy of its module. UsageError if they are another network's."""
        module = copy.deepcopy(network.module)
        buffers = dict(module.named_buffers())
        with torch.no_grad():
            for name, tensor in self.shared.items():
                if name not in buffers or buffers[name].shape != tensor.shape:
                    raise UsageError(f"the network has no buffer {name} of shape {list(tensor.shape)}: calibrate it again")
                buffers[name].copy_(tensor)
        return network.over(module).with_values(self.values).train(network.training)


@dataclass(slots=True)
class Sums:
    """What one norm sees, summed by channel in float64."""

    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros(()))
    squares: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, x_bchw: Tensor) -> None:
        x = x_bchw.detach().transpose(0, 1).flatten(1).double()
        self.count += x.shape[1]
        self.total = self.total + x.sum(1)
        self.squares = self.squares + x.square().sum(1)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and unbiased variance by channel, float32."""
        return _mixture([self], [1.0])


def groups(norms: str, k: int) -> list[list[int]]:
    """The groups of `k` configurations that share statistics under the recipe's `norms` (not for "running")."""
    count = {"shared": 1, "configuration": k}.get(norms) or int(norms)
    return [[int(index) for index in part] for part in np.array_split(np.arange(k), min(count, k))]


def norm_batches(split: Split, recipe: Recipe, seed: int, *, mirror: bool) -> Iterator[Tensor]:
    """The recipe's `norm_pictures` training pictures in random order, augmented as in training: float32 [b, c, h, w] in 0..1."""
    count = min(recipe.norm_pictures, len(split))
    batch = min(BATCH, count)
    batches = training_batches(split, batch=batch, seed=seed, epoch=EPOCH, crop=recipe.crop, flip=recipe.flip and mirror)
    for x, _ in islice(batches, batches_per_epoch(count, batch)):
        yield x


def recalibrated(
    network: ElasticNetwork,
    recipe: Recipe,
    split: Split,
    policy: Sequence[float],
    *,
    seed: int,
    mirror: bool,
    device: torch.device | str = "cpu",
) -> Norms:
    """The statistics that the recipe's `norms` asks for, from the training pictures of `split`; groups are pooled by `policy`."""
    pictures = norm_batches(split, recipe, seed, mirror=mirror)
    return measure_norms(network, pictures, groups(recipe.norms, len(network)), policy, device=device)


def measure_norms(
    network: ElasticNetwork,
    batches: Iterable[Tensor],
    together: Sequence[Sequence[int]],
    weights: Sequence[float] | None = None,
    *,
    device: torch.device | str = "cpu",
) -> Norms:
    """The statistics of every batch norm over all `batches`, pooled over each group of configurations in `together`.

    Each batch is normalised by itself on its way through, as in training; mean and variance are those of all pictures. Within a
    group they are pooled by `weights[k]` (equal if left out or nothing). `shared` is the last group's. The network is untouched.
    """
    network = network.over(network.module)  # without values of single configurations
    kinds = nn.BatchNorm2d | nn.BatchNorm1d
    paths = {module: name for name, module in network.module.named_modules() if isinstance(module, kinds)}
    sums: dict[tuple[str, tuple[int, ...]], Sums] = {}
    running: tuple[int, ...] = ()

    def watch(ks: tuple[int, ...]) -> None:
        nonlocal running
        running = ks

    def take(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sums.setdefault((paths[module], running), Sums()).add(inputs[0])  # type: ignore[index]

    ks = [k for group in together for k in group]
    before = {name: buffer.clone() for name, buffer in network.module.named_buffers()}
    training = network.training
    handles = [module.register_forward_pre_hook(take) for module in paths]
    network.train()
    try:
        with torch.no_grad():
            for x in batches:
                network.outputs(x.to(device).contiguous(memory_format=torch.channels_last), ks, watch)
    finally:
        for handle in handles:
            handle.remove()
        network.train(training)
        with torch.no_grad():
            for name, buffer in network.module.named_buffers():
                buffer.copy_(before[name])
    if any(found.count < 2 for found in sums.values()):
        raise UsageError("batch norm can't be measured on a single value: give more pictures")
    return _pooled(sums, together, weights)


def _pooled(
    sums: Mapping[tuple[str, tuple[int, ...]], Sums], together: Sequence[Sequence[int]], weights: Sequence[float] | None
) -> Norms:
    done: dict[tuple[tuple[str, tuple[int, ...], float], ...], tuple[Tensor, Tensor]] = {}
    by_configuration: dict[int, dict[str, Tensor]] = {}
    shared: dict[str, Tensor] = {}
    for group in together:
        parts: dict[str, dict[tuple[int, ...], float]] = {}
        for path, ks in sums:
            if members := set(ks) & set(group):
                weight = sum(weights[k] for k in members) if weights else float(len(members))
                parts.setdefault(path, {})[ks] = weight
        found: dict[str, Tensor] = {}
        for path, shares in parts.items():
            if len(shares) == 1 or not sum(shares.values()):  # what all members see, or no weight to go by
                shares = dict.fromkeys(shares, 1.0)
            key = tuple(sorted((path, ks, share) for ks, share in shares.items()))
            if key not in done:
                done[key] = _mixture([sums[path, ks] for ks in shares], list(shares.values()))
            found[f"{path}.running_mean"], found[f"{path}.running_var"] = done[key]
        shared.update(found)
        for k in group:
            own = {path for path, ks in sums if k in ks}
            by_configuration[k] = {name: tensor for name, tensor in found.items() if name.rpartition(".")[0] in own}
    values = {k: {name: t for name, t in own.items() if t is not shared[name]} for k, own in by_configuration.items()}
    return Norms(shared, {k: own for k, own in values.items() if own})


def _mixture(sums: Sequence[Sums], weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of inputs mixed by weight, float32 by channel."""
    shares = [weight / sum(weights) for weight in weights]
    mean = torch.stack([share * s.total / s.count for share, s in zip(shares, sums, strict=True)]).sum(0)
    square = torch.stack([share * s.squares / s.count for share, s in zip(shares, sums, strict=True)]).sum(0)
    count = min(s.count for s in sums)
    variance = (square - mean.square()).clamp_min(0) * (count / (count - 1))
    return mean.float().cpu(), variance.float().cpu()
