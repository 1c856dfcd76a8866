"""The CIFAR ResNets of the paper: depth 6n+2, three stages of n equal blocks, no parameters between the stages.

After He et al., Deep Residual Learning for Image Recognition (2015), section 4.2, with the stages joined by average pooling and
zero-padded channels (Ayed et al., Accordion), so that every block of a stage has the same shape and any can be skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accordion.elastic.order import Family, Stages
from accordion.errors import UsageError

__all__ = ["CifarResNet", "closed_form_macs"]


class Normalise(nn.Module):
    """Pictures in 0..1 to zero mean and unit variance by channel, so that the network takes plain RGB."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("scale", 1.0 / torch.tensor(std).view(1, -1, 1, 1))
        self.register_buffer("shift", -(torch.tensor(mean) / torch.tensor(std)).view(1, -1, 1, 1))

    def forward(self, x_bchw: Tensor) -> Tensor:
        return x_bchw * self.scale + self.shift


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around an identity shortcut: [b, width, h, w] → the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x_bchw: Tensor) -> Tensor:
        inner = F.relu(self.norm1(self.conv1(x_bchw)), inplace=True)
        return F.relu(self.norm2(self.conv2(inner)) + x_bchw, inplace=True)


class Join(nn.Module):
    """Between two stages: halves the picture by average pooling, fills up the channels with zeros. No parameters."""

    def __init__(self, added_channels: int) -> None:
        super().__init__()
        self.added_channels = added_channels

    def forward(self, x_bchw: Tensor) -> Tensor:
        return F.pad(F.avg_pool2d(x_bchw, 2), (0, 0, 0, 0, 0, self.added_channels))


