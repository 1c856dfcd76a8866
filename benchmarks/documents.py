"""Tables that benchmarks write into the documentation, each between two comments that name it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["put"]


def put(path: Path, name: str, text: str) -> None:
    """Puts `text` between `<!-- NAME: begin -->` and `<!-- NAME: end -->`. ValueError where these are not there once, in order."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    whole = path.read_text()
    before, found, rest = whole.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end or begin in after or end in before or end in after:
        raise ValueError(f"{path} does not hold {begin} and {end} once")
    path.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")
