"""A trained run becomes a ladder: for each configuration its quality, and what it costs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accordion.artifact.atomic import write_file
from accordion.data import Dataset, Split
from accordion.elastic import ElasticNetwork, Order
from accordion.errors import UsageError
from accordion.profiling.cost import count_macs, count_parameters
from accordion.profiling.energy_meter import Meter, NoMeterError, open_meter, per_inference
from accordion.profiling.export import INPUT_NAME, OUTPUT_NAME, export_onnx
from accordion.profiling.latency import Latency, measure
from accordion.profiling.quality import accuracy_by_class, quality_fields
from accordion.training import RunDirectory, correct, load_run
from accordion.training.run_directory import MEASURED_ON

__all__ = ["Profile", "measure_ladder", "profile"]

SCHEMA_VERSION = 1
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Profile:
    """`ladder`: the fields of the package's ladder, without what only the packager knows (`layers`, `graph`, `bytes`).

    `correct` [K, n]: which pictures each configuration gets right, in the split's order, for paired tests later.
    """

    ladder: dict[str, Any]
    correct: NDArray[np.bool_]
    by_class: list[list[float | None]]


def profile(
    run: Path | str,
    *,
    split: str = "test",
    device_latency: bool = True,
    energy: bool = False,
    limit: int | None = None,
    progress: Progress = lambda line: None,
) -> Profile:
    """Measures every configuration of the finished training in `run` and writes what it found there.

    Quality is measured on `split` (`test`, or `validation` as long as something is still being chosen), on `limit` pictures evenly
    taken from it if given. `device_latency` times one picture in ONNX Runtime, one thread, on this machine; `energy` counts its
    joules, where the machine shows them (`progress` hears it if not).

    Writes `ladder.json` (for the packager), `profile.json` (accuracy by class) and `correct.npz` (bits [K, n], packed along n).
    """
    run = Path(run)
    _, network, dataset = load_run(run)
    measured_on = RunDirectory(run).digest()
    pictures = _rows(dataset, split, limit)
    meter = None
    if energy:
        try:
            meter = open_meter()
        except NoMeterError as error:
            progress(f"energy is not measured: {error}")
    found = measure_ladder(network, dataset, pictures, split=split, device_latency=device_latency, meter=meter, progress=progress)
    write_file(run / "ladder.json", _json({**found.ladder, MEASURED_ON: measured_on}))
    details = {
        "schema_version": SCHEMA_VERSION,
        "dataset": dataset.name,
        "split": split,
        "samples": len(pictures),
        "classes": list(dataset.classes),
        "torch": torch.__version__,
        "accuracy_by_class": found.by_class,
    }
    write_file(run / "profile.json", _json(details))
    write_file(run / "correct.npz", _bits(found.correct))
    return found


def measure_ladder(
    network: ElasticNetwork,
    dataset: Dataset,
    pictures: Split,
    *,
    split: str,
    device_latency: bool,
    meter: Meter | None = None,
    progress: Progress = lambda line: None,
) -> Profile:
    """What `profile` does, from values to values; `pictures` are rows of the split called `split`.

    The network gets pixels in 0..1, as devices will give them: it normalises them itself. UsageError where it takes or gives
    something else than pictures of the data set and a logit for each class.
    """
    if not isinstance(network.order, Order):
        raise UsageError(
            f"this network was trained over {len(network)} configurations that are no order, to find one with: "
            "choose it with `accordion order`, train on it with --initial, and profile that run"
        )
    ks = range(len(network))
    shape = dataset.train.x.shape[1:]
    example = torch.full((1, *shape), 0.5)
    _check_network(network, dataset, example)
    progress(f"quality of {len(ks)} configurations on {len(pictures)} {split} pictures of {dataset.name}")
    hits = correct(network, pictures, ks)
    right = np.stack([hits[k].numpy() for k in ks])
    configurations = []
    for k in ks:
        module = network.at(k)
        fields: dict[str, Any] = {
            "index": k,
            "blocks": {"total": sum(network.order.by_stage(k)), "by_stage": list(network.order.by_stage(k))},
            "precision": "float32",
            "parameters": count_parameters(module),
            "macs": count_macs(module, example),
            "macs_per": "input",
            "quality": quality_fields(right[k], dataset=dataset.name, split=split),
            "weights_bytes": weights_bytes(module),
        }
        if device_latency:
            latency = _latency(module, example)
            fields["latency_s"] = latency.to_json()
            progress(f"configuration {k} of {len(ks) - 1}: {latency.median * 1e3:.2f} ms")
        if meter is not None:
            fields["energy_j"] = per_inference(_exported(module, example), {INPUT_NAME: example.numpy()}, meter)
            progress(f"configuration {k} of {len(ks) - 1}: {fields['energy_j']['value']:.3g} J")
        configurations.append(fields)
    ladder = {
        "schema_version": SCHEMA_VERSION,
        "task": "image-classification",
        "order": network.order.name,
        "inputs": [input_fields(shape)],
        "outputs": [output_fields(dataset.classes)],
        "configurations": configurations,
    }
    by_class = [accuracy_by_class(row, pictures.y, len(dataset.classes)) for row in right]
    return Profile(ladder, right, by_class)


def _check_network(network: ElasticNetwork, dataset: Dataset, example: Tensor) -> None:
    network.check(example)
    wanted = [len(example), len(dataset.classes)]
    with torch.no_grad():
        found: object = network.at(0).eval()(example)
    if not isinstance(found, Tensor):
        raise UsageError(f"the network gives {type(found).__name__}, not one tensor of logits {wanted}")
    if list(found.shape) != wanted or not found.is_floating_point():
        raise UsageError(f"the network gives {found.dtype} {list(found.shape)}, not logits {wanted}, one for each class")


def weights_bytes(module: nn.Module) -> int:
    """Bytes of the plain weights: parameters and floating-point buffers (batch norm's statistics), each once."""
    tensors: list[Tensor] = [*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def input_fields(shape: tuple[int, ...]) -> dict[str, Any]:
    """The ladder's entry for pictures of `shape` [channels, height, width]."""
    layout = "NCHW RGB" if shape[0] == 3 else "NCHW"
    return {"name": INPUT_NAME, "dtype": "float32", "shape": ["n", *shape], "layout": layout, "range": [0.0, 1.0], "labels": None}


def output_fields(classes: tuple[str, ...]) -> dict[str, Any]:
    """The ladder's entry for logits over `classes`."""
    shape = ["n", len(classes)]
    return {"name": OUTPUT_NAME, "dtype": "float32", "shape": shape, "layout": "NC", "range": None, "labels": list(classes)}


def _latency(module: nn.Module, example: Tensor) -> Latency:
    return measure(_exported(module, example), {INPUT_NAME: example.numpy()})


def _exported(module: nn.Module, example: Tensor) -> bytes:
    return export_onnx(module, example.repeat(2, *(1 for _ in example.shape[1:])))


def _rows(dataset: Dataset, split: str, limit: int | None) -> Split:
    if split not in ("test", "validation"):
        raise UsageError(f"unknown split {split!r}: choose test or validation")
    if limit is not None and limit < 1:
        raise UsageError(f"quality can't be measured on {limit} pictures: give at least 1")
    rows = dataset.test if split == "test" else dataset.hold_out()[1]
    if limit is None or limit >= len(rows):
        return rows
    return rows.take(np.linspace(0, len(rows) - 1, limit).astype(np.int64))


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def _bits(correct_bits: NDArray[np.bool_]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, packed=np.packbits(correct_bits, axis=1), samples=np.int64(correct_bits.shape[1]))
    return stream.getvalue()
