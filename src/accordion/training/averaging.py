"""Weight averaging: an exponential moving average over the steps of a training, evaluated and kept in place of the last weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """The average of `module`'s parameters and floating-point buffers; batch-norm statistics are averaged like weights.

    After step t (0 is the first) the average moves towards the weights by 1 - min(decay, (1 + t) / (10 + t)): at the beginning it
    forgets fast, so that it does not carry the untrained weights along.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(module)
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Takes in the weights after global step `step`."""
        towards = 1 - min(self.decay, (1 + step) / (10 + step))
        averaged: list[Tensor] = []
        current: list[Tensor] = []
        own = self.module.state_dict()
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                averaged.append(own[name])
                current.append(tensor)
            else:
                own[name].copy_(tensor)
        torch._foreach_lerp_(averaged, current, towards)
