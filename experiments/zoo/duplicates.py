"""Test pictures that are nearly in the training set: found by nearest neighbours among the pixels.

CIFAR's splits share pictures up to small changes (Barz and Denzler, Do We Train on Test Data?, 2020). Theirs were found with a
network's features and checked by people; these are what pixels tell, so the list is shorter, and the same for whoever makes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from accordion.artifact.atomic import write_file
from accordion.data import Dataset
from accordion.errors import FormatError, StorageError
from experiments.data_files import parse

__all__ = ["SIDE", "THRESHOLD", "find", "nearest", "path_of", "read", "write"]

SIDE = 16
"""Pictures are compared at 16×16, so that a shift by a pixel or another compression does not hide a copy."""

THRESHOLD = 0.93
"""Of the correlation with a training picture or its mirror image. Of CIFAR-10's pairs that were looked at, most were copies at
0.95, about half at 0.93, few at 0.91; rather a picture too many is taken out than a copy left in."""

ROWS, COLUMNS = 500, 10_000  # how much of the similarities is held at once


def nearest(dataset: Dataset, progress: Callable[[str], None] = lambda line: None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """For each test picture: the highest correlation with any training picture or its mirror image, and that picture's row."""
    test, train = _features(dataset.test.x), _features(dataset.train.x)
    mirrored = _features(np.ascontiguousarray(dataset.train.x[..., ::-1])) if dataset.mirror else None
    best = np.full(len(test), -1.0, np.float32)
    rows = np.zeros(len(test), np.int64)
    for start in range(0, len(test), ROWS):
        part = test[start : start + ROWS]
        for others in (train, mirrored):
            for first in range(0, len(train) if others is not None else 0, COLUMNS):
                assert others is not None
                value, index = (part @ others[first : first + COLUMNS].T).max(1)
                better = value.numpy() > best[start : start + ROWS]
                best[start : start + ROWS][better] = value.numpy()[better]
                rows[start : start + ROWS][better] = (index.numpy() + first)[better]
        progress(f"{min(start + ROWS, len(test))} of {len(test)} test pictures compared with {len(train)}")
    return best, rows


def find(dataset: Dataset, progress: Callable[[str], None] = lambda line: None) -> list[int]:
    """Rows of the test split whose correlation reaches `THRESHOLD`."""
    best, _ = nearest(dataset, progress)
    return [int(row) for row in np.flatnonzero(best >= THRESHOLD)]


def path_of(folder: Path, dataset: str) -> Path:
    """Where the list for a data set is kept."""
    return folder / f"duplicates-{dataset}.json"


def write(folder: Path, dataset: str, rows: list[int]) -> Path:
    """Writes the list."""
    path = path_of(folder, dataset)
    head = f'{{"dataset": {json.dumps(dataset)}, "side": {SIDE}, "threshold": {THRESHOLD}, "test_rows":\n'
    body = "\n".join(
        json.dumps(rows[at : at + 25]).strip("[]") + ("," if at + 25 < len(rows) else "") for at in range(0, len(rows), 25)
    )
    write_file(path, f"{head}[{body}]}}\n".encode())
    return path


def read(folder: Path, dataset: str) -> list[int] | None:
    """The list, or None if there is none. FormatError if it is something else or was made by another rule."""
    path = path_of(folder, dataset)
    try:
        data = parse(path.read_bytes())
        rows = [int(row) for row in data["test_rows"]]
        if (data["dataset"], data["side"], data["threshold"]) != (dataset, SIDE, THRESHOLD):
            raise ValueError("it was made by another rule; find them again")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is no list of near-duplicates: {error}") from error
    return rows


def _features(x: NDArray[np.uint8]) -> Tensor:
    """Pictures [n, c, h, w] → [n, values], channels of mean 0 and rows of length 1: products of rows are correlations.

    By channel, or every two pictures of a blue sky would be alike.
    """
    small = torch.cat(
        [
            F.adaptive_avg_pool2d(torch.from_numpy(x[at : at + 5000]).float(), min(SIDE, x.shape[-1]))
            for at in range(0, len(x), 5000)
        ]
    )
    return F.normalize((small - small.mean((2, 3), keepdim=True)).flatten(1))
