"""A data set of one's own: one `.npz` file of square pictures and labels, named wherever a data set is."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accordion.damage import DAMAGE
from accordion.data.dataset import Dataset, Split
from accordion.errors import DigestError, FormatError, StorageError, UsageError

__all__ = ["is_own", "name_of", "pinned", "read_own", "same_pictures"]

_NAME = re.compile(r"(?P<path>.+\.npz)(?:@(?P<digest>[0-9a-f]{16}))?", re.DOTALL)
_NEEDED = ("train_x", "train_y", "test_x", "test_y")
TAKEN = ("cifar10", "cifar100", "digits")
LEAST_SIDE, STEP = 8, 4  # two poolings halve the side, and no stage may be left without a picture
MOST_CLASSES = 10_000
SOME = 1000  # pictures at a time


def is_own(text: str) -> bool:
    """Whether a data set's name is a file's: `FILE.npz`, perhaps with the digest that it must have, as `pinned` writes it."""
    return _NAME.fullmatch(text) is not None


def name_of(text: str) -> str:
    """What a data set is called: of a file its name without folder and ending, else the text itself."""
    found = _NAME.fullmatch(text)
    return text if found is None else Path(found["path"]).stem


def pinned(text: str) -> str:
    """The name with the file's whole path and the beginning of its digest, so that a run means these very pictures.

    What is no file's name stays as it is. UsageError where there is no such file.
    """
    found = _NAME.fullmatch(text)
    return text if found is None else "@".join(map(str, _found(found)))


def same_pictures(text: str) -> str:
    """What two names of data sets have in common if they mean the same pictures, wherever a file lies."""
    found = _NAME.fullmatch(text)
    return text if found is None else f"{Path(found['path']).name}@{found['digest'] or ''}"


def read_own(text: str) -> Dataset:
    """Reads `FILE.npz` or what `pinned` made of it.

    The file holds `train_x` and `test_x`, pictures [n, side, side] or [n, side, side, channels] uint8, with a side that four
    divides and one to four channels; `train_y` and `test_y`, labels [n], whole numbers from 0 up; and, if one likes, `classes`,
    their names, and `mirror`, whether a mirrored picture still is of its class (true if left out). Mean and deviation are those of
    the training pixels.

    A file that has been moved is looked for in the folder that `ACCORDION_DATA` names, too.

    Raises:
        UsageError: there is no such file.
        DigestError: it is another than the one that was pinned.
        FormatError: it holds something else.
        StorageError: it can't be read.
    """
    found = _NAME.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} names no .npz file")
    path, _ = _found(found)
    arrays = _read(path)
    splits = {split: _split(path, split, arrays) for split in ("train", "test")}
    if splits["train"].x.shape[1:] != splits["test"].x.shape[1:]:
        raise FormatError(f"{path}: test_x has pictures of another size than train_x")
    train = splits["train"]
    classes = _classes(path, arrays, 1 + max(int(split.y.max()) for split in splits.values()))
    mean, std = _moments(train.x)
    return Dataset(path.stem, classes, mean, std, train, splits["test"], mirror=_mirror(path, arrays))


def _found(name: re.Match[str]) -> tuple[Path, str]:
    """Where the file is, and the beginning of its digest. What `pinned` and `read_own` raise."""
    path = Path(name["path"]).resolve()
    if not path.is_file() and (folder := os.environ.get("ACCORDION_DATA")):
        path = Path(folder).resolve() / path.name
    if path.stem in TAKEN:
        raise UsageError(f"{path} can't be told from the data set {path.stem}: give it another name")
    digest = _digest(path)
    if name["digest"] not in (None, digest):
        raise DigestError(f"{path} is not what was trained on: its digest begins with {digest}, not {name['digest']}")
    return path, digest


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {path} with pictures") from error
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror or error}") from error


def _read(path: Path) -> dict[str, NDArray[Any]]:
    wrong = f"{path} is not a .npz file of plain arrays"
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            found = {}
            for name in (*_NEEDED, "classes", "mirror"):
                wrong = f"{path}: {name!r} is damaged, or not one of the plain arrays (nothing is unpickled)"
                if name in archive.files:
                    found[name] = archive[name]
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {path} with pictures") from error
    except DAMAGE as error:
        raise FormatError(wrong) from error
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror or error}") from error
    if other := [name for name, value in found.items() if not isinstance(value, np.ndarray)]:
        raise FormatError(f"{path}: {other[0]!r} is no array")
    if missing := [name for name in _NEEDED if name not in found]:
        raise FormatError(f"{path} has no array {missing[0]!r}: it needs {', '.join(_NEEDED)}")
    return found


def _split(path: Path, split: str, arrays: dict[str, NDArray[Any]]) -> Split:
    x, y = arrays[f"{split}_x"], arrays[f"{split}_y"]
    shape = list(x.shape)
    x = x[..., None] if x.ndim == 3 else x
    side = x.shape[1] if x.ndim == 4 else 0
    square = x.ndim == 4 and x.shape[2] == side and side >= LEAST_SIDE and side % STEP == 0 and 1 <= x.shape[3] <= 4
    if x.dtype != np.uint8 or not square or not len(x):
        raise FormatError(
            f"{path}: {split}_x is {x.dtype} {shape}, not uint8 [n, side, side] or [n, side, side, channels] with a side from "
            f"{LEAST_SIDE} up that {STEP} divides"
        )
    if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
        raise FormatError(f"{path}: {split}_y is {y.dtype} {list(y.shape)}, not one whole number for each of {len(x)} pictures")
    least, most = int(y.min()), int(y.max())
    if least < 0 or most >= MOST_CLASSES:
        found = least if least < 0 else most
        raise FormatError(f"{path}: {split}_y has the label {found}; labels are from 0 up, below {MOST_CLASSES}")
    return Split(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y.astype(np.int64))


def _classes(path: Path, arrays: dict[str, NDArray[Any]], count: int) -> tuple[str, ...]:
    if "classes" not in arrays:
        return tuple(str(label) for label in range(max(count, 2)))
    names = arrays["classes"]
    if names.ndim != 1 or names.dtype.kind != "U" or len(names) < count or not 2 <= len(names) <= MOST_CLASSES:
        raise FormatError(f"{path}: classes is {names.dtype} {list(names.shape)}, not {max(count, 2)} texts or more")
    return tuple(str(name) for name in names)


def _mirror(path: Path, arrays: dict[str, NDArray[Any]]) -> bool:
    if "mirror" not in arrays:
        return True
    found = arrays["mirror"]
    if found.size != 1 or found.dtype.kind not in "biu":
        raise FormatError(f"{path}: mirror is {found.dtype} {list(found.shape)}, not one that is true or false")
    return bool(found.item())


def _moments(x: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """By channel, over 0..1, from counts of the 256 levels, which takes little memory beside the pictures."""
    levels = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(x.shape[1]):
        counts = np.zeros(256, np.int64)
        for start in range(0, len(x), SOME):
            counts += np.bincount(x[start : start + SOME, channel].ravel(), minlength=256)
        share = counts / counts.sum()
        mean = float(share @ levels)
        means.append(round(mean, 4))
        deviations.append(round(max(float(share @ (levels - mean) ** 2) ** 0.5, 1 / 255), 4))
    return tuple(means), tuple(deviations)
