"""`accordion upgrade MODEL`: Steps 4 to 6, only what is missing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from accordion.cli import options
from accordion.cli.console import Context
from accordion.cli.delivery import add_transfer, deliver
from accordion.cli.limits import add_limits, request_from
from accordion.device import upgrade

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "upgrade",
        help="fetch what a better configuration lacks",
        description="Fetches only what is missing for a better configuration, or for another version, taken over in one step.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder")
    parser.add_argument("--to", type=options.index, metavar="K", help="this configuration")
    parser.add_argument("--reference", type=options.reference, metavar="TAG", help="another version")
    add_limits(parser)
    add_transfer(parser)
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Upgrades."""
    request = request_from(arguments, reference=arguments.reference)
    return deliver(arguments, context, lambda **how: upgrade(arguments.model, request, to=arguments.to, **how), arguments.model)
