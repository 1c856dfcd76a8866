"""Magnitude pruning with further training: the smallest weights of all blocks become zero, and the others go on learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from accordion.elastic import CifarResNet
from accordion.packaging.codecs import Builder, Encoded, Part, Precision
from accordion.packaging.codecs.interface import Weights
from accordion.packaging.codecs.sparse import scattered
from accordion.profiling import count_macs, count_parameters
from experiments.comparisons.bases import plain
from experiments.comparisons.context import Context, Made, Method
from experiments.comparisons.files import FLOAT32, Piece, encoded, folded, ship_one
from experiments.comparisons.fit import Moment, Task, fit, further
from experiments.comparisons.methods.common import ROUNDING, example, folder_of, int4_of, measured, share_of
from experiments.comparisons.outcome import Row

__all__ = ["METHOD", "SparseFloat", "convolutions", "cut"]

FAMILY = "pruned"
NEEDS = "sparse kernels, to be faster too"
RAMP, EVERY = 2 / 3, 20
"""The share of the training over which pruning grows, and the steps between two looks at what is smallest."""


@dataclass(frozen=True, slots=True)
class SparseFloat:
    """float32 weights without those that are zero, and a bit for each place that says whether something is there."""

    name: str = "sparse float32"
    joins: bool = True

    def encode(self, weight: Weights, hessian: NDArray[np.float64] | None = None) -> Encoded:
        """Nothing is lost."""
        rows = weight.reshape(weight.shape[0], -1)
        wide = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8)))
        present = wide != 0
        bits = np.packbits(present, axis=1, bitorder="little")
        return Encoded({"codes": Part(wide[present].astype(np.float32)), "present": Part(bits, "values")}, weight)

    def rebuild(self, build: Builder, parts: Mapping[str, str], shape: tuple[int, ...]) -> str:
        """Weights at the places where a bit says so."""
        values = build.op("Concat", build.tensor(np.zeros(1, np.float32)), parts["codes"], axis=0)
        return scattered(build, parts["present"], values, shape)


def convolutions(module: CifarResNet) -> list[nn.Conv2d]:
    """Those of the blocks: the first and the last layer are few weights and decide much."""
    return [
        part for stage in (module.stage1, module.stage2, module.stage3) for part in stage.modules() if isinstance(part, nn.Conv2d)
    ]


def cut(parts: Sequence[nn.Conv2d], share: float) -> None:
    """Prunes until `share` of all weights of `parts` together is gone, the smallest first; what is gone stays gone. The parts have
    masks (`prune.identity`) beforehand."""
    masks = [part.get_buffer("weight_mask") for part in parts]
    total = sum(mask.numel() for mask in masks)
    more = round(share * total) - sum(int((mask == 0).sum()) for mask in masks)
    if more <= 0:
        return
    named = [(part, "weight") for part in parts]
    sizes = {pair: (pair[0].get_parameter("weight_orig") * mask).detach() for pair, mask in zip(named, masks, strict=True)}
    prune.global_unstructured(named, pruning_method=prune.L1Unstructured, importance_scores=sizes, amount=more)


def execute(context: Context) -> Made:
    base, share = plain(context), share_of(context.comparison.variant)
    module, steps = base.module, further(context.comparison.steps)
    parts = convolutions(module)
    for part in parts:
        prune.identity(part, "weight")  # type: ignore[no-untyped-call]

    def loss(x: torch.Tensor, y: torch.Tensor, moment: Moment) -> torch.Tensor:
        return F.cross_entropy(module(x).float(), y, label_smoothing=steps.label_smoothing)

    def after(moment: Moment) -> None:
        if moment.step % EVERY == 0:
            cut(parts, share * (1 - (1 - min(1.0, moment.done / RAMP)) ** 3))

    own = fit(Task(module, loss, after, channels_last=False), steps, context)
    cut(parts, share)
    for part in parts:
        prune.remove(part, "weight")  # type: ignore[no-untyped-call]
    rows: list[Row] = []
    made = folded([Piece(module, example(context))])
    left = count_parameters(module) - sum(int((part.weight == 0).sum()) for part in parts)
    name = f"{context.comparison.variant} % pruned"
    facts: dict[str, Any] = {"parameters": left, "macs": count_macs(module, example(context)[:1]), "needs": NEEDS}
    for codec, blocks in ((FLOAT32, Precision("sparse float32", (SparseFloat(),))), ("sparse8", None)):
        label = f"{name}, {'float32' if blocks else 'int8'}"
        shipped = ship_one(encoded(made, codec, blocks=blocks), folder_of(context, label))
        rows.append(measured(context, shipped, family=FAMILY, label=label, **facts))
    rounding, small = int4_of(context, made, family=FAMILY, label=name, codec="sparse4", **facts)
    return Made(base.under(own), (*rows, small), {ROUNDING: rounding}, steps)


METHOD = Method(
    "pruned",
    "pruned by magnitude, with further training",
    "Han, Pool, Tran, Dally: Learning both Weights and Connections for Efficient Neural Networks, 2015 (arXiv "
    "1506.02626); the gradual schedule: Zhu, Gupta: To prune, or not to prune, 2017 (arXiv 1710.01878)",
    "the smallest weights of all blocks together; multiply-accumulates are those of dense kernels, as ONNX Runtime has no others",
    NEEDS,
    "nothing",
    execute,
    version=3,  # int4 compensated, where that is better
)
