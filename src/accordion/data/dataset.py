"""A data set as arrays: pictures, labels, classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accordion.errors import UsageError

__all__ = ["Dataset", "Pixels", "Split"]

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Split:
    """Pictures [n, channels, height, width] uint8 and labels [n] int64. UsageError for anything else.

    Networks get the pixels divided by 255, in 0..1; one that wants them normalised does that itself, on every device too.
    """

    x: Pixels
    y: NDArray[np.int64]

    def __post_init__(self) -> None:
        x, y = np.asarray(self.x), np.asarray(self.y)
        if x.dtype != np.uint8 or x.ndim != 4:
            raise UsageError(
                f"pictures are {x.dtype} {list(x.shape)}, not uint8 [n, channels, height, width]: leave them as pixels from 0 to "
                "255, and let the network normalise them"
            )
        if y.dtype != np.int64 or y.shape != x.shape[:1]:
            raise UsageError(f"labels are {y.dtype} {list(y.shape)}, not int64 [{len(x)}], one for each picture")

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
    """A data set with its published test split; `mean` and `std` by channel are those of the training pixels in 0..1.

    UsageError where labels, classes and channels do not agree.
    """

    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Split
    test: Split
    mirror: bool = True  # whether a mirrored picture still is of its class (not so for digits)

    def __post_init__(self) -> None:
        for which, split in (("train", self.train), ("test", self.test)):
            if len(split) and not 0 <= int(split.y.min()) <= int(split.y.max()) < len(self.classes):
                raise UsageError(
                    f"{self.name}: labels of {which} go from {int(split.y.min())} to {int(split.y.max())}, with "
                    f"{len(self.classes)} classes they have to be from 0 to {len(self.classes) - 1}"
                )
        channels = self.train.x.shape[1]
        if self.test.x.shape[1:] != self.train.x.shape[1:] or not len(self.mean) == len(self.std) == channels:
            raise UsageError(
                f"{self.name}: pictures are {list(self.train.x.shape[1:])} in train, {list(self.test.x.shape[1:])} in test, with "
                f"{len(self.mean)} means and {len(self.std)} deviations: they have to be alike, with one of each a channel"
            )

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
