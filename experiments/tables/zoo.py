"""The shipped packages, as a stranger measures them: for their model cards."""

from __future__ import annotations

from collections.abc import Sequence

from accordion.profiling import clopper_pearson
from experiments.outcome import Count
from experiments.tables.markdown import NONE, blocks, megabytes, percent, table
from experiments.zoo.corruptions import CORRUPTIONS
from experiments.zoo.record import CLEAN, PURGED, Evaluation, Row

__all__ = ["lines"]


def lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """Two tables for each package: the ladder on clean and purged pictures, and some of it on corrupted ones."""
    if not evaluations:
        return ["No package has been evaluated yet."]
    out: list[str] = []
    for one in evaluations:
        whole = one.rows[-1]
        out += ["", f"**{one.name}** ({one.dataset}, manifest `{one.manifest[:19]}…`, {one.runtime})", ""]
        purged = next((row.results[PURGED] for row in one.rows if PURGED in row.results), None)
        kept = "" if purged is None else f" ({purged.of:,} pictures)"
        header = [
            "k",
            "blocks",
            "bytes",
            "share",
            "MACs",
            "stated",
            "test error",
            "95 % interval",
            f"without near-duplicates{kept}",
        ]
        out += table(header, [_clean(row, whole) for row in one.rows])
        corrupted = [row for row in one.rows if any(c.name in row.results for c in CORRUPTIONS)]
        known = [c for c in CORRUPTIONS if all(c.name in row.results for row in corrupted)]
        if corrupted and known:
            samples = corrupted[0].results[known[0].name].of
            out += ["", f"Error on {samples:,} corrupted test pictures:", ""]
            header = ["corruption", *(f"{row.index} {blocks(row.blocks_by_stage)}" for row in corrupted)]
            out += table(header, [[c.what, *(percent(row.results[c.name].error) for row in corrupted)] for c in known])
    return out[1:]


def _clean(row: Row, whole: Row) -> list[str]:
    clean = row.results.get(CLEAN)
    return [
        str(row.index),
        blocks(row.blocks_by_stage),
        megabytes(row.bytes),
        percent(row.bytes / whole.bytes),
        f"{row.macs / 1e6:.1f} M",
        percent(row.stated_error, 2),
        NONE if clean is None else percent(clean.error, 2),
        NONE if clean is None else _interval(clean),
        percent(row.results[PURGED].error, 2) if PURGED in row.results else NONE,
    ]


def _interval(count: Count) -> str:
    low, high = clopper_pearson(count.wrong, count.of)
    return f"{100 * low:.2f}–{100 * high:.2f} %"
