"""What lies in a run directory, read back: the settings held against others, the trained network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from accordion.data import Dataset, load, same_pictures
from accordion.elastic import ElasticNetwork
from accordion.errors import FormatError, UsageError
from accordion.training.config import TrainingConfig, build_network
from accordion.training.run_directory import RunDirectory

__all__ = ["check_same_settings", "load_run", "load_weights"]


def load_run(run: Path | str) -> tuple[TrainingConfig, ElasticNetwork, Dataset]:
    """A finished training: its settings, the trained network in eval mode with its batch-norm statistics, and its data."""
    directory = RunDirectory(run)
    config = TrainingConfig.from_json(directory.read_settings().get("config", {}))
    directory.read_weights()  # says at once if there are none yet
    dataset = load(config.dataset)
    network = load_weights(directory, build_network(config, dataset))
    if (norms := directory.read_norms()) is not None:
        network = norms.applied(network)
    return config, network.eval(), dataset


def load_weights(directory: RunDirectory, network: ElasticNetwork) -> ElasticNetwork:
    """`network` with the run's trained weights, with the batch-norm statistics of the training. UsageError if they don't fit."""
    weights = directory.read_weights()
    try:
        network.module.load_state_dict(weights)
    except RuntimeError as error:
        raise UsageError(f"{directory.weights_path} does not fit the network of run.json: {error}") from error
    return network


def check_same_settings(run: Path, before: object, now: dict[str, Any]) -> None:
    """UsageError names what differs between the settings of the training in `run` and those asked for now."""
    if isinstance(before, dict):
        with suppress(FormatError):  # what they lack or have too much is named below
            before = TrainingConfig.from_json(before).to_json()  # an earlier version's settings lack what was added since

    def flat(value: object, path: str = "") -> Iterator[tuple[str, object]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from flat(inner, f"{path}.{key}" if path else str(key))
        else:
            yield (
                path,
                [list(v) if isinstance(v, tuple) else v for v in value] if isinstance(value, list | tuple) else value,
            )

    old, new = dict(flat(before)), dict(flat(now))
    for settings in (old, new):  # the same pictures elsewhere are the same pictures
        settings["dataset"] = same_pictures(str(settings.get("dataset")))
    if changed := [f"{key} {old.get(key)!r} → {new.get(key)!r}" for key in {**old, **new} if old.get(key) != new.get(key)]:
        raise UsageError(f"{run} holds a training with other settings ({'; '.join(changed)}): name another run directory")
