"""`accordion fetch URL/NAME[:TAG] -o MODEL`: Steps 1 to 3."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from accordion.cli.console import Context
from accordion.cli.delivery import add_transfer, deliver
from accordion.cli.limits import add_limits, request_from
from accordion.device import fetch

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "fetch",
        help="fetch a model within limits",
        description="Fetches the configuration that the limits allow into a model folder. When the deadline passes, what is "
        "complete counts; with nothing complete the exit code is 3, and what arrived is kept. "
        "A fetch that was interrupted goes on.",
    )
    parser.add_argument("source", metavar="URL/NAME[:TAG]", help="a version at an endpoint, a registry or a file server")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="MODEL", help="model folder, new or from an earlier fetch")
    add_limits(parser)
    add_transfer(parser)
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Fetches."""
    request = request_from(arguments)
    return deliver(arguments, context, lambda **how: fetch(arguments.source, arguments.out, request, **how), arguments.out)
