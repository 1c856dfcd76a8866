"""`accordion shed MODEL --to K`: gives back the disk of what lies above K."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from accordion.cli import options
from accordion.cli.console import Context
from accordion.units import format_bytes

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "shed",
        help="give disk back",
        description="Deletes what only configurations above K need, and what arrived of the next one.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder")
    parser.add_argument("--to", type=options.index, required=True, metavar="K", help="the largest configuration to keep")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Sheds."""
    from accordion.device import shed

    configuration, freed = shed(arguments.model, arguments.to)
    value = {"configuration": configuration, "bytes_freed": freed}
    context.console.result(value, [f"configuration {configuration} is left, {format_bytes(freed)} given back"])
    return 0
