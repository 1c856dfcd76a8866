"""What `serving.py` measured as a table in docs/serving.md: `python benchmarks/serving_table.py [RESULTS] [DOCUMENT]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from documents import placed  # type: ignore[import-not-found]

ROOT = Path(__file__).parents[1]
RESULTS, DOCUMENT = ROOT / "benchmarks" / "results" / "serving.json", ROOT / "docs" / "serving.md"
COLUMNS = {
    "endpoint": "endpoint alone",
    "nginx, exported": "nginx over an export",
    "nginx before endpoint": "nginx, `--accel-redirect`",
}


def lines(value: dict[str, Any]) -> list[str]:
    """The table, and what the figures are, as lines of Markdown."""
    shown = [who for who in COLUMNS if any(who in found for found in value["ratios"].values())]
    made = [f"| what | peer | {' | '.join(COLUMNS[who] for who in shown)} |", "|---|---|" + "---:|" * len(shown)]
    for what, found in value["ratios"].items():
        peer = next(iter(value["requests_per_s"][what]))
        cells = [f"{one['median']:.2f} ({one['least']:.2f}–{one['most']:.2f})" if (one := found.get(who)) else "–" for who in shown]
        made.append(f"| {what} | {peer} | {' | '.join(cells)} |")
    rounds = len(next(iter(next(iter(value["requests_per_s"].values())).values())))
    held = ", ".join(f"{count / 2**20:.2f} MiB ({what})" for what, count in value["bytes_a_connection"].items())
    return [
        *value["how"],
        "",
        *made,
        "",
        f"Median of {rounds} rounds, least and most in brackets; {value['machine']}, a load of {value['load']:g} at the end, at "
        f"{value['commit'][:7]}. One more connection that",
        f"waits in the middle of a blob makes the endpoint hold {held} more.",
    ]


def fill(text: str, value: dict[str, Any]) -> str:
    """The document with the table in its place."""
    return str(placed(text, "serving", "\n".join(lines(value))))


def main() -> None:
    results, document = [*map(Path, sys.argv[1:]), *(RESULTS, DOCUMENT)[len(sys.argv) - 1 :]]
    document.write_text(fill(document.read_text(), json.loads(results.read_text())))


if __name__ == "__main__":
    main()
