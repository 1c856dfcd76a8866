"""The tables of docs/threats-formats.md, from what was measured."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.documents import markdown, placed

__all__ = ["DOCUMENT", "written"]

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "threats-formats.md"
KINDS = {
    "fetch": "a device, fetching",
    "grow": "a device, fetching more",
    "change": "a device, fetching another version",
    "exchange": "a device, putting another version into its place",
    "endpoint": "an endpoint",
}


def written(text: str) -> str:
    """The document with its tables made anew."""
    for mark, table in (("fuzz", _fuzz()), ("faults", _faults()), ("memory", _memory())):
        text = placed(text, mark, table)
    return text


def _fuzz() -> str:
    rows = json.loads((ROOT / "fuzz" / "results.json").read_text())
    corpus = ROOT / "fuzz" / "corpus"
    return markdown(
        ("target", "seconds", "executions", "findings", "inputs kept"),
        [
            (name, row["seconds"], f"{row['executions']:,}", row["findings"], len(list((corpus / name).glob("*"))))
            for name, row in rows.items()
        ],
    )


def _faults() -> str:
    counts = json.loads((ROOT / "benchmarks" / "results" / "faults.json").read_text())["counts"]
    rows = []
    for kind, row in counts.items():
        held = ", ".join(f"{name} {count}" for name, count in row["held_after_the_kill"].items())
        rows.append((KINDS[kind], row["killed_while_it_worked"], held, row["bytes_that_came_twice"]))
    return markdown(("killed", "kills", "what the folder held then", "bytes that came twice"), rows)


def _memory() -> str:
    path = ROOT / "benchmarks" / "results" / "upgrade_memory.json"
    found = json.loads(path.read_text())
    rows = [
        (
            row["configuration"],
            *("" if row[name] is None else f"{row[name] / 1e6:.1f} MB" for name in ("alone", "peak", "running_and_next")),
        )
        for row in found["steps"]
    ]
    return f"`{found['package']}`:\n\n" + markdown(
        ("step to", "alone", "peak of the upgrade", "the one before and it, alone"), rows
    )
