"""Batches drawn and augmented as whole tensors, so that the cores stay with the network.

What a batch holds depends on (seed, epoch, position) alone: a resumed run draws the same batches without any state to save.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from accordion.data.dataset import Split
from accordion.errors import UsageError

__all__ = ["augment", "batches_per_epoch", "resize", "training_batches"]

PADDING = 1 / 8  # of the side, added all round before the random crop: 4 pixels of 32, as in He et al.


def batches_per_epoch(rows: int, batch: int) -> int:
    """Full batches only: a short last one would have noisier batch-norm statistics. UsageError for a batch of nothing."""
    if batch < 1:
        raise UsageError(f"a batch holds one picture at least, not {batch}")
    return max(rows // batch, 1)


def training_batches(
    split: Split, *, batch: int, seed: int, epoch: int, start: int = 0, crop: bool = True, flip: bool = True
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches `start`, `start`+1, … of one epoch: pictures float32 [b, c, h, w] in 0..1 and labels int64 [b]."""
    order = np.random.default_rng([seed, epoch]).permutation(len(split))
    for index in range(start, batches_per_epoch(len(split), batch)):
        rows = order[index * batch : (index + 1) * batch]
        x = torch.from_numpy(split.x[rows])
        rng = np.random.default_rng([seed, epoch, index])
        x = augment(x, rng, crop=crop, flip=flip)
        yield x.float().div_(255), torch.from_numpy(split.y[rows])


def augment(x: Tensor, rng: np.random.Generator, *, crop: bool, flip: bool) -> Tensor:
    """Random crops after padding with black by an eighth of the side, and random mirroring; uint8 [b, c, h, w] in and out."""
    b, c, h, w = x.shape
    if not (crop or flip):
        return x
    pad = round(h * PADDING) if crop else 0
    top, left = (torch.from_numpy(rng.integers(0, 2 * pad + 1, b)) for _ in range(2))
    columns = left[:, None] + torch.arange(w)
    if flip:
        mirrored = torch.from_numpy(rng.random(b) < 0.5)
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    rows = top[:, None] + torch.arange(h)
    padded = F.pad(x, (pad, pad, pad, pad))
    return padded[
        torch.arange(b)[:, None, None, None],
        torch.arange(c)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def resize(x: Tensor, size: int) -> Tensor:
    """Pictures scaled to `size` × `size` (bilinear, antialiased); unchanged if they have it."""
    if x.shape[-1] == size:
        return x
    return F.interpolate(x, size=(size, size), mode="bilinear", antialias=True).clamp_(0, 1)
