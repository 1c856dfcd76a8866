"""Runs every configuration of a package in plain ONNX Runtime on the test pictures, clean, purged and corrupted."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from accordion.artifact.digest import file_digest
from accordion.data import Dataset, load
from accordion.errors import FormatError, UsageError
from experiments.outcome import Count
from experiments.zoo import duplicates
from experiments.zoo.corruptions import CORRUPTIONS
from experiments.zoo.reader import Contents, lay_out
from experiments.zoo.record import CLEAN, PURGED, VALIDATION, Evaluation, Row, read_evaluation

__all__ = ["evaluate"]

BATCH = 250
CORRUPTED_CONFIGURATIONS = 10


@dataclass(frozen=True, slots=True)
class _Pictures:
    """`x` uint8 [n, c, h, w], their labels, and their rows in the test split."""

    kind: str
    x: NDArray[np.uint8]
    y: NDArray[np.int64]
    rows: NDArray[np.int64]
    configurations: tuple[int, ...]


def evaluate(
    package: Path,
    folder: Path,
    *,
    tag: str | None = None,
    samples: int | None = 2000,
    clean_samples: int | None = None,
    threads: int = 0,
    progress: Callable[[str], None] = lambda line: None,
    dataset: Dataset | None = None,
    earlier: Path | None = None,
) -> Path:
    """Evaluates and writes `folder`/NAME.json after each kind of pictures; what is there for the same version is not done again.

    `samples` corrupted pictures, evenly taken from the test split, are run in up to ten configurations; the clean test and
    validation splits are run whole (or `clean_samples` of them) in all. Near-duplicates are those of the list in `folder`; without
    one, nothing is purged. `threads` of ONNX Runtime, 0 for one a core. `earlier` is the package that the file in `folder` is of,
    whose graphs and weights these are, byte for byte, in other layers: then what was found stands. UsageError where it is not.
    """
    with tempfile.TemporaryDirectory(prefix="accordion-zoo-") as name:
        contents = lay_out(package, Path(name), tag)
        quality = contents.ladder["configurations"][0]["quality"]
        dataset = dataset or load(str(quality["dataset"]))
        if earlier is not None:
            with tempfile.TemporaryDirectory(prefix="accordion-zoo-earlier-") as other:
                _take_over(folder / f"{package.name}.json", lay_out(earlier, Path(other), tag), contents, dataset)
        evaluation = _begin(package.name, contents, dataset, folder)
        sessions = [_session(contents.folder / rung["graph"], threads) for rung in contents.ladder["configurations"]]
        name_of_input = str(contents.ladder["inputs"][0]["name"])
        twins = duplicates.read(folder, dataset.name)
        for pictures in _kinds(dataset, len(sessions), samples, clean_samples):
            for k in pictures.configurations:
                results = evaluation.rows[k].results
                kept = ~np.isin(pictures.rows, twins) if pictures.kind == CLEAN and twins is not None else None
                wanted = {pictures.kind: len(pictures.y), **({} if kept is None else {PURGED: int(kept.sum())})}
                if all(kind in results and results[kind].of == count for kind, count in wanted.items()):
                    continue
                wrong = _wrong(sessions[k], name_of_input, pictures)
                results[pictures.kind] = Count(int(wrong.sum()), len(wrong))
                if kept is not None:
                    results[PURGED] = Count(int(wrong[kept].sum()), int(kept.sum()))
                count = results[pictures.kind]
                progress(f"{pictures.kind}, configuration {k}: error {count.error:.2%} on {count.of}")
                evaluation.write(folder)
    return evaluation.write(folder)


def _take_over(path: Path, earlier: Contents, now: Contents, dataset: Dataset) -> None:
    """Writes `path` as of the version `now`, with what was found of the same graphs and weights in other layers."""
    before = read_evaluation(path)
    if before.manifest != earlier.digest:
        raise UsageError(f"{path} is of {before.manifest}, not of {earlier.digest}")
    graphs = [[rung["graph"] for rung in one.ladder["configurations"]] for one in (earlier, now)]
    if graphs[0] != graphs[1] or _digests(earlier.folder) != _digests(now.folder):
        raise UsageError(f"{earlier.digest} has other graphs or other weights: nothing that was found of it stands")
    rows = _fresh(before.name, now)
    for row, old in zip(rows, before.rows, strict=True):
        row.results |= old.results
    Evaluation(before.name, now.digest, dataset.name, before.runtime, tuple(rows)).write(path.parent)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): file_digest(path) for path in files}


def _begin(name: str, contents: Contents, dataset: Dataset, folder: Path) -> Evaluation:
    """What was found before for the same version, or nothing yet."""
    path = folder / f"{name}.json"
    if path.exists():
        before = read_evaluation(path)
        if before.manifest == contents.digest:
            return before
    return Evaluation(name, contents.digest, dataset.name, f"onnxruntime {onnxruntime.__version__}", tuple(_fresh(name, contents)))


def _fresh(name: str, contents: Contents) -> list[Row]:
    """A row without results for each configuration."""
    rows = []
    try:
        for rung in contents.ladder["configurations"]:
            quality = rung["quality"]
            stated = 1 - float(quality["value"]) if quality["metric"] == "accuracy" else float("nan")
            rows.append(
                Row(int(rung["index"]), tuple(rung["blocks"]["by_stage"]), int(rung["bytes"]), int(rung["macs"]), round(stated, 6))
            )
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{name} has a ladder that says too little: {error}") from error
    return rows


def _kinds(dataset: Dataset, k: int, samples: int | None, clean_samples: int | None) -> Iterator[_Pictures]:
    everything = tuple(range(k))
    rows = _even(len(dataset.test), clean_samples)
    yield _Pictures(CLEAN, dataset.test.x[rows], dataset.test.y[rows], rows, everything)
    _, validation = dataset.hold_out()
    some = _even(len(validation), clean_samples)
    yield _Pictures(VALIDATION, validation.x[some], validation.y[some], some, everything)
    rows = _even(len(dataset.test), samples)
    chosen = tuple(int(c) for c in np.unique(np.linspace(0, k - 1, min(k, CORRUPTED_CONFIGURATIONS)).round().astype(int)))
    for corruption in CORRUPTIONS:
        yield _Pictures(corruption.name, corruption.apply(dataset.test.x[rows], rows), dataset.test.y[rows], rows, chosen)


def _even(count: int, most: int | None) -> NDArray[np.int64]:
    return np.linspace(0, count - 1, count if most is None else min(count, most)).round().astype(np.int64)


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise FormatError(f"{path.name} does not run in ONNX Runtime: {str(error).splitlines()[0]}") from error


def _wrong(session: onnxruntime.InferenceSession, name: str, pictures: _Pictures) -> NDArray[np.bool_]:
    parts = [slice(at, at + BATCH) for at in range(0, len(pictures.y), BATCH)]
    found = [session.run(None, {name: pictures.x[part].astype(np.float32) / 255})[0].argmax(1) for part in parts]
    return np.asarray(np.concatenate(found) != pictures.y)
