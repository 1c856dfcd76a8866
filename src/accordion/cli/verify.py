"""`accordion verify PACKAGE|MODEL`: every digest, size and rule."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from accordion.cli.console import Context
from accordion.errors import ContentError

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "verify",
        help="check every digest, size and rule",
        description="Checks a package or a model against everything that was promised. Exit code 4 if something is wrong.",
    )
    parser.add_argument("path", type=Path, metavar="PACKAGE|MODEL", help="a package directory or a model folder")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """`{ok, problems}`, or a line for each problem."""
    from accordion.cli.source import kind_of

    path: Path = arguments.path
    kind = kind_of(path)
    problems = _package(path) if kind == "package" else _model(path)
    for problem in problems:
        context.console.progress(problem)
    lines = (
        [f"{path} is a sound {kind}"] if not problems else [f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}"]
    )
    context.console.result({"ok": not problems, "problems": problems}, lines)
    return ContentError.exit_code if problems else 0


def _package(path: Path) -> list[str]:
    from accordion.artifact.verify import verify_package

    return verify_package(path)


def _model(path: Path) -> list[str]:
    from accordion.device import verify_model

    return verify_model(path)
