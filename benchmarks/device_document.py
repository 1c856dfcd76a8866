"""The tables and the picture of docs/device.md, from what was measured: `python benchmarks/device_document.py`."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from documents import markdown, placed  # type: ignore[import-not-found]

__all__ = ["DOCUMENT", "written"]

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "docs" / "device.md"
PICTURE = RESULTS / "transfer.png"
NOTHING = "Not measured yet.\n"


def written(text: str) -> str:
    """The document with its tables made anew."""
    for mark, table in (("transfer", _transfer()), ("first", _first()), ("upgrade", _upgrade())):
        text = placed(text, mark, table)
    return text


def _transfer() -> str:
    rows = _read("transfer")
    if not rows:
        return NOTHING
    told = [
        (
            f"`{row['package']}`, {row['configurations']} configurations",
            f"{row['bytes'] / 1e6:.3g} MB",
            f"{row['rate_bps'] / 1e6:g}",
            _seconds(row["link_s"]),
            _seconds(statistics.median(row["fetch_s"])),
            _beyond(row["beyond_link"], row["link_s"]),
            _beyond(row["plain_beyond_link"], row["link_s"]),
            "held" if row["held"] else "missed",
        )
        for row in rows
    ]
    head = ("package", "bytes", "Mbit/s", "bytes ÷ rate", "fetch", "beyond bytes ÷ rate", "plain download, the same", "target")
    return markdown(head, told) + f"\n![seconds against rates](../{PICTURE.relative_to(ROOT)})\n"


def _first() -> str:
    found = [one for name in ("first_answer", "first_answer_resnet110") for one in [_read(name)] if one and "most_error" in one]
    rows = [row for one in found for row in one["rows"]]
    if not rows:
        return NOTHING
    head = ("package", "Mbit/s", "plain download, loaded and run", "first answer", "by configuration", "error", "times sooner")
    told = [
        (
            f"`{row['package']}`",
            f"{row['rate_bps'] / 1e6:g}",
            _seconds(statistics.median(row["plain_s"])),
            _seconds(statistics.median(row["first_answer_s"])),
            row["answers_by"]["configuration"],
            f"{row['error']:.1%}",
            f"{row['times_sooner']['median']:.1f} ({row['times_sooner']['min']:.1f} to {row['times_sooner']['max']:.1f})",
        )
        for row in rows
    ]
    return markdown(head, told)


def _upgrade() -> str:
    found = _read("upgrade_latency")
    if not found:
        return NOTHING
    head = (
        "package",
        "threads",
        "who fetches",
        "how",
        "upgrades",
        "answers",
        "failed",
        "p99, transfer",
        "p99, switch",
        "p99, after",
        "switch",
        "memory",
    )
    told = []
    for row in found:
        over = row["over_steady_p99"]
        tight = max(step["peak"] / step["running_and_next"] for step in row["memory"]["steps"])
        told.append(
            (
                f"`{row['package']}`",
                row["threads"],
                f"the {row['transfer']} process",
                f"`{row['how']}`",
                row["upgrades"],
                row["answers"],
                row["failed"] + row["neither_old_nor_new"],
                *(f"{one['p99']:.2f} ({one['p99_without_waits_for_a_processor']:.2f})" for one in over.values()),
                f"{row['switch_s']['median'] * 1e3:.0f} ms",
                f"{tight:.0%}",
            )
        )
    return markdown(head, told)


def draw() -> None:
    """What a fetch and a plain download take, against what the link takes."""
    from accordion.pictures.style import COLOURS, GREY, new_figure, plain, save

    rows = _read("transfer")
    names = sorted({row["package"] for row in rows}, key=lambda name: next(r["bytes"] for r in rows if r["package"] == name))
    figure = new_figure(1.7 * len(names) + 0.6, 2.6)
    first = None
    for index, name in enumerate(names):
        axes = first = figure.add_subplot(1, len(names), index + 1, sharey=first)
        mine = [row for row in rows if row["package"] == name]
        rates = [row["rate_bps"] / 1e6 for row in mine]
        axes.plot(rates, [row["allowed_s"] for row in mine], color=GREY, linestyle="--", label="target")
        for (key, label), colour, mark in zip((("plain_s", "plain download"), ("fetch_s", "fetch")), COLOURS, "os", strict=False):
            middle = [statistics.median(row[key]) for row in mine]
            spread = [[m - min(row[key]) for m, row in zip(middle, mine, strict=True)]]
            spread.append([max(row[key]) - m for m, row in zip(middle, mine, strict=True)])
            axes.errorbar(rates, middle, spread, color=colour, marker=mark, markersize=4, linewidth=1, label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_title(f"{name}\n{mine[0]['bytes'] / 1e6:.3g} MB", fontsize=8)
        axes.set_xlabel("Mbit/s")
        plain(axes)
        if index:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel("seconds")
            axes.legend(frameon=False, fontsize=7)
    save(figure, PICTURE)


def _read(name: str) -> Any:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else []


def _seconds(value: float) -> str:
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.2f} s"


def _beyond(share: dict[str, float], link_s: float) -> str:
    """Milliseconds, with their spread, and the share of the link's time."""
    middle, least, most = (share[name] * link_s * 1e3 for name in ("median", "least", "most"))
    return f"{middle:+.0f} ms ({least:+.0f} to {most:+.0f}), {share['median']:+.1%}"


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
    if _read("transfer"):
        draw()
