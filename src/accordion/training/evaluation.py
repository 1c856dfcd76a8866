"""The error of many configurations on one split, in one pass."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from accordion.data import Split
from accordion.elastic import ElasticNetwork

__all__ = ["correct"]


@torch.no_grad()
def correct(
    network: ElasticNetwork, split: Split, ks: Iterable[int], *, batch: int = 250, device: torch.device | str = "cpu"
) -> dict[int, torch.Tensor]:
    """For each configuration in `ks`: which pictures it classifies right, bool [n], in the split's order."""
    ks = sorted(set(ks))
    was_training = network.training
    network.eval()
    hits: dict[int, list[torch.Tensor]] = {k: [] for k in ks}
    for start in range(0, len(split), batch):
        x = torch.from_numpy(split.x[start : start + batch]).to(device).float().div_(255)
        y = torch.from_numpy(split.y[start : start + batch]).to(device)
        for k, logits in network.outputs(x.contiguous(memory_format=torch.channels_last), ks).items():
            hits[k].append((logits.argmax(1) == y).cpu())
    network.train(was_training)
    return {k: torch.cat(parts) if parts else torch.zeros(0, dtype=torch.bool) for k, parts in hits.items()}
