"""Early exits: heads along the network, and pictures that leave at the first head that is sure enough."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from accordion.elastic import CifarResNet
from accordion.errors import UsageError
from accordion.profiling import count_macs, count_parameters
from experiments.comparisons.bases import plain_run
from experiments.comparisons.context import Context, Made, Method
from experiments.comparisons.files import FLOAT32, Piece, count, encoded, folded, run_pieces, ship_pieces
from experiments.comparisons.fit import Moment, Task, fit
from experiments.comparisons.methods.common import ROUNDING, better_rounding, channels, example, folder_of, fresh, moments_of
from experiments.comparisons.outcome import Row

__all__ = ["METHOD", "Exits", "leave", "places"]

LEAVE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds are such that these shares of the validation pictures leave at the first exit: all are reported, none is chosen. Fixed
ones would be of no use: how sure a network can get depends on how much its recipe smooths the labels."""

NEEDS = "a loop that looks at each exit's answer"


class Branch(nn.Module):
    """An exit: a 3 × 3 convolution with norm, global average pooling, a linear layer."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.linear = nn.Linear(width, classes)

    def forward(self, x_bchw: Tensor) -> Tensor:
        logits: Tensor = self.linear(F.relu(self.norm(self.conv(x_bchw))).mean(dim=(2, 3)))
        return logits


class _Section(nn.Module):
    """The steps up to an exit and the exit: features go on, logits may be the answer."""

    def __init__(self, steps: Sequence[nn.Module], branch: nn.Module | None) -> None:
        super().__init__()
        self.steps = nn.Sequential(*steps)
        self.branch = branch

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        features: Tensor = self.steps(x)
        return features if self.branch is None else (features, self.branch(features))


def places(blocks: int, exits: int) -> list[int]:
    """After how many blocks each extra exit stands: evenly between the input and the end. UsageError if there is no room."""
    found = [round(number * blocks / (exits + 1)) for number in range(1, exits + 1)]
    if exits < 1 or len(set(found)) < exits or found[0] < 1 or found[-1] >= blocks:
        raise UsageError(f"{exits} exits do not fit between {blocks} blocks")
    return found


class Exits(nn.Module):
    """`network` with `count` extra exits; the last answer is its own."""

    def __init__(self, network: CifarResNet, count: int, classes: int) -> None:
        super().__init__()
        self.network = network
        stages = [network.stage1, network.stage2, network.stage3]
        blocks = [block for stage in stages for block in stage]
        self.after = places(len(blocks), count)
        stage_of = [number for number, stage in enumerate(stages) for _ in stage]
        _, width = channels(network)
        self.branches = nn.ModuleList(Branch(width << stage_of[place - 1], classes) for place in self.after)

    def sections(self) -> list[nn.Module]:
        """The network in pieces that run one after the other; all but the last give features and logits."""
        chain = self.network.chain()
        blocks = {id(block) for stage in (self.network.stage1, self.network.stage2, self.network.stage3) for block in stage}
        found: list[nn.Module] = []
        steps: list[nn.Module] = []
        passed = 0
        for step in chain:
            steps.append(step)
            passed += id(step) in blocks
            if id(step) in blocks and passed in self.after:
                found.append(_Section(steps, self.branches[len(found)]))
                steps = []
        return [*found, _Section(steps, None)]

    def forward(self, x_bchw: Tensor) -> list[Tensor]:
        """The logits of every exit, the network's own last."""
        logits = []
        for section in self.sections():
            made = section(x_bchw)
            x_bchw, answer = made if isinstance(made, tuple) else (made, made)
            logits.append(answer)
        return logits


@dataclass(frozen=True, slots=True)
class Left:
    """Which exit each picture left at [n], and the logits [n, classes] that it left with."""

    exits: NDArray[np.int64]
    logits: NDArray[Any]


def leave(logits: Sequence[NDArray[Any]], threshold: float) -> Left:
    """Each picture leaves at the first exit whose answer has an entropy of at most `threshold` of the largest possible, else at the
    last. `logits[e]` [n, classes] are those of exit e."""
    at = np.full(len(logits[0]), len(logits) - 1, np.int64)
    for number in reversed(range(len(logits) - 1)):
        at[_entropy(logits[number]) <= threshold] = number
    stacked = np.stack(logits)
    return Left(at, stacked[at, np.arange(len(at))])


