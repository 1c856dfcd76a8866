"""`accordion calibrate RUN`: measures the batch-norm statistics of a finished training again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from accordion.cli import options
from accordion.cli.console import Context
from accordion.cli.extras import extra

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "calibrate",
        help="measure batch-norm statistics again",
        description="Measures the batch-norm statistics of a finished training again, for all configurations or for each, and "
        "keeps them in the run. Profile the run after it.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="what accordion train wrote")
    parser.add_argument(
        "--norms",
        default="per-configuration",
        metavar="WHOSE",
        help="per-configuration (the default), shared, a number of groups of configurations, or running (the training's own)",
    )
    parser.add_argument("--pictures", type=options.count, default=8000, metavar="N", help="training pictures to measure on (8000)")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Calibrates, and says what it changed on the validation split."""
    with extra("train"):
        from accordion.training import calibrate

    norms = "configuration" if arguments.norms == "per-configuration" else arguments.norms
    found = calibrate(arguments.run, norms=norms, pictures=arguments.pictures, progress=context.console.progress)
    document = {
        "run": str(arguments.run),
        "norms": norms,
        "configurations": list(found.configurations),
        "validation_errors_before": list(found.before),
        "validation_errors": list(found.after),
        "changed_values": found.changed_values,
    }
    rows = zip(found.configurations, found.before, found.after, strict=True)
    lines = [
        "configuration   before    after   (validation error)",
        *(f"{k:13d} {before:8.2%} {after:8.2%}" for k, before, after in rows),
        f"{found.changed_values} values differ between configurations",
        f"next: accordion profile {arguments.run}",
    ]
    context.console.result(document, lines)
    return 0
