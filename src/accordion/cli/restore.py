"""`accordion restore PACKAGE -o RUN`: a run out of a float32 package."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from accordion.cli.console import Context
from accordion.cli.extras import extra

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "restore",
        help="make a run of a float32 package",
        description="Writes the ResNet in a float32 package as a finished and profiled run, to measure, finish or package it anew.",
    )
    parser.add_argument("package", metavar="PACKAGE[:TAG]", help="a package directory with a float32 version")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="RUN", help="run directory, new")
    parser.add_argument("--dataset", metavar="FILE.npz", help="the pictures it was trained on, where they are somebody's own")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Writes the run."""
    with extra("train"):
        from accordion.data import name_of
        from accordion.training import restore

    config = restore(arguments.package, arguments.out, dataset=arguments.dataset, progress=context.console.progress)
    document = {
        "run": str(arguments.out),
        "network": config.network,
        "dataset": name_of(config.dataset),
        "order": config.order_name,
    }
    lines = [
        f"wrote {arguments.out}: {config.network} on {name_of(config.dataset)}, order {config.order_name}",
        f"next: accordion package {arguments.out} -o PACKAGE --codec auto",
    ]
    context.console.result(document, lines)
    return 0
