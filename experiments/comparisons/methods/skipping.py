"""A learned skipping policy: a small network looks at the picture first and says which blocks will run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from accordion.data import Split
from accordion.elastic import CifarResNet
from accordion.profiling import count_macs, count_parameters
from experiments.comparisons.bases import plain
from experiments.comparisons.context import Context, Made, Method
from experiments.comparisons.files import FLOAT32, Piece, Session, Shipped, batches, count, encoded, folded, ship_pieces
from experiments.comparisons.fit import Moment, Task, at_full_size, fit
from experiments.comparisons.methods.common import ROUNDING, better_rounding, channels, example, folder_of, moments_of
from experiments.comparisons.outcome import Row

__all__ = ["METHOD", "Skipping", "gated", "reward"]

BOUND = 0.8
"""How far probabilities of sampling may go towards 0 and 1, so that everything is tried."""

ALONE = 0.5
"""The share of the training in which only the policy learns, over more and more blocks from the end."""

RATES = (("policy", 1e-3), ("network", 1e-4))
NEEDS = "a loop that runs chosen blocks"


def gated(network: CifarResNet, x: Tensor, gates: Tensor) -> Tensor:
    """Logits where picture i passes through block k if `gates[i, k]` is 1 and around it if it is 0. Computes every block."""
    blocks = {id(block): number for number, block in enumerate(_blocks(network))}
    for step in network.chain():
        made: Tensor = step(x)
        if id(step) in blocks:
            gate = gates[:, blocks[id(step)]].view(-1, 1, 1, 1).to(made.dtype)
            made = gate * made + (1 - gate) * x
        x = made
    return x


def reward(right: Tensor, gates: Tensor, penalty: float) -> Tensor:
    """[b]: for a right answer the more, the fewer blocks ran (one minus the square of their share); for a wrong one −`penalty`."""
    used = gates.float().mean(dim=1)
    return torch.where(right, 1 - used**2, torch.full_like(used, -penalty))


class Skipping(nn.Module):
    """A trained network and a policy over its blocks."""

    def __init__(self, network: CifarResNet, penalty: float) -> None:
        super().__init__()
        self.network, self.penalty = network, penalty
        colours, whole = channels(network)
        width = max(1, whole // 2)
        self.count = len(_blocks(network))
        self.policy = CifarResNet(8, self.count, widths=(width, 2 * width, 4 * width), in_channels=colours)
        self.policy.normalise.load_state_dict(network.normalise.state_dict())

    def loss(self, x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        """The policy's gradient against what it would do without chance, and later the network's own loss with it."""
        self.network.eval()  # its norms are those of the whole network and stay so
        p = torch.sigmoid(self.policy(x).float())
        bounded = BOUND * p + (1 - BOUND) * (1 - p)
        draws = torch.from_numpy(moment.rng.random(tuple(p.shape))).to(p)
        sampled, greedy = (draws < bounded).float(), (p > 0.5).float()
        learning = min(self.count, 1 + int(moment.done / ALONE * self.count))  # so many blocks from the end
        open_to = torch.zeros_like(p)
        open_to[:, self.count - learning :] = 1
        sampled, greedy = (gates * open_to + (1 - open_to) for gates in (sampled, greedy))
        joint = moment.done >= ALONE
        with torch.set_grad_enabled(joint):
            logits = gated(self.network, x, sampled)
        with torch.no_grad():
            plain_logits = gated(self.network, x, greedy)
            advantage = reward(logits.argmax(1) == y, sampled, self.penalty) - reward(
                plain_logits.argmax(1) == y, greedy, self.penalty
            )
        chosen = sampled * torch.log(bounded) + (1 - sampled) * torch.log(1 - bounded)
        value = -(advantage[:, None] * chosen * open_to).sum(1).mean()
        return value + F.cross_entropy(logits.float(), y) if joint else value


def _blocks(network: CifarResNet) -> list[nn.Module]:
    return [block for stage in (network.stage1, network.stage2, network.stage3) for block in stage]


def execute(context: Context) -> Made:
    base = plain(context)
    torch.manual_seed(context.comparison.seed)
    network = Skipping(base.module, float(context.comparison.variant))
    steps = at_full_size(context.comparison.steps)  # whether a trained network is right is asked about such pictures as it knows
    own = fit(Task(network, network.loss, adam=RATES), steps, context)
    made = [_row(context, network.eval(), codec) for codec in (FLOAT32, "int8")]
    small = {rounding: [_row(context, network, "int4", rounding)[0]] for rounding in ("nearest", "compensated")}
    rounding = better_rounding(small)
    used = made[0][1]
    extra = count_parameters(network.policy)
    notes = {"extra parameters": extra, "share of pictures for which each block runs": used, ROUNDING: rounding}
    return Made(base.under(own), (*(row for row, _ in made), *small[rounding]), notes, steps)


class _All(nn.Module):
    """What the policy says and what the network answers if every block runs, as a tuple."""

    def __init__(self, network: Skipping) -> None:
        super().__init__()
        self.policy, self.network = network.policy, network.network

    def forward(self, x_bchw: Tensor) -> tuple[Tensor, ...]:
        return self.policy(x_bchw), self.network(x_bchw)


def _row(context: Context, network: Skipping, codec: str, rounding: str = "nearest") -> tuple[Row, list[float]]:
    x = example(context)
    steps = [network.policy, *network.network.chain()]
    pieces, macs = [], []
    for step in steps:
        pieces.append(Piece(step, x))
        macs.append(count_macs(step, x[:1]))
        if step is not network.policy:
            with torch.no_grad():
                x = step(x)
    prepared, known = moments_of(context, pieces, _All(network)) if rounding == "compensated" else (folded(pieces), None)
    folder = folder_of(context, f"pieces-{codec}-{rounding}")
    (shipped, *_) = ship_pieces(encoded(prepared, codec, hessians=known), folder, together=True)
    blocks = {id(block) for block in _blocks(network.network)}
    skippable = [id(step) in blocks for step in steps]
    _, validation = context.splits
    test = context.dataset.test
    (logits, gates), (held, _) = (_run(shipped, skippable, split) for split in (test, validation))
    always = sum(one for one, skips in zip(macs, skippable, strict=True) if not skips)
    costs = np.array([one for one, skips in zip(macs, skippable, strict=True) if skips], np.float64)
    row = Row(
        family="learned skipping",
        label=f"wrong answers cost {network.penalty:g}, {codec}",
        files=shipped.files,
        parameters=count_parameters(network),
        macs=round(float(always + (gates @ costs).mean()), 1),
        test=count(logits, test),
        validation=count(held, validation),
        needs=NEEDS,
    )
    return row, [round(float(share), 4) for share in gates.mean(axis=0)]


def _run(shipped: Shipped, skippable: Sequence[bool], split: Split) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Logits [n, classes] and gates [n, blocks], running each block for those pictures alone that its gate is open for."""
    policy, *steps = (Session(graph) for graph in shipped.graphs)
    found, gates = [], []
    for x in batches(split):
        on = policy(x)[0] > 0
        number = 0
        for step, skips in zip(steps, skippable[1:], strict=True):
            if not skips:
                x = step(x)[0]
                continue
            rows = np.flatnonzero(on[:, number])
            number += 1
            if len(rows):
                x = x.copy()
                x[rows] = step(x[rows])[0]
        found.append(x)
        gates.append(on)
    return np.concatenate(found), np.concatenate(gates)


METHOD = Method(
    "skipping",
    "learned skipping of blocks",
    "Wu, Nagarajan, Kumar, Rennie, Davis, Grauman, Feris: BlockDrop: Dynamic Inference Paths in Residual Networks, 2017 (CVPR "
    "2018, arXiv 1711.08393)",
    "on pictures of full size, as many epochs as cost what the plain network's do, where the paper takes thousands; the policy "
    "network has half of the channels and one rate throughout, where the authors' code divides it by ten for the joint part; wrong "
    "answers cost the same throughout, where it raises that; batch-norm statistics stay those of the whole network; no bonus for "
    "entropy",
    NEEDS,
    "nothing more can be had",
    execute,
    version=2,  # int4 compensated, where that is better
)
