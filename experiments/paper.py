"""What the paper reports, as far as it gives numbers (Ayed et al., Accordion). Nothing here is read off its pictures."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BITS_A_PARAMETER",
    "DELIVERED_SHARE",
    "MACS_SAVED",
    "NETWORKS",
    "POINTS",
    "RISE",
    "SIZE_ORDER",
    "Point",
    "points_of",
]

BITS_A_PARAMETER = 64
"""Its sizes, 111 and 55 Mbit, are 64 bits for each parameter."""

NETWORKS = {"cifar10": "resnet56", "cifar100": "resnet110"}
"""Which network it evaluates on which data set."""

DELIVERED_SHARE = 0.27
"""30 of 111 Mbit: what 100 Mbit/s brings in 0.3 s."""


@dataclass(frozen=True, slots=True)
class Point:
    """An error (share of the test pictures) with a share of the bytes of the complete model."""

    dataset: str
    scheme: str
    share: float
    error: float
    compression: bool = False  # not a configuration but a compressed complete network


POINTS = (
    # bytes saved at 50 % error
    Point("cifar100", "ResNet", 0.75, 0.50),
    Point("cifar100", "BlockCoML-05", 0.34, 0.50),
    Point("cifar100", "BlockCoML-03", 0.25, 0.50),
    Point("cifar100", "CoML-05", 0.11, 0.50),
    Point("cifar100", "CoML-03", 0.10, 0.50),
    # error with what arrives in 0.3 s
    Point("cifar100", "ResNet", DELIVERED_SHARE, 0.96),
    Point("cifar100", "BlockCoML-05", DELIVERED_SHARE, 0.69),
    Point("cifar100", "BlockCoML-03", DELIVERED_SHARE, 0.46),
    Point("cifar100", "CoML-05", DELIVERED_SHARE, 0.43),
    Point("cifar100", "CoML-03", DELIVERED_SHARE, 0.38),
    # half of the plain network
    Point("cifar100", "ResNet", 0.50, 0.88),
    Point("cifar10", "ResNet", 0.50, 0.63),
    # 75 % smaller
    Point("cifar10", "CoML", 0.25, 0.12),
    Point("cifar10", "8 bits", 0.25, 0.08, compression=True),
    Point("cifar10", "pruned", 0.25, 0.10, compression=True),
)

MACS_SAVED = {"ResNet": 0.115, "BlockCoML-05": 0.692, "BlockCoML-03": 0.731, "CoML-05": 0.577, "CoML-03": 0.615}
"""CIFAR-100, at 50 % error."""

RISE = {"BlockCoML-05": 0.03, "CoML-03": 0.09}
"""Of the complete model's error against the plain network's; points or relative is not said."""

SIZE_ORDER = ("CoML-03", "CoML-05", "BlockCoML-03", "BlockCoML-05")
"""Smallest first, at equal error."""


def points_of(dataset: str, scheme: str) -> list[Point]:
    """The configurations that it gives for a scheme."""
    return [point for point in POINTS if point.dataset == dataset and point.scheme == scheme]
