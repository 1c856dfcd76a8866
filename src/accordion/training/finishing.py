"""Finishing: a trained network goes on learning as what it will be once packaged, quantized, pruned, or both.

Packaging folds each batch norm into its convolution and encodes the result, so finishing does the same in every forward pass:
statistics are frozen, weights are folded, and the folded weights are rounded by the codec's own scales; gradients pass the rounding
straight through (Bengio et al., Estimating or Propagating Gradients Through Stochastic Neurons, 2013; with folding, Jacob et al.,
2018). All configurations share the weights, so all of them share scales and pruning masks. Where a configuration has batch-norm
statistics of its own, it computes with those, as its package will: with the same integers, and factors and shifts of its own by
channel.

Pruning takes the smallest folded weights of all blocks together, more and more of them along the cubic schedule of Zhu and Gupta,
To prune, or not to prune (2017). A pruned weight is a zero and stays one, so the weights are all the state that there is.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from accordion.elastic import ElasticNetwork
from accordion.errors import UsageError

__all__ = ["Finisher", "Finishing", "Rounded", "Rounding"]

SMALLEST = 64  # numbers; smaller tensors travel as they are
REFRESH = 50  # steps between two searches for scales: each takes as long as a step or two, and they move slowly
RAMP = 2 / 3  # share of the training in which the pruning grows; the rest is for making good what it cost
PRUNE_EVERY = 10  # steps


@dataclass(frozen=True, slots=True)
class Rounded:
    """A weight [out, …] as a codec keeps it: for each plane its bits and scales [out], and their sum."""

    planes: tuple[tuple[int, NDArray[np.float32]], ...]
    value: NDArray[np.float32]


Rounding = Callable[[NDArray[np.float32], str, bool], Rounded]
"""What packaging does to one tensor with a codec of this name, and whether the tensor lies outside of all blocks; UsageError for a
codec that does not round."""


@dataclass(frozen=True, slots=True)
class Finishing:
    """`quantize`: codecs to train for, one drawn in each step (`int4`, `int4+4`); `prune`: share of the blocks' weights to drop.

    `distill` is the share of the loss that comes from the network as it was before, complete and in float32.
    """

    quantize: tuple[str, ...] = ()
    prune: float = 0.0
    distill: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.quantize, str) or not all(isinstance(codec, str) for codec in self.quantize):
            raise UsageError(f"what to quantize to are several codecs, such as ('int8',), not {self.quantize!r:.60}")
        if not 0 <= self.prune < 1:
            raise UsageError(f"{self.prune} of the weights can't be pruned: name a share from 0 up to, not including, 1")
        if not 0 <= self.distill <= 1:
            raise UsageError(f"distillation can't be {self.distill} of the loss: name a share from 0 to 1")
        if not self.quantize and not self.prune:
            raise UsageError("nothing to finish: name a precision to quantize to, a share to prune, or both")

    def __str__(self) -> str:
        parts = [f"for {' and '.join(self.quantize)}"] if self.quantize else []
        return "finishing " + ", ".join([*parts, *([f"{self.prune:.0%} of the weights pruned"] if self.prune else [])])


@dataclass(slots=True)
class _Layer:
    """A convolution or linear layer and the norm that alone reads it. `scales` by precision, as last searched."""

    path: str
    outside: bool  # of all blocks: such layers are few and decide much, so packaging keeps them at 8 bits, and they are not pruned
    module: nn.Conv2d | nn.Linear
    norm: nn.BatchNorm2d | None
    scales: dict[str, list[tuple[int, Tensor]]]

    def factor(self) -> Tensor | None:
        """What folding multiplies each output channel by [out]."""
        if self.norm is None:
            return None
        assert self.norm.running_var is not None and self.norm.weight is not None
        return self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)

    def folded(self) -> Tensor:
        """The weight [out, …] that is packaged."""
        factor = self.factor()
        weight = self.module.weight
        return weight if factor is None else weight * factor.view(-1, *(1,) * (weight.ndim - 1))

    def after(self, x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        """What `norm` makes of what the folded convolution gave: the bias that is packaged is added. `norm` is the layer's own, or
        that of a configuration with other statistics, to which the outputs [b, out, h, w] are scaled beforehand."""
        own = self.norm
        assert own is not None and own.running_var is not None and norm.running_mean is not None and norm.running_var is not None
        if norm.running_mean.device != x.device:  # those of a configuration are no buffers of the network, which has moved
            norm.running_mean, norm.running_var = norm.running_mean.to(x.device), norm.running_var.to(x.device)
        mean, variance = norm.running_mean, norm.running_var
        bias = self.module.bias if self.module.bias is not None else torch.zeros_like(mean)
        shift = norm.bias + (bias - mean) * norm.weight / torch.sqrt(variance + norm.eps)
        scaled = x
        if norm is not own:
            scaled = x * torch.sqrt((own.running_var + own.eps) / (variance + norm.eps)).view(1, -1, 1, 1)
        return (scaled + shift.view(1, -1, 1, 1)).to(x.dtype)  # under autocast, half as many bytes for what follows


class Finisher:
    """Makes `network` compute what its package will. The wrapped module's state dict keeps its keys and its meaning."""

    def __init__(self, network: ElasticNetwork, settings: Finishing, rounding: Rounding | None, example: Tensor) -> None:
        if settings.quantize and rounding is None:
            raise UsageError("quantizing needs to be told how packaging rounds")
        self.settings, self._rounding, self._network = settings, rounding, network
        self._before = copy.deepcopy(network.at(len(network) - 1)).eval() if settings.distill else None
        self.layers = _layers(network, example)
        self._weights = [layer for layer in self.layers if layer.module.weight.numel() >= SMALLEST]
        self._prunable = [layer for layer in self._weights if not layer.outside]
        for precision in settings.quantize:  # a name that is none shows before anything is trained
            assert rounding is not None
            rounding(np.ones((1, 1), np.float32), precision, False)
        self.precision: str | None = None
        self._kept: list[Tensor] = []
        for layer in self.layers:
            _take_over(layer, self)
        by_weight = {id(layer.norm.weight): layer for layer in self.layers if layer.norm is not None}
        for norm in _others(network):
            _shift_by(by_weight[id(norm.weight)], norm)

    def begin_step(self, step: int, total: int, rng: np.random.Generator) -> None:
        """Before step `step` of `total`: the precision that it is for, scales and pruning as they are due."""
        if self.settings.prune:
            if step % PRUNE_EVERY == 0:
                self._prune(step, total)
            else:
                self._kept = [(layer.module.weight != 0).to(layer.module.weight) for layer in self._prunable]
        if self.settings.quantize:
            if step % REFRESH == 0 or not self._weights[0].scales:
                self.search()
            self.precision = str(rng.choice(self.settings.quantize))

    def end_step(self) -> None:
        """After the optimizer: what was pruned stays so."""
        if self.settings.prune:
            with torch.no_grad():
                for layer, kept in zip(self._prunable, self._kept, strict=True):
                    layer.module.weight.mul_(kept)

    def loss(self, x: Tensor, outputs: Mapping[int, Tensor], weights: Mapping[int, float], own: Tensor) -> Tensor:
        """`own`, the loss of the step's `outputs` (configuration → logits [b, classes]), mixed with distillation from before, where
        configurations count by `weights`."""
        if self._before is None:
            return own
        with torch.no_grad():
            teacher = F.softmax(self._before.to(x.device)(x).float(), dim=1)
        taught = torch.stack([weight * F.cross_entropy(outputs[k].float(), teacher) for k, weight in weights.items()]).sum()
        return (1 - self.settings.distill) * own + self.settings.distill * taught

    def search(self) -> None:
        """Scales anew, by the codec's own rule."""
        for layer in self._weights:
            for precision in self.settings.quantize:
                rounded = self._rounded(layer, precision)
                device = layer.module.weight.device
                layer.scales[precision] = [(bits, torch.from_numpy(scales).to(device)) for bits, scales in rounded.planes]

    def settle(self, total: int) -> None:
        """At the end: the last of the pruning, and weights where rounding puts them, if they are for one precision of one plane.

        With several precisions, or planes that add up, the weights stay between the steps of the coarsest: they are what the finer
        ones go on towards.
        """
        if self.settings.prune:
            self._prune(total, total)
        if not self.settings.quantize:
            return
        self.search()
        self.precision = self.settings.quantize[-1]
        if len(self.settings.quantize) > 1 or any(len(layer.scales[self.precision]) > 1 for layer in self._weights):
            return
        with torch.no_grad():
            for layer in self._weights:
                value = torch.from_numpy(self._rounded(layer, self.precision).value).to(layer.module.weight)
                factor = layer.factor()
                if factor is not None:
                    column = factor.view(-1, *(1,) * (value.ndim - 1))
                    value = torch.where(column == 0, layer.module.weight, value / torch.where(column == 0, 1.0, column))
                layer.module.weight.copy_(value)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside the weights."""
        return {
            layer.path: {name: [list(plane) for plane in planes] for name, planes in layer.scales.items()}
            for layer in self._weights
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state` gave."""
        for layer in self._weights:
            device = layer.module.weight.device
            layer.scales = {
                name: [(int(bits), scales.to(device)) for bits, scales in planes]
                for name, planes in state.get(layer.path, {}).items()
            }

    def weight(self, layer: _Layer) -> Tensor:
        """The folded weight of `layer` at this step's precision."""
        folded = layer.folded()
        planes = layer.scales.get(self.precision or "", [])
        return fake_quantized(folded, planes) if planes else folded

    def sparsity(self) -> float:
        """Which share of the blocks' weights is zero."""
        zeros = sum(int((layer.module.weight == 0).sum()) for layer in self._prunable)
        return zeros / sum(layer.module.weight.numel() for layer in self._prunable)

    def _rounded(self, layer: _Layer, precision: str) -> Rounded:
        assert self._rounding is not None
        return self._rounding(layer.folded().detach().float().cpu().contiguous().numpy(), precision, layer.outside)

    @torch.no_grad()
    def _prune(self, step: int, total: int) -> None:
        share = self.settings.prune * (1 - (1 - min(1.0, step / max(1.0, RAMP * total))) ** 3)
        sizes = [layer.folded().abs() for layer in self._prunable]
        flat = torch.cat([size.flatten() for size in sizes])
        count = math.floor(share * flat.numel())
        gone = torch.zeros_like(flat, dtype=torch.bool)
        gone[torch.argsort(flat, stable=True)[:count]] = True
        parts = torch.split(gone, [size.numel() for size in sizes])
        self._kept = [(~part.view_as(size)).to(size.dtype) for part, size in zip(parts, sizes, strict=True)]
        self.end_step()


