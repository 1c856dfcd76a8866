"""Does a run: trains (or goes on), measures every configuration, packages, and writes the outcome."""

from __future__ import annotations

import fcntl
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from accordion.artifact.atomic import write_file
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import WEIGHT_RAW
from accordion.artifact.segment import read_header
from accordion.data import Dataset
from accordion.errors import FormatError, StorageError, TrainingError
from accordion.packaging import package
from accordion.profiling import profile
from accordion.profiling.latency import machine_name
from accordion.training import RunDirectory, TrainingConfig, correct, load_run, train
from experiments.outcome import Configuration, Count, Curve, Outcome
from experiments.run import Run

__all__ = ["BusyError", "alone", "begun_in", "commit_of_code", "execute", "machine_of", "metrics_of", "package_sizes", "set_aside"]

CURVE_CONFIGURATIONS = 6
CURVE_EPOCHS = 60
POLL = 0.5  # seconds
Progress = Callable[[str], None]


class BusyError(TrainingError):
    """Another process is at this run."""


def execute(
    run: Run,
    *,
    runs: Path,
    data: Path,
    accelerator: str = "auto",
    deadline: float | None = None,
    progress: Progress = lambda line: None,
    dataset: Dataset | None = None,
) -> Outcome | None:
    """Takes `run` as far as `deadline` (of `time.monotonic`) allows; None if it was not enough, and the next call goes on.

    Checkpoints, weights and package are kept in `runs`/NAME, the outcome in `data`/NAME.json. What was finished before is not
    done again. BusyError if another process is at it; TrainingError if a signal stopped it.
    """
    config = run.config()
    folder = runs / run.name
    with alone(folder):
        set_aside(folder, config)
        commits = _sitting(folder)
        try:
            train(
                config,
                folder / "run",
                accelerator=accelerator,
                progress=progress,
                dataset=dataset,
                max_seconds=None if deadline is None else max(0.0, deadline - time.monotonic()),
            )
        except TrainingError:
            if deadline is not None and time.monotonic() >= deadline:
                return None
            raise
        outcome = replace(_measure(run, folder, progress), commit=commits)
        outcome.write(data)
    return outcome


def begun_in(folder: Path) -> str | None:
    """The precision of the training in `folder`, in which it must go on; None if there is none yet."""
    directory = RunDirectory(folder / "run")
    if not directory.settings_path.exists():
        return None
    return TrainingConfig.from_json(directory.read_settings().get("config", {})).precision


def set_aside(folder: Path, config: TrainingConfig) -> None:
    """Renames what lies in `folder` if its network began as in an earlier version: it can neither go on nor stand for this one."""
    directory = RunDirectory(folder / "run")
    if not directory.settings_path.exists():
        return
    before = TrainingConfig.from_json(directory.read_settings().get("config", {}))
    if before.initialisation != config.initialisation:
        for path in (folder / "package", folder / "compact", folder / "run"):
            if path.exists():
                path.rename(path.with_name(f"{path.name}-initialisation-{before.initialisation}"))


def _sitting(folder: Path) -> str:
    """Notes that this code goes on with the training in `folder`; the commits of all who did, in order."""
    path, here = folder / "commits", commit_of_code()
    known = path.read_text().split() if path.exists() else []
    if here not in known:
        write_file(path, "\n".join([*known, here]).encode())
        known.append(here)
    return " ".join(known)


def _measure(run: Run, folder: Path, progress: Progress) -> Outcome:
    directory = RunDirectory(folder / "run")
    settings = directory.read_settings()
    config, network, dataset = load_run(directory.path)
    found = profile(directory.path, split="test", device_latency=False, progress=progress)
    package(directory.path, folder / "package", name=run.name, progress=progress)
    sizes = package_sizes(folder / "package")
    _, validation = dataset.hold_out()
    hits = correct(network, validation, range(len(network)))
    rows = []
    for k, (fields, (everything, weights)) in enumerate(zip(found.ladder["configurations"], sizes, strict=True)):
        right = found.correct[k]
        rows.append(
            Configuration(
                blocks_by_stage=tuple(fields["blocks"]["by_stage"]),
                parameters=fields["parameters"],
                macs=fields["macs"],
                weights_bytes=weights,
                package_bytes=everything,
                test=Count(int((~right).sum()), int(right.size)),
                validation=Count(int((~hits[k]).sum()), len(validation)),
            )
        )
    metrics = metrics_of(directory)
    return Outcome(
        name=run.name,
        experiment=run.experiment,
        scheme=run.scheme,
        against=run.against,
        config=config,
        policy_probabilities=tuple(settings["policy_probabilities"]),
        torch=str(settings["torch"]),
        device=str(settings["device"]),
        machine=machine_of(str(settings["device"])),
        commit="",
        seconds=round(float(metrics[-1]["seconds"]), 1),
        curve=_curve(metrics, len(rows)),
        configurations=tuple(rows),
    )


def package_sizes(path: Path, reference: str | None = None) -> list[tuple[int, int]]:
    """For each configuration of a package: all bytes of its layers, and the bytes of the tensors among them."""
    layout = Layout.open(path)
    manifest = layout.manifest(reference)
    ladder = layout.ladder(manifest)
    everything, tensors = [0], [0]
    for layer in manifest.layers:
        found = 0
        if layer.media_type == WEIGHT_RAW:
            with layout.blob_path(layer.digest).open("rb") as stream:
                found = sum(info.end - info.start for info in read_header(stream, layer.size, "a segment").values())
        everything.append(everything[-1] + layer.size)
        tensors.append(tensors[-1] + found)
    return [(everything[rung.layers], tensors[rung.layers]) for rung in ladder.configurations]


def metrics_of(directory: RunDirectory) -> list[dict[str, Any]]:
    """The rows of a training, one for each epoch."""
    try:
        return [json.loads(line) for line in directory.metrics_path.read_text().splitlines()]
    except OSError as error:
        raise StorageError(f"can't read {directory.metrics_path}: {error.strerror}") from error
    except ValueError as error:
        raise FormatError(f"{directory.metrics_path} is not JSON: {error}") from error


def _curve(metrics: list[dict[str, Any]], k: int) -> Curve:
    """Thinned: evenly spaced configurations and epochs, first and last included."""
    configurations = _even(k, CURVE_CONFIGURATIONS)
    rows = [metrics[row] for row in _even(len(metrics), CURVE_EPOCHS)]
    return Curve(
        loss=tuple(round(float(row["loss"]), 4) for row in metrics),
        epochs=tuple(int(row["epoch"]) for row in rows),
        configurations=configurations,
        validation_errors=tuple(tuple(round(float(row["validation_errors"][c]), 4) for c in configurations) for row in rows),
    )


def _even(count: int, most: int) -> tuple[int, ...]:
    return tuple(int(index) for index in np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)))


def machine_of(device: str) -> str:
    """The processor or the accelerator, in words."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(device))
    return machine_name()


def commit_of_code() -> str:
    """The commit of this code, with a `+` where files differ from it."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "../src", "../zoo/recipes", ".", ":!data"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


@contextmanager
def alone(folder: Path, *, waits: float = 0.0) -> Iterator[None]:
    """Keeps other processes out of a run, from training to outcome; the lock goes with the process, however it ends.

    BusyError if another process is at it, and still is after `waits` seconds.
    """
    until = time.monotonic() + waits
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    except OSError as error:
        raise StorageError(f"can't write {folder}: {error.strerror}") from error
    with handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if (left := until - time.monotonic()) <= 0:
                    raise BusyError(f"another process is at {folder.name}") from error
                time.sleep(min(left, POLL))
        yield
