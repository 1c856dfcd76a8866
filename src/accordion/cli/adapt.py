"""`accordion adapt RUN`: lets each configuration learn what it has of its own, with the weights as they are."""

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
        "adapt",
        help="let each configuration learn what it has of its own",
        description="Trains, for each configuration of a finished training by itself, the factors and shifts of its batch norms "
        "(where it has statistics of its own) and, for the smallest, a head of their own; all other weights stay, and so does the "
        "complete configuration. What does not lower the validation error is dropped. Profile the run after it; `accordion "
        "calibrate` goes back.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="what accordion train wrote")
    parser.add_argument("--epochs", type=options.count, default=2, metavar="N", help="for each configuration (2)")
    parser.add_argument("--learning-rate", type=options.number, default=0.05, metavar="RATE", help="at the beginning (0.05)")
    parser.add_argument(
        "--heads",
        type=options.index,
        metavar="N",
        help="how many of the smallest configurations get a head (as many as take 1%% of the complete network's parameters)",
    )
    parser.add_argument(
        "--smallest", type=options.count, metavar="N", help="adapt the N smallest configurations alone, which gain most (all)"
    )
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), help="of the arithmetic (as in the training)")
    parser.add_argument(
        "--max-time", type=options.seconds, metavar="TIME", help="stop after this time, such as 2h; done configurations are kept"
    )
    parser.add_argument("--accelerator", default="auto", help="Lightning Fabric's: cpu, cuda, … (auto)")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Adapts, and says what it changed on the validation split."""
    with extra("train"):
        from accordion.training import adapt

    found = adapt(
        arguments.run,
        epochs=arguments.epochs,
        learning_rate=arguments.learning_rate,
        heads=arguments.heads,
        smallest=arguments.smallest,
        precision=arguments.precision,
        accelerator=arguments.accelerator,
        progress=context.console.progress,
        max_seconds=arguments.max_time,
    )
    document = {
        "run": str(arguments.run),
        "configurations": list(found.configurations),
        "validation_errors_before": list(found.before),
        "validation_errors": list(found.after),
        "kept": list(found.kept),
        "heads": list(found.heads),
        "changed_values": found.changed_values,
    }
    lines = ["configuration   before    after   (validation error)"]
    for k, before, after in zip(found.configurations, found.before, found.after, strict=True):
        note = "with a head of its own" if k in found.heads else "" if k in found.kept else "as it was"
        lines.append(f"{k:13d} {before:8.2%} {after:8.2%}   {note}".rstrip())
    lines += [f"{found.changed_values} values differ between configurations", f"next: accordion profile {arguments.run}"]
    context.console.result(document, lines)
    return 0
