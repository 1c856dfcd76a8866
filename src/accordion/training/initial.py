"""Weights to begin with: those of a finished run, or of a package, so that trainings add up although the run is long gone.

A package holds convolutions into which their batch norms were folded. A training needs norms, and theirs can't be told from the
product any more; but any norm that undoes itself will do. The training network gets the folded weight as its convolution, the
statistics of that convolution's output over training pictures as mean and variance, scale √(variance + ε), and shift bias + mean.
In eval mode that is the packaged network again, and in training mode a network like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accordion.artifact.ladder import Ladder
from accordion.data import Dataset
from accordion.elastic import CifarResNet, ElasticNetwork
from accordion.elastic.resnet import Head
from accordion.errors import UsageError
from accordion.training.norms import Sums, norm_batches
from accordion.training.packaged import GraphWeights, laid_out, layers_of, path_and_tag, read_graph
from accordion.training.recipes import MODERN
from accordion.training.run_directory import RunDirectory

__all__ = ["adopt"]

PICTURES = 2000
"""From which the new norms' statistics come. They need only be near what a training will see: the function is the same with any."""

Array = NDArray[Any]


def adopt(
    network: ElasticNetwork,
    initial: str,
    dataset: Dataset,
    *,
    seed: int,
    norms_learn: bool = True,
    progress: Callable[[str], None] = lambda line: None,
) -> None:
    """Gives `network` the weights of `initial`: a run directory, or PACKAGE or PACKAGE:TAG.

    Without `norms_learn` statistics stay what they are in a run: for a finishing, which leaves them alone. UsageError if there is
    no such thing, or if its network is another; ContentError if the package is broken.
    """
    module = network.module
    if not isinstance(module, CifarResNet):
        raise UsageError(f"a {type(module).__name__} can't begin with other weights")
    path, tag = path_and_tag(initial)
    if not (path / "oci-layout").is_file():
        if tag is not None or not path.exists():
            raise UsageError(f"there is no run and no package {initial} to begin with")
        directory = RunDirectory(path)
        norms = directory.read_norms()
        # What was measured again is in a file of its own; what single configurations have has no place in a training.
        module.adopt({**directory.read_weights(), **({} if norms is None else norms.shared)})
        if not (norms_learn and directory.out_of_package):
            return
    else:
        with laid_out(path, tag) as (ladder, folder):
            _take_over(module, ladder, folder, initial)
    split = dataset.hold_out()[0]
    progress(f"batch norms for the folded weights of {initial}, on {min(PICTURES, len(split))} training pictures")
    recipe = MODERN.with_changes(norm_pictures=PICTURES)
    _fit_norms(network, norm_batches(split, recipe, seed, mirror=dataset.mirror))


def _take_over(module: CifarResNet, ladder: Ladder, folder: Path, what: str) -> None:
    complete = ladder.configurations[-1]
    found = read_graph(folder / complete.graph, what)
    pairs = layers_of(module)
    shapes = [tuple(conv.weight.shape) for conv, _ in pairs]
    if [one.weight.shape for one in found.convolutions] != shapes or complete.blocks.by_stage != tuple(map(len, module.stages)):
        raise UsageError(f"{what} holds another network: it has blocks {list(complete.blocks.by_stage)} by stage, or other widths")
    with torch.no_grad():
        for (conv, norm), one in zip(pairs, found.convolutions, strict=True):
            conv.weight.copy_(torch.from_numpy(one.folded.copy()))
            norm.weight.fill_(1.0)
            norm.bias.copy_(torch.from_numpy(one.shift.copy()))
            _buffer(norm, "running_mean").fill_(0.0)
            _buffer(norm, "running_var").fill_(1.0 - norm.eps)
        for head, linear in _heads(module, ladder, folder, what, found):
            if tuple(head.weight.shape) != linear[0].shape:
                raise UsageError(f"{what} tells {linear[0].shape[0]} classes apart, this data set has {head.weight.shape[0]}")
            head.weight.copy_(torch.from_numpy(linear[0].copy()))
            head.bias.copy_(torch.from_numpy(linear[1].copy()))


def _heads(
    module: CifarResNet, ladder: Ladder, folder: Path, what: str, complete: GraphWeights
) -> Iterator[tuple[nn.Linear, tuple[Array, Array]]]:
    yield module.head.linear, complete.linear
    if module.heads is not None:
        # Those of a package of as many configurations; any other begins all of them with the complete network's.
        rungs = ladder.configurations if len(ladder.configurations) == len(module.heads) + 1 else ()
        for k, head in enumerate(module.heads):
            assert isinstance(head, Head)
            yield head.linear, read_graph(folder / rungs[k].graph, what).linear if rungs else complete.linear
    if not module.stage_heads:
        return
    for stage, head in enumerate((module.head1, module.head2)):
        ending = [c for c in ladder.configurations if c.blocks.by_stage[stage] and not any(c.blocks.by_stage[stage + 1 :])]
        yield head.linear, read_graph(folder / ending[-1].graph, what).linear if ending else complete.linear


@torch.no_grad()
def _fit_norms(network: ElasticNetwork, batches: Iterator[Tensor]) -> None:
    """Turns norms out of a package into norms with the statistics of what they see; the function of the complete network stays."""
    view = network.at(len(network) - 1)
    norms = [norm for _, norm in layers_of(network.module)] if isinstance(network.module, CifarResNet) else []
    sums = {norm: Sums() for norm in norms}
    training = network.training
    handles = [norm.register_forward_pre_hook(lambda m, inputs: sums[m].add(inputs[0])) for norm in norms]
    view.eval()
    try:
        for x in batches:
            view(x.contiguous(memory_format=torch.channels_last))
    finally:
        for handle in handles:
            handle.remove()
        network.train(training)
    for norm, found in sums.items():
        mean, variance = found.statistics()
        old_mean, old_variance = _buffer(norm, "running_mean"), _buffer(norm, "running_var")
        factor = norm.weight.double() / (old_variance.double() + norm.eps).sqrt()
        norm.bias.copy_(norm.bias + factor * (mean.double() - old_mean))
        norm.weight.copy_(factor * (variance.double() + norm.eps).sqrt())
        old_mean.copy_(mean)
        old_variance.copy_(variance)


def _buffer(norm: nn.BatchNorm2d, name: str) -> Tensor:
    buffer = getattr(norm, name)
    assert isinstance(buffer, Tensor)
    return buffer
