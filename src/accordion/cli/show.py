"""`accordion show PACKAGE|MODEL|URL/NAME`: the ladder as a table."""

from __future__ import annotations

import argparse
from typing import Any

from accordion.cli import options
from accordion.cli.console import Context
from accordion.cli.table import ladder_table
from accordion.units import format_bytes

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "show", help="the ladder as a table", description="Shows what each configuration costs and how good it was measured to be."
    )
    parser.add_argument("source", metavar="PACKAGE|MODEL|URL/NAME", help="a package directory, a model folder, or one elsewhere")
    parser.add_argument("--reference", type=options.reference, metavar="TAG", help="which version (latest, else the only one)")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """The table; or the ladder's own JSON, with the digest of the manifest, and of a model the largest configuration here."""
    from accordion.cli.source import open_source

    source = open_source(arguments.source, arguments.reference)
    head = f"{source.label}: {len(source.ladder)} configurations, {format_bytes(source.ladder.configurations[-1].bytes)} complete"
    others = f"other versions here: {', '.join(source.others)}"
    lines = [head, source.manifest.digest, *([others] if source.others else []), ""]
    lines += ladder_table(source.ladder, complete=source.complete)
    here = {} if source.complete is None else {"complete": source.complete}
    context.console.result({**source.ladder.to_json(), "manifest": source.manifest.digest, **here}, lines)
    return 0