def thresholds(logits: NDArray[Any]) -> list[float]:
    """For each share of `LEAVE`, the entropy that so many of these answers [n, classes] of the first exit are at or below."""
    return [float(value) for value in np.quantile(_entropy(logits), LEAVE)]


def _entropy(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Of the answers, as a share of the largest possible."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    found: NDArray[np.float64] = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1) / np.log(logits.shape[1])
    return found


def execute(context: Context) -> Made:
    exits = int(context.comparison.variant)
    module = fresh(plain_run(context.comparison).config(), context)
    assert isinstance(module, CifarResNet)
    network = Exits(module, exits, len(context.dataset.classes))
    smoothing = context.comparison.steps.label_smoothing

    def loss(x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        answers_of = network(x)
        total = torch.stack([F.cross_entropy(one.float(), y, label_smoothing=smoothing) for one in answers_of])
        return total.mean()

    own = fit(Task(network, loss), context.comparison.steps, context)
    extra = sum(count_parameters(branch) for branch in network.branches)
    rows = [row for codec in (FLOAT32, "int8") for row in _rows(context, network.eval(), exits, codec)]
    small = {rounding: list(_rows(context, network, exits, "int4", rounding)) for rounding in ("nearest", "compensated")}
    rounding = better_rounding(small)
    notes = {"extra parameters": extra, "exits after blocks": network.after, ROUNDING: rounding}
    return Made(own, (*rows, *small[rounding]), notes)


class _All(nn.Module):
    """The answers of all exits at once, as a tuple."""

    def __init__(self, network: Exits) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_bchw: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(x_bchw))


def _rows(context: Context, network: Exits, exits: int, codec: str, rounding: str = "nearest") -> Iterable[Row]:
    sections, x = network.sections(), example(context)
    pieces, macs, heads, parameters = [], [], [], []
    for number, section in enumerate(sections):
        section.eval()
        last = number == len(sections) - 1
        pieces.append(Piece(section, x, ("logits",) if last else ("features", "logits")))
        macs.append(count_macs(section, x[:1]))
        parameters.append(count_parameters(section))
        with torch.no_grad():
            x = x if last else section(x)[0]
        heads.append(0 if last else count_macs(network.branches[number], x[:1]))
    made, known = moments_of(context, pieces, _All(network)) if rounding == "compensated" else (folded(pieces), None)
    shipped = ship_pieces(encoded(made, codec, hessians=known), folder_of(context, f"sections-{codec}-{rounding}"))
    _, validation = context.splits
    test = context.dataset.test
    on = {"test": run_pieces(shipped[-1], test), "validation": run_pieces(shipped[-1], validation)}
    family = f"early exits, {exits} extra, {codec}"
    total = np.cumsum(macs)
    before = np.cumsum([0, *heads[:-1]])  # of exits that who leaves at a fixed one need not ask
    for number, one in enumerate(shipped):
        tested, held = (count(on[name][number], split) for name, split in (("test", test), ("validation", validation)))
        label = f"exit {number + 1} of {len(shipped)}"
        computed = float(total[number] - before[number])
        yield Row(family, label, one.files, int(sum(parameters[: number + 1])), computed, tested, held)
    for share, threshold in zip(LEAVE, thresholds(on["validation"][0]), strict=True):
        left = {name: leave(logits, threshold) for name, logits in on.items()}
        tested, held = (count(left[name].logits, split) for name, split in (("test", test), ("validation", validation)))
        mean = round(float(total[left["test"].exits].mean()), 1)
        yield Row(
            family,
            f"first exit for {share:.0%} of the validation pictures",
            shipped[-1].files,
            int(sum(parameters)),
            mean,
            tested,
            held,
            NEEDS,
        )


METHOD = Method(
    "exits",
    "early exits",
    "Teerapittayanon, McDanel, Kung: BranchyNet: Fast Inference via Early Exiting from Deep Neural Networks, 2016 (ICPR, arXiv "
    "1709.01686)",
    "all exits count the same in the loss; one threshold for all exits, taken from how sure the first exit is on the validation "
    "split; trained from the beginning, together; exits stand evenly between the blocks, each a convolution, pooling and one "
    "linear layer, where the authors' two have more; who leaves at a fixed exit computes no other, but their heads travel along",
    NEEDS,
    "all layers; the heads before the last exit only for answers in between",
    execute,
    version=3,  # in int4 the convolutions of the heads, too
)
