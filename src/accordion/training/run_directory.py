"""The run directory: what was asked, how it went, where it stands, what came out. Every file is replaced whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from accordion.errors import FormatError, StorageError, TrainingError, UsageError
from accordion.training.norms import Norms
from accordion.training.norms_file import decode_norms, encode_norms

__all__ = ["MEASURED_ON", "NORMS", "PACKAGED", "RunDirectory"]

MEASURED_ON = "measured_on"
"""The field of a run's ladder.json that holds `RunDirectory.digest()`; not part of packages."""

NORMS, PACKAGED = "norms", "packaged"
"""The field of run.json, and its value, that say `RunDirectory.out_of_package`."""


class RunDirectory:
    """Files of one training: `run.json`, `metrics.jsonl`, `checkpoint.pt`, `weights.safetensors`, and `norms.safetensors` where
    batch-norm statistics were measured again (see `accordion.training.norms`)."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def settings_path(self) -> Path:
        return self.path / "run.json"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoint_path(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def weights_path(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def norms_path(self) -> Path:
        return self.path / "norms.safetensors"

    @property
    def adapting_path(self) -> Path:
        return self.path / "adapting.json"

    @property
    def begun(self) -> bool:
        """Whether something was trained here already, which other settings would lose."""
        return self.settings_path.exists() and (self.checkpoint_path.exists() or self.weights_path.exists())

    @property
    def out_of_package(self) -> bool:
        """Whether its norms came out of a package (see `restore`): they multiply and add as they should, but what stands in them as
        statistics is no data's, so nothing may be measured or learned by them. False where there is no run."""
        return self.settings_path.exists() and self.read_settings().get(NORMS) == PACKAGED

    @property
    def report_path(self) -> Path:
        return self.path / "report.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second training out; the lock goes with the process, however it ends.

        UsageError if the path is a file, or a folder that holds something else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file: name a folder for the run")
        foreign = any((self.path / name).exists() for name in ("manifest.json", "state.json"))  # a model's lock has the same name
        if foreign or (
            self.path.is_dir()
            and any(self.path.iterdir())
            and not any((self.path / name).exists() for name in ("run.json", ".lock"))
        ):
            raise UsageError(f"{self.path} holds something else: name a new or an empty folder for the run")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / ".lock").open("w")
        except OSError as error:
            raise StorageError(f"can't write the run directory {self.path}: {error.strerror}") from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise TrainingError(f"another training is running in {self.path}") from error
            yield

    def read_settings(self) -> dict[str, Any]:
        """What `run.json` says; UsageError if this is no run directory."""
        try:
            settings = json.loads(self.settings_path.read_text())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UsageError(f"{self.path} is not a run directory: it has no run.json") from error
        except OSError as error:
            raise StorageError(f"can't read {self.settings_path}: {error.strerror}") from error
        except ValueError as error:
            raise FormatError(f"{self.settings_path} is not JSON: {error}") from error
        if not isinstance(settings, dict):
            raise FormatError(f"{self.settings_path} does not hold a JSON object")
        return settings

    def write_settings(self, settings: dict[str, Any]) -> None:
        self._replace(self.settings_path, json.dumps(settings, indent=2, ensure_ascii=False).encode() + b"\n")

    def write_report(self, report: dict[str, Any]) -> None:
        """What became of a guarantee."""
        self._replace(self.report_path, json.dumps(report, indent=1).encode() + b"\n")

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """All epochs so far, one JSON object a line."""
        self._replace(self.metrics_path, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def read_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, or None."""
        if not self.checkpoint_path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.checkpoint_path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises whatever the damaged bytes provoke
            raise FormatError(f"{self.checkpoint_path} is damaged: remove it, and the training begins again") from error
        return state

    def write_checkpoint(self, state: dict[str, Any]) -> None:
        partial = self.checkpoint_path.with_suffix(".part")
        try:
            with partial.open("wb") as stream:
                torch.save(state, stream)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(self.checkpoint_path)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise StorageError(f"can't write {self.checkpoint_path}: {error}") from error

    def read_weights(self) -> dict[str, Tensor]:
        """The trained weights; UsageError if the training has not finished."""
        if not self.weights_path.exists():
            raise UsageError(f"{self.path} has no trained weights yet: finish it with `accordion train`")
        try:
            weights: dict[str, Tensor] = load_file(self.weights_path)
        except (OSError, SafetensorError) as error:
            raise FormatError(f"{self.weights_path} is not a safetensors file: {error}") from error
        return weights

    def write_weights(self, state: dict[str, Tensor]) -> None:
        self._replace(self.weights_path, save({name: tensor.contiguous() for name, tensor in state.items()}))

    def read_norms(self) -> Norms | None:
        """The statistics measured after the training, or None. FormatError if the file is something else."""
        if not self.norms_path.exists():
            return None
        try:
            return decode_norms(self.norms_path.read_bytes())
        except OSError as error:
            raise StorageError(f"can't read {self.norms_path}: {error.strerror}") from error
        except FormatError as error:
            raise FormatError(f"{self.norms_path} {error}") from error

    def write_norms(self, norms: Norms | None) -> None:
        """Writes them, or removes what was there."""
        if norms is not None:
            self._replace(self.norms_path, encode_norms(norms))
            return
        try:
            self.norms_path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"can't remove {self.norms_path}: {error.strerror}") from error

    def write_adapting(self, record: bytes | None) -> None:
        """How far an adaptation has come, while it is under way."""
        if record is not None:
            self._replace(self.adapting_path, record)
            return
        try:
            self.adapting_path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"can't remove {self.adapting_path}: {error.strerror}") from error

    def digest(self) -> str:
        """SHA-256 (hex) of the trained weights and of the statistics measured after the training: what was measured is of these.
        UsageError if the training has not finished."""
        if not self.weights_path.exists():
            self.read_weights()
        made = hashlib.sha256()
        try:
            for path in (self.weights_path, self.norms_path):
                made.update(path.read_bytes() if path.exists() else b"")
        except OSError as error:
            raise StorageError(f"can't read {self.path}: {error.strerror}") from error
        return made.hexdigest()

    def _replace(self, path: Path, data: bytes) -> None:
        partial = path.with_name(path.name + ".part")
        try:
            with partial.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StorageError(f"can't write {path}: {error.strerror}") from error
