"""`accordion plan URL/NAME[:TAG]|PACKAGE`: says what would be sent, sends nothing."""

from __future__ import annotations

import argparse
from typing import Any

from accordion.cli.console import Context
from accordion.cli.limits import add_limits, request_from
from accordion.cli.table import quality_text
from accordion.planning.plan import Plan
from accordion.units import format_bytes, format_seconds

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "plan",
        help="say what would be sent, send nothing",
        description="Asks an endpoint, or works out from a package, which configuration the limits allow and what it would cost.",
    )
    parser.add_argument("source", metavar="URL/NAME[:TAG]|PACKAGE", help="a version at an endpoint, or a package directory")
    parser.add_argument("--reference", metavar="TAG", help="which version (latest, else the only one)")
    parser.add_argument("--held", metavar="MODEL", help="a model folder: plan its upgrade")
    add_limits(parser)
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """The plan."""
    plan = _plan(arguments)
    whole = f" of {format_bytes(plan.bytes_total)}" if plan.bytes_total != plan.bytes_to_send else ""
    expected = format_seconds(plan.expected_s)
    lines = [
        f"configuration {plan.configuration} of {plan.name}: {quality_text(plan.quality)}",
        f"{format_bytes(plan.bytes_to_send)}{whole} to send in {len(plan.layers)} layers, {expected} expected",
        plan.manifest,
    ]
    context.console.result(plan.to_json(), lines)
    return 0
