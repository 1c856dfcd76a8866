"""What came of one comparison, as one small JSON file: what was downloaded, what it got wrong, what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accordion.errors import FormatError
from experiments.data_files import check_name, read_object, write_object
from experiments.outcome import DATA, Count

__all__ = ["FOLDER", "OURS", "File", "Result", "Row", "Training", "read_result", "read_results"]

FOLDER = DATA / "comparisons"
SCHEMA_VERSION = 1
OURS = ("elastic", "finished")
"""Methods that are Accordion's, by name."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that a device receives, as it lies on the disk of whoever sends it. Equal digests are received once."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that a device can have: what it receives for it, and how good it is.

    `family` holds together what one user of the method would choose among (`pruned`), `label` tells apart within it. `parameters`
    are numbers that travel; `macs` the multiply-accumulates for one picture, the mean over the test split where they depend on it.
    `needs` says what the device must be able to do beside running an ONNX graph; empty if nothing.
    """

    family: str
    label: str
    files: tuple[File, ...]
    parameters: int
    macs: float
    test: Count
    validation: Count
    needs: str = ""

    @property
    def bytes(self) -> int:
        """What has to be received, if nothing is there."""
        return sum({file.sha256: file.bytes for file in self.files}.values())

    def missing(self, before: Row | None) -> int:
        """Bytes to receive for this by a device that has the files of `before`."""
        have = set() if before is None else {file.sha256 for file in before.files}
        return sum({file.sha256: file.bytes for file in self.files if file.sha256 not in have}.values())

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {
            "family": self.family,
            "label": self.label,
            "bytes": self.bytes,
            "parameters": self.parameters,
            "macs": round(self.macs, 1),
            "test": {"wrong": self.test.wrong, "of": self.test.of},
            "validation": {"wrong": self.validation.wrong, "of": self.validation.of},
            "needs": self.needs,
            "files": [[file.name, file.bytes, file.sha256] for file in self.files],
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Row:
        """KeyError, TypeError or ValueError if it is something else."""
        found = cls(
            family=str(row["family"]),
            label=str(row["label"]),
            files=tuple(File(str(name), int(size), str(digest)) for name, size, digest in row["files"]),
            parameters=int(row["parameters"]),
            macs=float(row["macs"]),
            test=Count(int(row["test"]["wrong"]), int(row["test"]["of"])),
            validation=Count(int(row["validation"]["wrong"]), int(row["validation"]["of"])),
            needs=str(row["needs"]),
        )
        if found.bytes != row["bytes"]:
            raise ValueError(f"{found.label!r} has files of {found.bytes} bytes and says {row['bytes']}")
        if any(count.of < 1 or not 0 <= count.wrong <= count.of for count in (found.test, found.validation)):
            raise ValueError("a count of errors that can't be")
        return found


@dataclass(frozen=True, slots=True)
class Training:
    """What a method's own training cost, and that of the network it begins with.

    Computation is in multiply-accumulates, forward and backward. `base` is the name of the other training, if there is one;
    `precision` and `base_precision` are Lightning Fabric's (empty where nothing was trained). `search_macs` is what was trained to
    find the order of blocks, and thrown away. `weights` and `base_weights` are digests of what the project's own loop trained here
    and there (empty where it did not, or where an earlier program did not say): another machine trains other weights by the same
    settings.
    """

    epochs: int
    macs: float
    seconds: float
    loss: tuple[float, ...] = ()
    base: str | None = None
    base_macs: float = 0.0
    base_seconds: float = 0.0
    precision: str = ""
    base_precision: str = ""
    search_macs: float = 0.0
    weights: str = ""
    base_weights: str = ""

    @property
    def total_macs(self) -> float:
        """From nothing to the method's network."""
        return self.macs + self.base_macs + self.search_macs

    @property
    def total_seconds(self) -> float:
        """The same in seconds, wherever it ran."""
        return self.seconds + self.base_seconds

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {
            "epochs": self.epochs,
            "macs": self.macs,
            "seconds": self.seconds,
            "loss": list(self.loss),
            "base": self.base,
            "base_macs": self.base_macs,
            "base_seconds": self.base_seconds,
            "precision": self.precision,
            "base_precision": self.base_precision,
            "search_macs": self.search_macs,
            "weights": self.weights,
            "base_weights": self.base_weights,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Training:
        """KeyError, TypeError or ValueError if it is something else."""
        return cls(
            int(data["epochs"]),
            float(data["macs"]),
            float(data["seconds"]),
            tuple(float(loss) for loss in data["loss"]),
            None if data["base"] is None else str(data["base"]),
            float(data["base_macs"]),
            float(data["base_seconds"]),
            str(data["precision"]),
            str(data["base_precision"]),
            float(data["search_macs"]),
            str(data.get("weights", "")),
            str(data.get("base_weights", "")),
        )


@dataclass(frozen=True, slots=True)
class Result:
    """A finished comparison. `settings` are everything that it depends on, so that the file stands without the list."""

    name: str
    method: str
    variant: str
    dataset: str
    network: str
    recipe: str
    seed: int
    settings: Mapping[str, Any]
    training: Training
    rows: tuple[Row, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)
    torch: str = ""
    onnxruntime: str = ""
    device: str = ""
    machine: str = ""
    commit: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "method": self.method,
            "variant": self.variant,
            "dataset": self.dataset,
            "network": self.network,
            "recipe": self.recipe,
            "seed": self.seed,
            "settings": dict(self.settings),
            "training": self.training.to_json(),
            "notes": dict(self.notes),
            "torch": self.torch,
            "onnxruntime": self.onnxruntime,
            "device": self.device,
            "machine": self.machine,
            "commit": self.commit,
            "rows": [row.to_json() for row in self.rows],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str) -> Result:
        """FormatError, naming `where`, if `data` is something else."""
        try:
            if data["schema_version"] != SCHEMA_VERSION:
                raise ValueError(f"schema version {data['schema_version']!r}")
            texts = {key: str(data[key]) for key in ("name", "method", "variant", "dataset", "network", "recipe")}
            texts |= {key: str(data[key]) for key in ("torch", "onnxruntime", "device", "machine", "commit")}
            found = cls(
                **texts,
                seed=int(data["seed"]),
                settings=dict(data["settings"]),
                training=Training.from_json(data["training"]),
                notes=dict(data["notes"]),
                rows=tuple(Row.from_json(row) for row in data["rows"]),
            )
            keys = [(row.family, row.label) for row in found.rows]
            if not keys or len(set(keys)) != len(keys):
                raise ValueError("no rows, or two of one name")
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{where} is not the outcome of a comparison: {error}") from error
        return found

    def write(self, folder: Path) -> Path:
        """Writes NAME.json into `folder`, whole or not at all, and returns its path."""
        return write_object(folder / f"{self.name}.json", self.to_json())


def read_result(path: Path) -> Result:
    """One file. StorageError if it can't be read, FormatError if it is something else."""
    found = Result.from_json(read_object(path, "the outcome of a comparison"), str(path))
    check_name(path, found.name)
    return found


def read_results(folder: Path = FOLDER) -> list[Result]:
    """Every outcome in `folder`, by name."""
    return [read_result(path) for path in sorted(folder.glob("*.json"))]