def fake_quantized(weight: Tensor, planes: Sequence[tuple[int, Tensor]]) -> Tensor:
    """`weight` [out, …] as the sum of planes of (bits, scales [out]); a negative scale turns the range around, as the codec has it.

    The gradient is one where the first plane holds the weight and zero where it cuts it off.
    """
    total: Tensor | None = None
    for index, (bits, scales) in enumerate(planes):
        signs = torch.where(scales < 0, -1.0, 1.0)
        safe = torch.where(scales == 0, 1.0, scales.abs())
        column = (signs * (scales != 0)).view(-1, *(1,) * (weight.ndim - 1))
        left = weight if total is None else weight.detach() - total.detach()
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        zero = torch.zeros_like(safe, dtype=torch.int32)
        plane = column * torch.fake_quantize_per_channel_affine(left * column, safe, zero, 0, low, high)
        total = plane if index == 0 or total is None else total + plane
    return weight if total is None else total


def _take_over(layer: _Layer, finisher: Finisher) -> None:
    """Lets the layer compute with the folded, rounded weight, and its norm only shift."""
    module, norm = layer.module, layer.norm
    if isinstance(module, nn.Conv2d):
        conv = module

        def convolve(x: Tensor) -> Tensor:
            made: Tensor = conv._conv_forward(x, finisher.weight(layer), conv.bias if norm is None else None)
            return made

        module.forward = convolve  # type: ignore[method-assign, assignment]
    else:

        def multiply(x: Tensor) -> Tensor:
            return F.linear(x, finisher.weight(layer), module.bias)

        module.forward = multiply  # type: ignore[method-assign, assignment]
    if norm is not None:
        _shift_by(layer, norm)


