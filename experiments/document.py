"""docs/evidence.md: prose by people, tables by this program, between marks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accordion.artifact.atomic import write_file
from accordion.errors import FormatError, StorageError
from experiments import catalogue, outcome
from experiments.delivery.energy import FILE as ENERGY
from experiments.delivery.energy import Bill, read_bills
from experiments.delivery.make import GUARANTEES, read_guarantees
from experiments.delivery.simulate import FILE, Row, read_rows
from experiments.outcome import Outcome, read_all
from experiments.series import collect
from experiments.tables import ablations, claims, delivered, figure4, runs, targets, tax, training, zoo
from experiments.zoo.record import Evaluation, read_evaluations

__all__ = ["EVIDENCE", "FIGURES", "current", "fill", "put", "read", "tables", "update"]

EVIDENCE = Path(__file__).parents[1] / "docs" / "evidence.md"
FIGURES = EVIDENCE.with_suffix("")

_MARKED = re.compile(r"(<!-- table: ([a-z0-9-]+) -->\n)(.*?)(<!-- end -->\n)", re.DOTALL)


def tables(
    outcomes: Sequence[Outcome],
    evaluations: Sequence[Evaluation],
    rows: Sequence[Row] = (),
    guarantees: Mapping[str, Mapping[str, Any]] | None = None,
    bills: Sequence[Bill] = (),
) -> dict[str, list[str]]:
    """Every table by the name that its mark has in the document."""
    series = collect(outcomes)
    return {
        "targets": targets.lines(series, evaluations),
        "figure4": figure4.lines(series),
        "claims": claims.lines(series),
        "tax": tax.lines(series),
        "ablations": ablations.lines(series),
        "time": training.time_lines(series),
        "convergence": training.convergence_lines(series),
        "delivered-targets": delivered.target_lines(rows),
        "delivered": delivered.lines(rows),
        "delivered-errors": delivered.error_lines(series),
        "energy": delivered.energy_lines(bills),
        "guarantees": delivered.guarantee_lines(guarantees or {}),
        "zoo": zoo.lines(evaluations),
        "runs": runs.lines(catalogue.catalogue(), outcomes),
    }


def fill(text: str, found: Mapping[str, Sequence[str]]) -> str:
    """The document with every table replaced. FormatError for a mark of an unknown table or a table without a mark."""
    seen = []

    def one(match: re.Match[str]) -> str:
        seen.append(match[2])
        if match[2] not in found:
            raise FormatError(f"the document asks for an unknown table {match[2]!r}")
        return match[1] + "\n" + "".join(f"{line}\n" for line in found[match[2]]) + "\n" + match[4]

    filled = _MARKED.sub(one, text)
    if missing := [name for name in found if name not in seen]:
        raise FormatError(f"the document has no place for {', '.join(missing)}: add <!-- table: {missing[0]} --> and <!-- end -->")
    return filled


def read(path: Path = EVIDENCE) -> str:
    """The document as it is."""
    try:
        return path.read_text()
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror}") from error


def current(data: Path = outcome.DATA, path: Path = EVIDENCE) -> str:
    """The document as the data files give it."""
    rows = read_rows(data / FILE.parent.name / FILE.name)
    guarantees = read_guarantees(data / GUARANTEES.name)
    spent = read_bills(data / ENERGY.parent.name / ENERGY.name)
    return fill(read(path), tables(read_all(data), read_evaluations(data / "zoo"), rows, guarantees, spent))


def update(path: Path = EVIDENCE, data: Path = outcome.DATA) -> bool:
    """Fills the document from the data files; says whether anything changed."""
    return put(path, current(data, path))


def put(path: Path, text: str) -> bool:
    """Writes the document if it is another; says whether it was."""
    changed = text != read(path)
    if changed:
        write_file(path, text.encode())
    return changed
