"""Finished runs, packaged in an encoding: bytes as they would be sent, and quality as the package measured it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from accordion.artifact.layout import Layout
from accordion.errors import FormatError, UsageError
from accordion.packaging import package
from experiments.data_files import read_object, write_object
from experiments.delivery.cases import compared, is_whole
from experiments.outcome import DATA, Outcome

__all__ = ["FOLDER", "Encoding", "Rung", "encode", "read_encodings", "read_package", "wanted"]

FOLDER = DATA / "encodings"
SCHEMA_VERSION = 1
COMPACT_OF = ("learned", "balanced")
"""Schemes that are also packaged with `--codec auto`."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Rung:
    """One configuration: the bytes of its layers, its multiply-accumulates, its share of right answers and of how many."""

    blocks_by_stage: tuple[int, ...]
    precision: str
    bytes: int
    macs: int
    accuracy: float
    samples: int


@dataclass(frozen=True, slots=True)
class Encoding:
    """A package of the run `run` (or a package of the zoo, by its name) in `codec`; `manifest_bytes` as it travels, compressed."""

    run: str
    codec: str
    manifest: str
    manifest_bytes: int
    rungs: tuple[Rung, ...]

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"{self.run}-{self.codec}"

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        rows = [
            {
                "blocks_by_stage": list(rung.blocks_by_stage),
                "precision": rung.precision,
                "bytes": rung.bytes,
                "macs": rung.macs,
                "accuracy": rung.accuracy,
                "samples": rung.samples,
            }
            for rung in self.rungs
        ]
        return {
            "schema_version": SCHEMA_VERSION,
            "run": self.run,
            "codec": self.codec,
            "manifest": self.manifest,
            "manifest_bytes": self.manifest_bytes,
            "configurations": rows,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str) -> Encoding:
        """FormatError, naming `where`, if `data` is something else."""
        try:
            if data["schema_version"] != SCHEMA_VERSION:
                raise ValueError(f"schema version {data['schema_version']!r}")
            rungs = tuple(
                Rung(
                    tuple(int(count) for count in row["blocks_by_stage"]),
                    str(row["precision"]),
                    int(row["bytes"]),
                    int(row["macs"]),
                    float(row["accuracy"]),
                    int(row["samples"]),
                )
                for row in data["configurations"]
            )
            found = cls(str(data["run"]), str(data["codec"]), str(data["manifest"]), int(data["manifest_bytes"]), rungs)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{where} is no encoding of a run: {error}") from error
        if not rungs or any(not 0 <= rung.accuracy <= 1 or rung.bytes <= 0 for rung in rungs):
            raise FormatError(f"{where} is no encoding of a run: accuracies or bytes that can't be")
        return found


def encode(outcome: Outcome, codec: str, *, runs: Path, data: Path = FOLDER, progress: Progress = lambda line: None) -> Encoding:
    """Packages a finished run of the folder `runs` in `codec` and writes the data file.

    UsageError where the run's weights are not there: data files travel between machines, weights do not.
    """
    folder = runs / outcome.name
    if not (folder / "run" / "weights.safetensors").is_file():
        raise UsageError(f"{folder}/run holds no weights: {outcome.name} finished on another machine, do it here to encode it")
    out = folder / "package"
    tag = "latest" if codec == "float32" else codec
    progress(f"{outcome.name}: {codec}")
    how = codec
    if codec != "float32" and is_whole(outcome):
        how = str(_complete_alone(folder / f"{codec}.json", codec, outcome))
    package(folder / "run", out, tag=tag, name=outcome.name, codec=how, latency=False, progress=progress)
    found = read_package(out, outcome.name, codec, tag)
    write(found, data)
    return found


def _complete_alone(path: Path, codec: str, outcome: Outcome) -> Path:
    """Writes a path of one step, to the complete network: who downloads it whole needs no graphs of less."""
    step = {"depth": len(outcome.configurations) - 1, "planes": [1] * len(outcome.complete.blocks_by_stage)}
    return write_object(path, {"codec": codec, "rounding": "nearest", "path": [step]})


def read_package(path: Path, run: str, codec: str, tag: str | None = None) -> Encoding:
    """What a package says of itself, with the bytes of its manifest as an endpoint sends them."""
    layout = Layout.open(path)
    manifest = layout.manifest(tag)
    ladder = layout.ladder(manifest)
    rungs = tuple(
        Rung(tuple(one.blocks.by_stage), one.precision, one.bytes, one.macs, one.quality.value, one.quality.samples)
        for one in ladder.configurations
    )
    sent = min(manifest.size, len(zstandard.ZstdCompressor(level=19).compress(manifest.raw)))
    return Encoding(run, codec, manifest.digest, sent, rungs)


def write(found: Encoding, folder: Path = FOLDER) -> Path:
    """Whole or not at all."""
    return write_object(folder / f"{found.name}.json", found.to_json())


def read_encodings(folder: Path = FOLDER) -> dict[str, Encoding]:
    """Every data file in `folder`, by name."""
    found: dict[str, Encoding] = {}
    for path in sorted(folder.glob("*.json")):
        one = Encoding.from_json(read_object(path, "an encoding of a run"), str(path))
        found[one.name] = one
    return found


def wanted(outcomes: Sequence[Outcome]) -> list[tuple[Outcome, str]]:
    """What the comparison needs: separate networks in float32 and int8, elastic ones in float32, `COMPACT_OF` compact too."""
    found = []
    for one in compared(outcomes):
        if is_whole(one):
            found += [(one, "float32"), (one, "int8")]
        else:
            found += [(one, "float32")] + [(one, "auto")] * (one.scheme in COMPACT_OF)
    return found