def _shift_by(layer: _Layer, norm: nn.BatchNorm2d) -> None:
    def shift(x: Tensor) -> Tensor:
        return layer.after(x, norm)

    norm.forward = shift  # type: ignore[method-assign, assignment]


def _others(network: ElasticNetwork) -> list[nn.BatchNorm2d]:
    """The norms that stand in for the network's own in configurations with other statistics. They share its scales and biases."""
    own = {id(module) for module in network.module.modules()}
    views = (module for k in range(len(network)) for module in network.at(k).modules())
    return list({id(norm): norm for norm in views if isinstance(norm, nn.BatchNorm2d) and id(norm) not in own}.values())


def _layers(network: ElasticNetwork, example: Tensor) -> list[_Layer]:
    """The layers with weights, each with the norm that reads what it makes, found by running every configuration once."""
    paths = {id(module): path for path, module in network.module.named_modules()}
    norms: dict[int, set[int | None]] = {}
    modules = {id(module): module for module in network.module.modules()}
    # A norm that stands in for another, with other statistics, has that one's scale.
    by_scale = {id(module.weight): id(module) for module in modules.values() if isinstance(module, nn.BatchNorm2d)}
    for k in range(len(network)):
        for layer, norm in _pairs(network.at(k), example):
            norms.setdefault(id(layer), set()).add(None if norm is None else by_scale.get(id(norm.weight), id(norm)))
    found = []
    for path, module in network.module.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and id(module) in norms:
            if len(norms[id(module)]) > 1:
                raise UsageError(f"{path} is followed by different norms in different configurations: it can't be finished")
            (reader,) = norms[id(module)]
            norm = None if reader is None else modules[reader]
            if norm is not None and (not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None or norm.weight is None):
                raise UsageError(f"{paths[id(norm)]} has no statistics or no scale to fold")
            outside = not any(path.startswith(f"{block}.") or path == block for stage in network.order.stages for block in stage)
            found.append(_Layer(path, outside, module, norm if isinstance(norm, nn.BatchNorm2d) else None, {}))
    if not found:
        raise UsageError("the network has no convolution and no linear layer to finish")
    return found


def _pairs(view: nn.Module, example: Tensor) -> Iterator[tuple[nn.Module, nn.Module | None]]:
    made: dict[int, tuple[nn.Module, Tensor]] = {}
    reader: dict[int, nn.Module] = {}

    def after(module: nn.Module, _: tuple[Any, ...], output: Tensor) -> None:
        made[id(output)] = module, output  # kept, so that its id stays taken

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if id(inputs[0]) in made:
            reader[id(made[id(inputs[0])][0])] = module

    handles = [m.register_forward_hook(after) for m in view.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    handles += [m.register_forward_pre_hook(before) for m in view.modules() if isinstance(m, nn.BatchNorm2d)]
    modes = [(module, module.training) for module in view.modules()]
    try:
        view.eval()
        with torch.no_grad():
            view(example)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    for module, _ in made.values():
        yield module, reader.get(id(module))
