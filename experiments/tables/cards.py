"""Tables of the model cards: a package's ladder, as it says itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accordion.artifact.alternative import INTEGER_KERNELS
from accordion.artifact.ladder import Configuration, Ladder
from accordion.artifact.layout import Layout
from accordion.units import format_bytes
from experiments.tables.markdown import NONE, percent, table

__all__ = ["COMPACT", "lines", "read_ladder"]

COMPACT = "-compact"
"""How the packages are called whose bytes are shares of the float32 package of the same name."""


def read_ladder(package: Path) -> Ladder:
    """The ladder of a package's only or latest version."""
    layout = Layout.open(package)
    return layout.ladder(layout.manifest())


def lines(ladder: Ladder, whole: int) -> list[str]:
    """One row a configuration; `whole` are the bytes that shares are of."""
    rounded = any(rung.precision != "float32" for rung in ladder.configurations)
    header = ["configuration", "blocks", *(["precision"] if rounded else []), "bytes", "share", "multiply-accumulates"]
    header += ["test error", "95 % interval", *(["error, integer kernels"] if rounded else [])]
    return table(header, [_row(rung, whole, rounded) for rung in ladder.configurations])


def _row(rung: Configuration, whole: int, rounded: bool) -> Sequence[str]:
    quality = rung.quality
    low, high = (100 * (1 - bound) for bound in reversed(quality.interval))
    row = [str(rung.index), f"{rung.blocks.total} ({'+'.join(map(str, rung.blocks.by_stage))})"]
    row += [rung.precision] if rounded else []
    row += [format_bytes(rung.bytes), percent(rung.bytes / whole), f"{rung.macs / 1e6:.0f} M", percent(1 - quality.value)]
    row += [f"{low:.1f}–{high:.1f} %"]
    if rounded:
        integer = next((one.quality for one in rung.alternatives if one.kernels == INTEGER_KERNELS), None)
        row += [NONE if integer is None else percent(1 - integer.value)]
    return row
