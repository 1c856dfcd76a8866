"""`accordion verify PACKAGE|MODEL`: every digest, size and rule."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accordion.cli.console import Context
from accordion.cli.trusting import add_trust, trust_from
from accordion.errors import ContentError, FormatError, UsageError

if TYPE_CHECKING:
    from accordion.trust import Trust

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "verify",
        help="check every digest, size and rule",
        description="Checks a package or a model against everything that was promised, signatures too where this device is told "
        "what to trust. Exit code 4 if something is wrong.",
    )
    parser.add_argument("path", type=Path, metavar="PACKAGE|MODEL", help="a package directory or a model folder")
    parser.add_argument("--name", help="the name under which devices ask for the package (the directory's own)")
    add_trust(parser)
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """`{ok, problems}`, or a line for each problem."""
    from accordion.cli.source import kind_of

    path: Path = arguments.path
    trust = trust_from(arguments)
    kind = "package"
    try:
        kind = kind_of(path)
        if kind == "model" and arguments.name is not None:
            raise UsageError(f"{path} is a model, which knows what it was fetched as: --name is for packages")
        problems = _package(path, trust, arguments.name) if kind == "package" else _model(path, trust)
    except FormatError as error:  # it is neither: for whoever reads documents that is a finding as any other
        if not context.console.as_json:
            raise
        problems = [str(error)]
    for problem in problems:
        context.console.progress(problem)
    lines = (
        [f"{path} is a sound {kind}"] if not problems else [f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}"]
    )
    context.console.result({"ok": not problems, "problems": problems}, lines)
    return ContentError.exit_code if problems else 0


def _package(path: Path, trust: Trust | None, name: str | None) -> list[str]:
    from accordion.artifact.layout import Layout
    from accordion.artifact.verify import verify_package

    problems = verify_package(path)
    return problems if problems or trust is None else trust.examine(Layout.open(path), name or path.resolve().name)


def _model(path: Path, trust: Trust | None) -> list[str]:
    from accordion.device import verify_model

    return verify_model(path, trust=trust)
