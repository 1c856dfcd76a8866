"""`accordion run MODEL INPUT…`: all of the model, or a fraction."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from accordion.cli import options
from accordion.cli.answers import answer_lines, as_lists
from accordion.cli.console import Context

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "run",
        help="run a model, or a fraction of it",
        description="Runs the largest complete configuration, or the one asked for, on arrays (.npy, .npz) or pictures.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="FILE, or NAME=FILE where the network has several inputs")
    parser.add_argument("--configuration", type=options.index, metavar="K", help="this configuration")
    parser.add_argument("--max-macs", type=options.count, metavar="M", help="the best within so many multiply-accumulates: 50e6")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Runs, and says what came out."""
    raise NotImplementedError
