"""Comparisons on digits with a narrow ResNet-8, which take a second each."""

from __future__ import annotations

from pathlib import Path

from experiments.comparisons.catalogue import Comparison
from experiments.comparisons.execute import execute
from experiments.comparisons.outcome import Result, read_result

CHANGES = {"epochs": 3, "batch": 64}


def comparison(method: str, variant: str, **settings: object) -> Comparison:
    fields: dict[str, object] = {"changes": CHANGES, "width": 4, "precision": "32-true"}
    return Comparison(method, variant, "resnet8", "digits", "brief", 0, **(fields | settings))  # type: ignore[arg-type]


def done(method: str, variant: str, folder: Path) -> Result:
    """Trained where the others of this folder are, so that they share the plain network; once."""
    path = folder / "data" / f"{comparison(method, variant).name}.json"
    if path.exists():
        return read_result(path)
    found = execute(comparison(method, variant), runs=folder / "runs", data=folder / "data", accelerator="cpu")
    assert found is not None
    return found
