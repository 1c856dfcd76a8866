"""`accordion profile RUN`: measures the ladder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from accordion.cli import options
from accordion.cli.console import Context
from accordion.cli.extras import extra
from accordion.cli.table import profile_table

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "profile",
        help="measure the ladder of a run",
        description="Measures every configuration of a finished training: quality with interval, parameters, operations, latency.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="what accordion train wrote")
    parser.add_argument("--split", default="test", help="test (the default), or validation while something is still being chosen")
    parser.add_argument("--samples", type=options.count, metavar="N", help="measure the quality on so many pictures only")
    parser.add_argument("--no-latency", action="store_true", help="do not time the configurations on this machine")
    parser.add_argument(
        "--energy", action="store_true", help="measure joules for one picture, where the machine counts them (RAPL)"
    )
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Measures and shows the ladder."""
    with extra("train"):
        from accordion.profiling import profile

    found = profile(
        arguments.run,
        split=arguments.split,
        device_latency=not arguments.no_latency,
        energy=arguments.energy,
        limit=arguments.samples,
        progress=context.console.progress,
    )
    lines = [*profile_table(found.ladder), "", f"next: accordion package {arguments.run} -o PACKAGE"]
    context.console.result(found.ladder, lines)
    return 0
