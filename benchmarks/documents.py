"""Tables that benchmarks write into the documentation, each between two comments that name it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["markdown", "placed", "put"]


def placed(text: str, name: str, table: str) -> str:
    """`text` with `table` between `<!-- NAME: begin -->` and `<!-- NAME: end -->`. ValueError where these are not there once, in
    order."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end or begin in after or end in before or end in after:
        raise ValueError(f"the text does not hold {begin} and {end} once")
    return f"{before}{begin}\n\n{table.strip()}\n\n{end}{after}"


def put(path: Path, name: str, table: str) -> None:
    """As `placed`, in a file."""
    path.write_text(placed(path.read_text(), name, table))


def markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table as lines of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)
