"""The configurations of a trained network measured for the choice of an order: errors on the validation split, and costs.

Nothing here looks at the test split: what is chosen with these figures is reported on pictures that had no part in the choice.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from accordion.artifact.atomic import write_file
from accordion.data import Dataset, Split
from accordion.elastic import ElasticNetwork
from accordion.errors import UsageError
from accordion.profiling.cost import count_macs, count_parameters
from accordion.profiling.export import INPUT_NAME, export_onnx
from accordion.profiling.latency import measure
from accordion.profiling.path_search import Lattice
from accordion.training import RunDirectory, correct, load_run, measure_norms, norm_batches, straight_line

__all__ = ["measure_lattice"]

BATCH = 250
TIMED = 64  # pictures of the estimate that is told before it begins

Progress = Callable[[str], None]


def measure_lattice(
    run: Path,
    *,
    samples: int | None = None,
    every: int = 1,
    norm_pictures: int = 2000,
    latency: bool = False,
    progress: Progress = lambda line: None,
) -> Lattice:
    """Measures the configurations that the finished training in `run` trained, on `samples` validation pictures (all if left out).

    With `every` above 1 only each `every`-th count of blocks of a stage is measured, the smallest and the largest always; nothing
    is interpolated, so an order will step through what was measured. Batch-norm statistics are measured for every configuration on
    `norm_pictures` training pictures first (0: as the run has them, which a run out of a package always is). `latency` also times
    configurations in ONNX Runtime: a few of a grid, from which blocks are added up, all of an order.

    What is done stands in `grid.json` of the run after each batch; the same call goes on from there. UsageError if the training
    has not finished.
    """
    if every < 1 or (samples is not None and samples < 1):
        raise UsageError("give at least one picture, and every first count of blocks or fewer")
    config, network, dataset = load_run(run)
    ks = _sub_grid(network, every)
    training, validation = dataset.hold_out()
    pictures = _evenly(validation, samples)
    directory = RunDirectory(run)
    if directory.out_of_package:
        norm_pictures = 0
    used = [directory.weights_path, *([] if norm_pictures or not directory.norms_path.exists() else [directory.norms_path])]
    key = {
        "weights": hashlib.sha256(b"".join(path.read_bytes() for path in used)).hexdigest(),
        "every": every,
        "norm_pictures": norm_pictures,
        "samples": len(pictures),
    }
    norm_pictures = min(norm_pictures, len(training))
    with directory.locked():
        cache = _Cache.read(run / "grid.json", key, len(ks))
        if cache.done < len(pictures):
            _tell(network, ks, len(pictures) - cache.done + norm_pictures, dataset, progress)
            if norm_pictures:
                recipe = config.recipe.with_changes(norm_pictures=norm_pictures)
                batches = norm_batches(training, recipe, config.seed, mirror=dataset.mirror)
                progress(f"batch-norm statistics of {len(ks)} configurations on {norm_pictures} training pictures")
                network = measure_norms(network, batches, [[k] for k in ks]).applied(network)
        while cache.done < len(pictures):
            rows = pictures.take(slice(cache.done, cache.done + BATCH))
            hits = correct(network, rows, ks, batch=BATCH)
            wrong = [w + len(rows) - int(hits[k].sum()) for w, k in zip(cache.wrong, ks, strict=True)]
            cache = _Cache(cache.path, key, cache.done + len(rows), wrong)
            cache.write([network.order.by_stage(k) for k in ks])
            progress(f"{cache.done} of {len(pictures)} validation pictures")
    example = torch.full((1, *dataset.train.x.shape[1:]), 0.5)
    costs: dict[str, tuple[float, ...]] = {
        "bytes": tuple(float(_packaged_bytes(network.at(k))) for k in ks),
        "macs": _added_up(network, ks, lambda module: float(count_macs(module, example))),
    }
    if latency:
        progress("latency in ONNX Runtime, one picture, one thread")
        costs["latency"] = _added_up(network, ks, lambda module: _latency(module, example))
    return Lattice(tuple(network.order.by_stage(k) for k in ks), tuple(w / cache.done for w in cache.wrong), costs, cache.done)


@dataclass(frozen=True, slots=True)
class _Cache:
    path: Path
    key: dict[str, Any]
    done: int
    wrong: list[int]

    @classmethod
    def read(cls, path: Path, key: dict[str, Any], count: int) -> _Cache:
        """What was measured under the same conditions, or nothing; a damaged file is nothing as well."""
        nothing = cls(path, key, 0, [0] * count)
        try:
            data = json.loads(path.read_bytes())
            done, wrong = int(data["done"]), [int(w) for w in data["wrong"]]
        except (OSError, ValueError, KeyError, TypeError):
            return nothing
        fits = data.get("key") == key and len(wrong) == count and all(0 <= w <= done for w in wrong)
        return cls(path, key, done, wrong) if fits and 0 <= done <= key["samples"] else nothing

    def write(self, configurations: Sequence[tuple[int, ...]]) -> None:
        value = {"schema_version": 1, "key": self.key, "split": "validation", "done": self.done}
        rows = {"configurations": [list(row) for row in configurations], "wrong": self.wrong}
        write_file(self.path, json.dumps(value | rows).encode() + b"\n")


def _sub_grid(network: ElasticNetwork, every: int) -> list[int]:
    counts = [network.order.by_stage(k) for k in range(len(network))]
    least, most = counts[0], counts[-1]
    return [
        k
        for k, row in enumerate(counts)
        if all((n - low) % every == 0 or n == high for n, low, high in zip(row, least, most, strict=True))
    ]


def _evenly(split: Split, samples: int | None) -> Split:
    if samples is None or samples >= len(split):
        return split
    return split.take(np.linspace(0, len(split) - 1, samples).astype(np.int64))


@torch.no_grad()
def _tell(network: ElasticNetwork, ks: Sequence[int], pictures: int, dataset: Dataset, progress: Progress) -> None:
    """Says what it will cost: configurations share the blocks that they have in common."""
    complete = len(network) - 1
    times = _convolutional(network, ks) / max(_convolutional(network, [complete]), 1)
    x = torch.from_numpy(dataset.train.x[:TIMED]).float().div_(255).contiguous(memory_format=torch.channels_last)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        network(x, complete)
        seconds.append((time.perf_counter() - began) / len(x))
    progress(
        f"{len(ks)} of {len(network)} configurations on {pictures} pictures are the work of {times:.0f} complete networks: "
        f"about {min(seconds) * times * pictures / 60:.1f} min"
    )


def _convolutional(network: ElasticNetwork, ks: Sequence[int]) -> int:
    """How many pieces with convolutions in them run for `ks` together; they are nearly all of the work."""
    program, _ = straight_line(network, ks)
    return sum(any(isinstance(part, nn.Conv2d) for part in module.modules()) for module, _ in program)


def _packaged_bytes(module: nn.Module) -> int:
    """float32 weights as a package carries them: a norm folded into its convolution leaves one value a channel."""
    folded = sum(part.num_features for part in module.modules() if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d))
    return 4 * (count_parameters(module) - folded)


def _added_up(network: ElasticNetwork, ks: Sequence[int], cost: Callable[[nn.Module], float]) -> tuple[float, ...]:
    """The cost of every configuration: the smallest's, and what a block of each stage adds to it (blocks of a stage are equal).

    Each block's share is taken from the configuration with all blocks of its stage. Configurations of an order, which has no such
    configurations, are all measured.
    """
    counts = {network.order.by_stage(k): k for k in range(len(network))}
    rows = [network.order.by_stage(k) for k in ks]
    least, most = rows[0], rows[-1]
    full = [tuple(high if s == stage else n for s, n in enumerate(least)) for stage, high in enumerate(most)]
    if any(row not in counts for row in full):
        return tuple(cost(network.at(k)) for k in ks)
    base = cost(network.at(counts[least]))
    per_block = [
        (cost(network.at(counts[row])) - base) / (high - low) if high > low else 0.0
        for row, low, high in zip(full, least, most, strict=True)
    ]
    return tuple(base + sum(b * (n - low) for b, n, low in zip(per_block, row, least, strict=True)) for row in rows)


def _latency(module: nn.Module, example: Tensor) -> float:
    model = export_onnx(module, example.repeat(2, *(1 for _ in example.shape[1:])))
    return measure(model, {INPUT_NAME: example.numpy()}).median