class Head(nn.Module):
    """Global average pooling and one linear layer: [b, width, h, w] → logits [b, classes]."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, classes)

    def forward(self, x_bchw: Tensor) -> Tensor:
        logits: Tensor = self.linear(x_bchw.mean(dim=(2, 3)))
        return logits


class _AfterNoBlock(nn.Module):
    """Joins with no block behind them, and the head: averages of averages are one average, and it is made before the padding.

    In a step over all configurations of the right-to-left order, every one of the first stage's ends here.
    """

    def __init__(self, head: Head, missing_channels: int) -> None:
        super().__init__()
        self.head, self.missing_channels = head, missing_channels

    def forward(self, x_bchw: Tensor) -> Tensor:
        logits: Tensor = self.head.linear(F.pad(x_bchw.mean(dim=(2, 3)), (0, self.missing_channels)))
        return logits


class CifarResNet(nn.Module):
    """Pictures [b, in_channels, h, w] in 0..1 → logits [b, classes]; h and w divisible by 4.

    `depth` is 6n+2 (20, 32, 44, 56, 110, …); UsageError otherwise. `blocks_by_stage` builds a network of another shape instead,
    such as one with the blocks of a configuration, to train it alone. With `zero_init_last_norm` blocks begin as the identity, but
    for the channels that are new in a stage, which its first block fills. With `stage_heads`, configurations that end in the first
    or the second stage have a linear layer of their own (see `swaps`); all others, and the complete network, are the paper's.
    `give_heads` gives one to every configuration.
    """

    def __init__(
        self,
        depth: int,
        classes: int,
        *,
        widths: tuple[int, int, int] = (16, 32, 64),
        in_channels: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        zero_init_last_norm: bool = False,
        stage_heads: bool = False,
        blocks_by_stage: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        if blocks_by_stage is None:
            if depth < 8 or (depth - 2) % 6:
                raise UsageError(f"a CIFAR ResNet has depth 6n+2 (8, 14, 20, …, 56, 110); {depth} is not")
            blocks_by_stage = ((depth - 2) // 6,) * 3
        elif min(blocks_by_stage) < 0 or not any(blocks_by_stage):
            raise UsageError(f"a CIFAR ResNet needs at least one block: {blocks_by_stage} has none")
        self.depth = 2 * sum(blocks_by_stage) + 2
        mean, std = [0.0] * in_channels if mean is None else mean, [1.0] * in_channels if std is None else std
        if not len(mean) == len(std) == in_channels:
            raise UsageError(f"{in_channels} channels have as many means and deviations, not {len(mean)} and {len(std)}")
        self.normalise = Normalise(mean, std)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        self.stage1 = nn.Sequential(*(BasicBlock(widths[0]) for _ in range(blocks_by_stage[0])))
        self.join1 = Join(widths[1] - widths[0])
        self.stage2 = nn.Sequential(*(BasicBlock(widths[1]) for _ in range(blocks_by_stage[1])))
        self.join2 = Join(widths[2] - widths[1])
        self.stage3 = nn.Sequential(*(BasicBlock(widths[2]) for _ in range(blocks_by_stage[2])))
        self.head = Head(widths[2], classes)
        self.stage_heads = stage_heads
        self.heads: nn.ModuleList | None = None
        if stage_heads:
            self.head1, self.head2 = Head(widths[2], classes), Head(widths[2], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_init_last_norm and isinstance(module, BasicBlock):
                nn.init.zeros_(module.norm2.weight)
        if zero_init_last_norm:
            # Channels that a join has filled with zeros would stay zero for good behind a block that adds zero: the ReLU of exactly
            # zero passes no gradient back. The first block of a stage gives them values from the beginning.
            for stage in (self.stage2, self.stage3):
                for block in list(stage)[:1]:
                    assert isinstance(block, BasicBlock)
                    nn.init.ones_(block.norm2.weight[widths[0] :])

    @property
    def stages(self) -> Stages:
        """The names of the skippable blocks, by stage."""
        return tuple(
            tuple(f"{stage}.{name}" for name, _ in getattr(self, stage).named_children())
            for stage in ("stage1", "stage2", "stage3")
        )

    def swaps(self, order: Family) -> dict[int, dict[str, str]]:
        """For `ElasticNetwork`: which head each configuration of `order` ends in. UsageError for an order of another length than
        heads were given for."""
        if self.heads is not None:
            if len(order) != len(self.heads) + 1:
                raise UsageError(f"this network has heads for {len(self.heads) + 1} configurations, the order {len(order)}")
            return {k: {"head": f"heads.{k}"} for k in range(len(self.heads))}
        if not self.stage_heads:
            return {}
        found = {}
        for k in range(len(order)):
            last = max((stage for stage, count in enumerate(order.by_stage(k)) if count), default=0)
            found[k] = {"head": f"head{last + 1}"} if last < 2 else {}
        return found

    @property
    def alternates(self) -> tuple[str, ...]:
        """Modules that only stand in for others."""
        return (*(("head1", "head2") if self.stage_heads else ()), *(("heads",) if self.heads is not None else ()))

    def give_heads(self, configurations: int) -> None:
        """A head of its own for each of so many configurations but the last, which keeps the network's. UsageError for a network
        whose stages have heads."""
        if self.stage_heads:
            raise UsageError("this network has a head for each stage: it can't have one for each configuration as well")
        linear = self.head.linear
        self.heads = nn.ModuleList(Head(linear.in_features, linear.out_features) for _ in range(configurations - 1))

    def adopt(self, state: Mapping[str, Tensor]) -> None:
        """Takes over the weights of a network that may have one head only. UsageError if they are of another network."""
        own = self.state_dict()
        # The last two words of a head's name are `linear.weight` or `linear.bias`, whichever head it is.
        full = {name: state.get(name, state.get("head." + ".".join(name.split(".")[-2:]))) for name in own}
        if any(value is None or value.shape != own[name].shape for name, value in full.items()):
            raise UsageError("the weights to begin with are of another network")
        self.load_state_dict(full)

    def chain(self) -> list[nn.Module]:
        """The forward pass as a list of steps (see `accordion.elastic.network.Chain`)."""
        steps: list[nn.Module] = [self.normalise, self.stem, *self.stage1]
        if len(self.stage2) or len(self.stage3):
            steps += [self.join1, *self.stage2]
        if len(self.stage3):
            return [*steps, self.join2, *self.stage3, self.head]
        missing = self.join2.added_channels + (0 if len(self.stage2) else self.join1.added_channels)
        return [*steps, _AfterNoBlock(self.head, missing)]

    def forward(self, x_bchw: Tensor) -> Tensor:
        for step in self.chain():
            x_bchw = step(x_bchw)
        return x_bchw


def closed_form_macs(
    by_stage: Sequence[int],
    classes: int,
    *,
    size: int = 32,
    in_channels: int = 3,
    widths: tuple[int, int, int] = (16, 32, 64),
) -> int:
    """Multiply-accumulates of the convolutions and the linear layer for one picture of `size` × `size`."""
    macs = 9 * in_channels * widths[0] * size**2 + widths[2] * classes
    for stage, (count, width) in enumerate(zip(by_stage, widths, strict=True)):
        macs += count * 2 * 9 * width**2 * (size >> stage) ** 2
    return macs
