"""What a configuration costs to keep and to compute."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from accordion.profiling.export import plain_attention
from accordion.profiling.threads import one_thread

__all__ = ["count_macs", "count_parameters"]


def count_parameters(module: nn.Module) -> int:
    """Trained numbers, each counted once however often the module uses it."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def count_macs(module: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of convolutions and matrix products for one input, `example` [1, …], as PyTorch's own counter sees them.

    Element-wise work (normalisation, additions, pooling) is left out, as in the literature.
    """
    training = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with one_thread(), plain_attention(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            module(example)
    finally:
        for part, mode in training:
            part.training = mode
    flops = counter.get_total_flops()
    return int(flops) // 2
