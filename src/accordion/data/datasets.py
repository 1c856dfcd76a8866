"""CIFAR-10, CIFAR-100 and scikit-learn's digits as arrays, checked against the published pixels."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accordion.data.dataset import Dataset, Pixels, Split
from accordion.data.own import is_own, read_own
from accordion.errors import DigestError, FormatError, TransferError, UsageError

__all__ = ["available", "load"]

SHEET_ROWS, SHEET_COLUMNS, SIDE = 40, 25, 32

# What reading a damaged archive can raise.
DAMAGE = (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, tarfile.TarError, zlib.error)


@dataclass(frozen=True, slots=True)
class _Cifar:
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixels: dict[str, str]  # split → SHA-256 of the pixels as uint8 [n, h, w, c]
    url: str
    md5: str
    members: dict[str, tuple[str, ...]]
    label_bytes: int
    names: str


_CIFAR = {
    "cifar10": _Cifar(
        10,
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
        {
            "train": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
            "test": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        },
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c32a1d4ab5d03f1284b67883e8d87530",
        {"train": tuple(f"data_batch_{n}.bin" for n in range(1, 6)), "test": ("test_batch.bin",)},
        1,
        "batches.meta.txt",
    ),
    "cifar100": _Cifar(
        100,
        (0.5071, 0.4866, 0.4409),
        (0.2673, 0.2564, 0.2762),
        {
            "train": "4e457917601a66aed021f5fa37957b56c6319557c0a8ed5484de3c390af45430",
            "test": "4cb8e5d9309da489bf6b19cc10cd96c3ae6f8daf225380b605aaee4c0d6aee19",
        },
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "03b5dce01913d631647c71ecec9e9cb8",
        {"train": ("train.bin",), "test": ("test.bin",)},
        2,
        "fine_label_names.txt",
    ),
}


def folders() -> list[Path]:
    """Where data sets are looked for, in this order: `ACCORDION_DATA`, `../shared/data` beside the working folder, the cache."""
    named = os.environ.get("ACCORDION_DATA")
    if named:
        return [Path(named)]
    return [Path("../shared/data"), cache_folder()]


def cache_folder() -> Path:
    """Where downloads are kept: `$XDG_CACHE_HOME/accordion`, else `~/.cache/accordion`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "accordion"


def available(name: str) -> bool:
    """Whether `load(name)` needs no download."""
    if name == "digits" or is_own(name):
        return True
    spec = _spec(name)
    return any(_zips(folder, name) or (folder / spec.url.rpartition("/")[2]).is_file() for folder in folders())


def load(name: str, *, folder: Path | str | None = None, download: bool = True) -> Dataset:
    """Loads `digits`, `cifar10`, `cifar100`, or one's own: `FILE.npz` (see `accordion.data.own`).

    CIFAR is read from `folder` (else see `folders`) as the zip archives of lossless sheets or as the canonical binary tar, and
    downloaded from its canonical source otherwise. DigestError when the pixels are not the published ones; TransferError when
    there is no data and no network.
    """
    if name == "digits":
        return _digits()
    if is_own(name):
        return read_own(name)
    spec = _spec(name)
    places = [Path(folder)] if folder is not None else folders()
    for place in places:
        if zips := _zips(place, name):
            return _assemble(name, spec, {split: _read_zip(path) for split, path in zips.items()}, _zip_classes(zips["test"]))
        tar = place / spec.url.rpartition("/")[2]
        if tar.is_file():
            return _read_tar(name, spec, tar)
    if folder is not None or not download:
        looked = ", ".join(str(place) for place in places)
        raise UsageError(f"no {name} in {looked}: set ACCORDION_DATA to the folder that has it")
    return _read_tar(name, spec, _download(spec))


def _spec(name: str) -> _Cifar:
    try:
        return _CIFAR[name]
    except KeyError:
        raise UsageError(f"unknown data set {name!r}: choose digits, cifar10, cifar100 or a file of your own, FILE.npz") from None


def _zips(folder: Path, name: str) -> dict[str, Path] | None:
    paths = {split: folder / f"{name}-{split}.zip" for split in ("train", "test")}
    return paths if all(path.is_file() for path in paths.values()) else None


