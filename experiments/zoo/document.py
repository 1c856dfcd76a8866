"""zoo/README.md: prose by people, tables from the packages beside it."""

from __future__ import annotations

from pathlib import Path

from experiments.document import fill, put, read
from experiments.tables import cards

__all__ = ["CARDS", "current", "update"]

CARDS = Path(__file__).parents[2] / "zoo" / "README.md"


def current(path: Path = CARDS) -> str:
    """The document as the packages give it."""
    ladders = {package.parent.name: cards.read_ladder(package.parent) for package in sorted(path.parent.glob("*/oci-layout"))}
    whole = {name: ladder.configurations[-1].bytes for name, ladder in ladders.items()}
    found = {name: cards.lines(ladder, whole[name.removesuffix(cards.COMPACT)]) for name, ladder in ladders.items()}
    return fill(read(path), found)


def update(path: Path = CARDS) -> bool:
    """Fills the document; says whether anything changed."""
    return put(path, current(path))
