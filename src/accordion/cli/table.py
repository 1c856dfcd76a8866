"""The ladder as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accordion.artifact.ladder import Ladder
from accordion.artifact.quality import Quality

__all__ = ["columns", "ladder_table", "profile_table", "quality_text"]

HEAD = ("k", "blocks", "precision", "bytes", "share", "parameters", "MACs", "quality", "interval")


def quality_text(quality: Quality) -> str:
    """`accuracy 91.25 %`, or value and unit for what is no fraction."""
    return f"{quality.metric} {_value(quality, quality.value)}"


def ladder_table(ladder: Ladder, *, complete: int | None = None) -> list[str]:
    """One line a configuration. `complete` marks what a model folder holds: the largest complete configuration."""
    whole = ladder.configurations[-1].bytes
    rows = []
    for one in ladder.configurations:
        stages = "+".join(str(count) for count in one.blocks.by_stage)
        blocks = f"{one.blocks.total} ({stages})" if len(one.blocks.by_stage) > 1 else str(one.blocks.total)
        row = [
            str(one.index),
            blocks,
            one.precision,
            f"{one.bytes:,}",
            f"{one.bytes / whole:.1%}" if whole else "",
            f"{one.parameters:,}",
            _count(one.macs),
            _value(one.quality, one.quality.value),
            _interval(one.quality),
        ]
        if complete is not None:
            row.append("here" if one.index <= complete else "")
        rows.append(row)
    lines = columns([[*HEAD, *([""] if complete is not None else [])], *rows])
    quality = ladder.configurations[0].quality
    return [
        *lines,
        "",
        _caption(quality),
        f"MACs for one {ladder.configurations[0].macs_per}; task {ladder.task}; order {ladder.order}",
    ]


def profile_table(fields: Mapping[str, Any]) -> list[str]:
    """The ladder as `accordion profile` measures it: bytes are not known before there is a package."""
    rows = [["k", "blocks", "precision", "parameters", "MACs", "latency", "quality", "interval"]]
    qualities = []
    for one in fields["configurations"]:
        quality = Quality.from_json(one["quality"])
        qualities.append(quality)
        latency = one.get("latency_s")
        median = latency.get("median") if isinstance(latency, Mapping) else None
        rows.append(
            [
                str(one["index"]),
                f"{one['blocks']['total']} ({'+'.join(map(str, one['blocks']['by_stage']))})",
                one["precision"],
                f"{one['parameters']:,}",
                _count(one["macs"]),
                f"{median * 1e3:.2f} ms" if isinstance(median, float) else "",
                _value(quality, quality.value),
                _interval(quality),
            ]
        )
    return [*columns(rows), "", _caption(qualities[0])]


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, every column but the third (words) flush right, as figures are read."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if at == 2 else cell.rjust(width) for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _caption(quality: Quality) -> str:
    better = "" if quality.direction == "higher" else " (lower is better)"
    return (
        f"{quality.metric}{better}: {quality.samples:,} samples of {quality.dataset} {quality.split}, "
        f"{quality.confidence:.0%} interval ({quality.interval_method})"
    )


def _is_share(quality: Quality) -> bool:
    return quality.unit == "fraction"


def _value(quality: Quality, value: float) -> str:
    return f"{100 * value:.2f} %" if _is_share(quality) else f"{value:.4g} {quality.unit}".rstrip()


def _interval(quality: Quality) -> str:
    low, high = quality.interval
    return f"{100 * low:.2f}–{100 * high:.2f} %" if _is_share(quality) else f"{low:.4g}–{high:.4g}"


def _count(value: int) -> str:
    size, unit = next(((size, unit) for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")) if value >= size), (1.0, ""))
    return f"{value / size:.1f}{unit}" if unit else str(value)
