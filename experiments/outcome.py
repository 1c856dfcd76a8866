"""What came of a run, as one small JSON file: enough to draw every picture and fill every table again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accordion.errors import FormatError
from accordion.training import TrainingConfig
from experiments.data_files import check_name, read_object, write_object

__all__ = ["DATA", "Configuration", "Count", "Curve", "Outcome", "read_all", "read_outcome"]

DATA = Path(__file__).parent / "data"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Count:
    """`wrong` of `of` pictures, exactly."""

    wrong: int
    of: int

    @property
    def error(self) -> float:
        """The share that is wrong."""
        return self.wrong / self.of


@dataclass(frozen=True, slots=True)
class Configuration:
    """One configuration, measured.

    `weights_bytes` are the float32 tensors of its package up to here, batch norms folded, and `package_bytes` all layers up to
    here, graphs and ladder included; `macs` are for one picture.
    """

    blocks_by_stage: tuple[int, ...]
    parameters: int
    macs: int
    weights_bytes: int
    package_bytes: int
    test: Count
    validation: Count

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {
            "blocks_by_stage": list(self.blocks_by_stage),
            "parameters": self.parameters,
            "macs": self.macs,
            "weights_bytes": self.weights_bytes,
            "package_bytes": self.package_bytes,
            "test": {"wrong": self.test.wrong, "of": self.test.of},
            "validation": {"wrong": self.validation.wrong, "of": self.validation.of},
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Configuration:
        """KeyError, TypeError or ValueError if it is something else."""
        return cls(
            blocks_by_stage=tuple(int(count) for count in row["blocks_by_stage"]),
            parameters=int(row["parameters"]),
            macs=int(row["macs"]),
            weights_bytes=int(row["weights_bytes"]),
            package_bytes=int(row["package_bytes"]),
            test=Count(int(row["test"]["wrong"]), int(row["test"]["of"])),
            validation=Count(int(row["validation"]["wrong"]), int(row["validation"]["of"])),
        )


@dataclass(frozen=True, slots=True)
class Curve:
    """How the training went. `loss` has one value an epoch; `validation_errors[i]` are those after epoch `epochs[i]` of the
    configurations `configurations`, on part of the validation split (all of it after the last epoch)."""

    loss: tuple[float, ...]
    epochs: tuple[int, ...]
    configurations: tuple[int, ...]
    validation_errors: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished run. `config` is in full, so that the file stands without the list. `seconds` are of training, with the looks at
    the validation split after each epoch. `commit` names the code of every sitting, one after the other."""

    name: str
    experiment: str
    scheme: str
    against: str | None
    config: TrainingConfig
    policy_probabilities: tuple[float, ...]
    torch: str
    device: str
    machine: str
    commit: str
    seconds: float
    curve: Curve
    configurations: tuple[Configuration, ...]

    @property
    def complete(self) -> Configuration:
        """The whole network."""
        return self.configurations[-1]

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "experiment": self.experiment,
            "scheme": self.scheme,
            "against": self.against,
            "seed": self.config.seed,
            "config": self.config.to_json(),
            "policy_probabilities": list(self.policy_probabilities),
            "torch": self.torch,
            "device": self.device,
            "machine": self.machine,
            "commit": self.commit,
            "seconds": self.seconds,
            "curve": {
                "loss": list(self.curve.loss),
                "epochs": list(self.curve.epochs),
                "configurations": list(self.curve.configurations),
                "validation_errors": [list(row) for row in self.curve.validation_errors],
            },
            "configurations": [row.to_json() for row in self.configurations],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str) -> Outcome:
        """FormatError, naming `where`, if `data` is no outcome."""
        try:
            if data["schema_version"] != SCHEMA_VERSION:
                raise ValueError(f"schema version {data['schema_version']!r}")
            curve = data["curve"]
            found = cls(
                name=str(data["name"]),
                experiment=str(data["experiment"]),
                scheme=str(data["scheme"]),
                against=None if data["against"] is None else str(data["against"]),
                config=TrainingConfig.from_json(data["config"]),
                policy_probabilities=tuple(float(p) for p in data["policy_probabilities"]),
                torch=str(data["torch"]),
                device=str(data["device"]),
                machine=str(data["machine"]),
                commit=str(data["commit"]),
                seconds=float(data["seconds"]),
                curve=Curve(
                    tuple(float(loss) for loss in curve["loss"]),
                    tuple(int(epoch) for epoch in curve["epochs"]),
                    tuple(int(k) for k in curve["configurations"]),
                    tuple(tuple(float(error) for error in row) for row in curve["validation_errors"]),
                ),
                configurations=tuple(Configuration.from_json(row) for row in data["configurations"]),
            )
        except (KeyError, TypeError, ValueError, FormatError) as error:
            raise FormatError(f"{where} is not the outcome of a run: {error}") from error
        found._check(where)
        return found

    def write(self, folder: Path) -> Path:
        """Writes NAME.json into `folder`, whole or not at all, and returns its path."""
        return write_object(folder / f"{self.name}.json", self.to_json())

    def _check(self, where: str) -> None:
        rows = self.configurations
        wrong = None
        if not rows or len(self.policy_probabilities) != len(rows):
            wrong = f"{len(rows)} configurations for {len(self.policy_probabilities)} probabilities"
        elif len(self.curve.loss) != self.config.recipe.epochs:
            wrong = f"{len(self.curve.loss)} losses for {self.config.recipe.epochs} epochs"
        elif len(self.curve.epochs) != len(self.curve.validation_errors) or any(
            len(row) != len(self.curve.configurations) for row in self.curve.validation_errors
        ):
            wrong = "a curve that does not fit its epochs and configurations"
        elif any(count.of < 1 or not 0 <= count.wrong <= count.of for row in rows for count in (row.test, row.validation)):
            wrong = "a count of errors that can't be"
        elif any(a.weights_bytes >= b.weights_bytes or a.parameters >= b.parameters for a, b in zip(rows, rows[1:], strict=False)):
            wrong = "configurations that do not grow"
        if wrong:
            raise FormatError(f"{where} is not the outcome of a run: {wrong}")


def read_outcome(path: Path) -> Outcome:
    """One file. StorageError if it can't be read, FormatError if it is something else."""
    found = Outcome.from_json(read_object(path, "the outcome of a run"), str(path))
    check_name(path, found.name)
    return found


def read_all(folder: Path = DATA) -> list[Outcome]:
    """Every outcome in `folder`, by name. Other kinds of data lie in folders below."""
    return [read_outcome(path) for path in sorted(folder.glob("*.json"))]
