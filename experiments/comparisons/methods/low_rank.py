"""Low-rank decomposition: each 3 × 3 convolution becomes a 3 × 1 and a 1 × 3 one with fewer channels between them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accordion.elastic import CifarResNet
from experiments.comparisons.bases import plain
from experiments.comparisons.context import Context, Made, Method
from experiments.comparisons.fit import Moment, Task, fit, further
from experiments.comparisons.methods.common import forms_of, share_of

__all__ = ["METHOD", "decompose", "decomposed", "rank_for"]


def rank_for(conv: nn.Conv2d, share: float) -> int:
    """The channels between the two parts with which they have at most `share` of the weights of `conv`; at least one."""
    one = 3 * (conv.in_channels + conv.out_channels)
    return max(1, int(share * conv.weight.numel() / one))


def decomposed(conv: nn.Conv2d, rank: int) -> nn.Sequential:
    """The best approximation of `conv` (3 × 3, no bias) of this rank: in closed form, by one singular value decomposition."""
    out, inner = conv.out_channels, conv.in_channels
    weight = conv.weight.detach().cpu().double().numpy()  # [out, in, 3, 3]
    matrix = weight.transpose(1, 2, 0, 3).reshape(inner * 3, out * 3)  # in and row against out and column
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(s[:rank])
    rank = len(root)
    columns = (u[:, :rank] * root).T.reshape(rank, inner, 3, 1)
    rows = (v[:rank].T * root).reshape(out, 3, rank).transpose(0, 2, 1).reshape(out, rank, 1, 3)
    vertical = nn.Conv2d(inner, rank, (3, 1), padding=(1, 0), bias=False)
    horizontal = nn.Conv2d(rank, out, (1, 3), padding=(0, 1), bias=False)
    with torch.no_grad():
        vertical.weight.copy_(torch.from_numpy(columns))
        horizontal.weight.copy_(torch.from_numpy(rows))
    return nn.Sequential(vertical, horizontal)


def decompose(module: CifarResNet, share: float) -> dict[str, int]:
    """Replaces the convolutions of all blocks; returns the ranks by name."""
    ranks: dict[str, int] = {}
    for name, block in list(module.named_modules()):
        for part in ("conv1", "conv2"):
            conv = getattr(block, part, None)
            if name.startswith("stage") and isinstance(conv, nn.Conv2d):
                ranks[f"{name}.{part}"] = rank_for(conv, share)
                setattr(block, part, decomposed(conv, ranks[f"{name}.{part}"]))
    return ranks


def execute(context: Context) -> Made:
    base, share = plain(context), share_of(context.comparison.variant)
    module, steps = base.module, further(context.comparison.steps)
    ranks = decompose(module, share)

    def loss(x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        return F.cross_entropy(module(x).float(), y, label_smoothing=steps.label_smoothing)

    own = fit(Task(module, loss), steps, context)
    label = f"{context.comparison.variant} % of the weights of blocks"
    rows, chosen = forms_of(context, module, family="low rank", label=label)
    return Made(base.under(own), tuple(rows), {"ranks": sorted(set(ranks.values())), **chosen}, steps)


METHOD = Method(
    "low-rank",
    "low-rank convolutions, with further training",
    "Tai, Xiao, Zhang, Wang, E: Convolutional Neural Networks with Low-Rank Regularization, 2015 (ICLR 2016, arXiv "
    "1511.06067): the separable form of Jaderberg, Vedaldi, Zisserman: Speeding up Convolutional Neural Networks with Low Rank "
    "Expansions, 2014 (arXiv 1405.3866), in closed form",
    "the same share of the weights in every block instead of ranks by layer; no batch norm between the two parts",
    "",
    "nothing",
    execute,
    version=2,  # int4 too
)
