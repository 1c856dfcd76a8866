"""Markdown, and how numbers are written in it."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.series import Spread

__all__ = ["blocks", "change", "megabytes", "percent", "spread", "table"]

NONE = "–"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table; no lines for no rows."""
    if not rows:
        return []
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def percent(value: float | None, digits: int = 1) -> str:
    """0.123 → 12.3 %."""
    return NONE if value is None else f"{100 * value:.{digits}f} %"


def spread(values: Spread | None, digits: int = 1) -> str:
    """Mean ± standard deviation in percent; without the latter for one seed."""
    if values is None:
        return NONE
    if values.sd is None:
        return percent(values.mean, digits)
    return f"{100 * values.mean:.{digits}f} ± {100 * values.sd:.{digits}f} %"


def change(values: Spread | None, digits: int = 2) -> str:
    """A difference in points, with its sign."""
    if values is None:
        return NONE
    sd = "" if values.sd is None else f" ± {100 * values.sd:.{digits}f}"
    return f"{100 * values.mean:+.{digits}f}{sd}"


def megabytes(count: float) -> str:
    """12345678 → 12.35 MB."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def blocks(by_stage: Sequence[int]) -> str:
    """(9, 9, 0)."""
    return f"({', '.join(map(str, by_stage))})"
