"""A data set as arrays: pictures, labels, classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dataset", "Pixels", "Split"]

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Split:
    """Pictures [n, channels, height, width] uint8 and labels [n] int64."""

    x: Pixels
    y: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: NDArray[np.int64] | slice) -> Split:
        """The rows named, as a split of their own."""
        return Split(self.x[rows], self.y[rows])

    def halves(self) -> tuple[Split, Split]:
        """The rows of each class by turns, the same each time: what is adapted to one half was not fitted to the other."""
        first = np.zeros(len(self), dtype=bool)
        for label in np.unique(self.y):
            first[np.flatnonzero(self.y == label)[::2]] = True
        return self.take(np.flatnonzero(first)), self.take(np.flatnonzero(~first))


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set with its published test split; `mean` and `std` by channel are those of the training pixels in 0..1."""

    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Split
    test: Split
    mirror: bool = True  # whether a mirrored picture still is of its class (not so for digits)

    def hold_out(self, fraction: float = 0.1) -> tuple[Split, Split]:
        """The training split as (train, validation).

        The validation rows are the same for every seed and run: the last `fraction` of each class, in the published order, so that
        what was chosen on it in one run was never trained on in another.
        """
        held = np.zeros(len(self.train), dtype=bool)
        for label in np.unique(self.train.y):
            rows = np.flatnonzero(self.train.y == label)
            held[rows[len(rows) - round(len(rows) * fraction) :]] = True
        return self.train.take(np.flatnonzero(~held)), self.train.take(np.flatnonzero(held))
