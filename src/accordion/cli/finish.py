"""`accordion finish RUN -o RUN2`: more training, for a smaller encoding."""

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
        "finish",
        help="train on for a smaller encoding: quantized, pruned, or both",
        description="Trains all configurations of a finished run on, as they will be once packaged: with weights rounded, pruned "
        "away, or both. The same command goes on with a finishing that was stopped or killed.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="what accordion train wrote")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="RUN2", help="the new run directory")
    parser.add_argument("--quantize", metavar="PRECISION,…", help="int8, int4, int4+4, …; of several, one is drawn in each step")
    parser.add_argument(
        "--prune", type=options.fraction, default=0.0, metavar="SHARE", help="share of the weights to take away, such as 0.75"
    )
    parser.add_argument("--distill", type=options.number, default=0.5, help="how much the network as it was teaches, 0 to 1 (0.5)")
    parser.add_argument("--epochs", type=options.count, default=6, help="(6)")
    parser.add_argument("--learning-rate", type=options.number, default=0.01, help="(0.01)")
    parser.add_argument("--accelerator", default="auto", help="Lightning Fabric's: cpu, cuda, … (auto)")
    parser.add_argument(
        "--max-time", type=options.seconds, metavar="TIME", help="stop with a checkpoint after this time, such as 2h"
    )
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Finishes, and says how well the configurations do on the validation split, rounded and pruned."""
    with extra("train"):
        from accordion.packaging import rounding
        from accordion.training import Finishing, finish

    out: Path = arguments.out
    finishing = Finishing(
        quantize=tuple(filter(None, (arguments.quantize or "").split(","))), prune=arguments.prune, distill=arguments.distill
    )
    found = finish(
        arguments.run,
        out,
        finishing,
        rounding=rounding,
        epochs=arguments.epochs,
        learning_rate=arguments.learning_rate,
        accelerator=arguments.accelerator,
        progress=context.console.progress,
        max_seconds=arguments.max_time,
    )
    document = {"run": str(out), "validation_errors": list(found.errors), "seconds": found.seconds}
    lines = [
        f"finished {len(found.errors)} configurations in {out}",
        f"validation error: smallest {found.errors[0]:.2%}, complete {found.errors[-1]:.2%}",
        f"next: accordion profile {out}",
    ]
    context.console.result(document, lines)
    return 0
