"""The data file of an evaluated package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accordion.errors import FormatError, StorageError
from experiments.data_files import parse, write_object
from experiments.outcome import DATA, Count

__all__ = ["CLEAN", "FOLDER", "PURGED", "VALIDATION", "Evaluation", "Row", "read_evaluation", "read_evaluations"]

FOLDER = DATA / "zoo"
CLEAN, PURGED, VALIDATION = "test", "test, purged", "validation"
SCHEMA_VERSION = 1


@dataclass(slots=True)
class Row:
    """One configuration. `stated_error` is what its ladder states, `results` what was found, by kind of pictures."""

    index: int
    blocks_by_stage: tuple[int, ...]
    bytes: int
    macs: int
    stated_error: float
    results: dict[str, Count] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {
            "index": self.index,
            "blocks_by_stage": list(self.blocks_by_stage),
            "bytes": self.bytes,
            "macs": self.macs,
            "stated_error": self.stated_error,
            "results": {kind: [count.wrong, count.of] for kind, count in self.results.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """KeyError, TypeError or ValueError if it is something else."""
        results = {str(kind): Count(int(wrong), int(of)) for kind, (wrong, of) in data["results"].items()}
        if any(count.of < 1 or not 0 <= count.wrong <= count.of for count in results.values()):
            raise ValueError("a count of errors that can't be")
        return cls(
            int(data["index"]),
            tuple(int(n) for n in data["blocks_by_stage"]),
            int(data["bytes"]),
            int(data["macs"]),
            float(data["stated_error"]),
            results,
        )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What plain ONNX Runtime found for the version with this manifest."""

    name: str
    manifest: str
    dataset: str
    runtime: str
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "manifest": self.manifest,
            "dataset": self.dataset,
            "runtime": self.runtime,
            "configurations": [row.to_json() for row in self.rows],
        }

    def write(self, folder: Path) -> Path:
        """Writes NAME.json into `folder` and returns its path."""
        return write_object(folder / f"{self.name}.json", self.to_json())


def read_evaluation(path: Path) -> Evaluation:
    """One file. FormatError if it is something else."""
    try:
        data = parse(path.read_bytes())
        if data["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {data['schema_version']!r}")
        rows = tuple(Row.from_json(row) for row in data["configurations"])
        return Evaluation(str(data["name"]), str(data["manifest"]), str(data["dataset"]), str(data["runtime"]), rows)
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is not the evaluation of a package: {error}") from error


def read_evaluations(folder: Path = FOLDER) -> list[Evaluation]:
    """Every evaluated package, by name."""
    paths = [path for path in sorted(folder.glob("*.json")) if not path.name.startswith("duplicates-")]
    return [read_evaluation(path) for path in paths]