def _read_zip(path: Path) -> tuple[Pixels, NDArray[np.int64]]:
    from PIL import Image

    try:
        with zipfile.ZipFile(path) as archive:
            labels = np.load(io.BytesIO(archive.read("labels.npy")), allow_pickle=False)
            sheets = [
                np.asarray(Image.open(io.BytesIO(archive.read(member))))
                for member in sorted(archive.namelist())
                if member.endswith(".webp")
            ]
        tiles = [
            sheet.reshape(SHEET_ROWS, SIDE, SHEET_COLUMNS, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3) for sheet in sheets
        ]
        return np.concatenate(tiles), labels.astype(np.int64)
    except DAMAGE as error:
        raise FormatError(f"{path} is not a readable archive of CIFAR sheets: {error}") from error


def _zip_classes(path: Path) -> tuple[str, ...]:
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(archive.read("classes.txt").decode().split())
    except DAMAGE as error:
        raise FormatError(f"{path} has no readable class names: {error}") from error


def _read_tar(name: str, spec: _Cifar, path: Path) -> Dataset:
    def read(archive: tarfile.TarFile, wanted: Iterable[str]) -> bytes:
        found = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}
        parts = []
        for one in wanted:
            stream = archive.extractfile(found[one])
            if stream is None:
                raise KeyError(one)
            parts.append(stream.read())
        return b"".join(parts)

    try:
        with tarfile.open(path) as archive:
            splits = {}
            for split, members in spec.members.items():
                rows = np.frombuffer(read(archive, members), np.uint8).reshape(-1, spec.label_bytes + 3 * SIDE * SIDE)
                pixels = rows[:, spec.label_bytes :].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
                splits[split] = (np.ascontiguousarray(pixels), rows[:, spec.label_bytes - 1].astype(np.int64))
            classes = tuple(read(archive, (spec.names,)).decode().split())
    except DAMAGE as error:
        raise FormatError(f"{path} is not a readable CIFAR archive: {error}") from error
    return _assemble(name, spec, splits, classes)


def _assemble(name: str, spec: _Cifar, splits: dict[str, tuple[Pixels, NDArray[np.int64]]], classes: tuple[str, ...]) -> Dataset:
    made = {}
    for split, (pixels, labels) in splits.items():
        if hashlib.sha256(pixels.tobytes()).hexdigest() != spec.pixels[split]:
            raise DigestError(f"the {split} pictures of {name} are not the published ones")
        made[split] = Split(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), labels)
    return Dataset(name, classes, spec.mean, spec.std, made["train"], made["test"])


def _download(spec: _Cifar, fetch: Callable[..., object] = urllib.request.urlretrieve) -> Path:
    target = cache_folder() / spec.url.rpartition("/")[2]
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.part")  # another process may be at the same
    try:
        fetch(spec.url, partial)
    except (urllib.error.URLError, OSError) as error:
        partial.unlink(missing_ok=True)
        raise TransferError(f"can't download {spec.url}: {error}. Set ACCORDION_DATA to a folder that has the data set.") from error
    with partial.open("rb") as stream:
        md5 = hashlib.file_digest(stream, "md5").hexdigest()
    if md5 != spec.md5:
        partial.unlink()
        raise DigestError(f"{spec.url} arrived with MD5 {md5}, published is {spec.md5}")
    partial.replace(target)
    return target


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # 1,797 pictures of 8×8 with 17 levels. Every fifth is the test split: the set is ordered by writer, so both splits see all.
    x = np.round(bunch.images[:, None] * (255 / 16)).astype(np.uint8)
    y = bunch.target.astype(np.int64)
    test = np.arange(len(y)) % 5 == 4
    train = Split(x[~test], y[~test])
    scaled = train.x / 255.0
    return Dataset(
        "digits",
        tuple(str(n) for n in range(10)),
        (round(float(scaled.mean()), 4),),
        (round(float(scaled.std()), 4),),
        train,
        Split(x[test], y[test]),
        mirror=False,
    )
