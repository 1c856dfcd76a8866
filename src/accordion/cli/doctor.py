"""`accordion doctor [URL/NAME]`: what is wrong with an installation, and what to do about it."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from accordion.cli.console import Context
from accordion.cli.finding import Finding

__all__ = ["add", "execute"]

MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="say what is wrong with an installation",
        description="Checks libraries, inference, disk, clock, credentials, certificates, and with an address the way to it. "
        "Exit code 1 if something can't work.",
    )
    parser.add_argument("source", nargs="?", metavar="URL/NAME[:TAG]", help="a package elsewhere that should be within reach")
    parser.add_argument("--folder", type=Path, default=Path(), metavar="DIR", help="where models are to be kept (the current one)")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """`{ok, checks: [{check, status, found, advice}]}`, or a line for each check."""
    from accordion.cli.doctor_machine import (
        check_clock,
        check_folder,
        check_limits,
        check_python,
        check_requirements,
        check_runtime,
        check_trust,
    )
    from accordion.cli.doctor_network import check_authorities, check_credentials
    from accordion.registry import parse_reference

    target = None if arguments.source is None else parse_reference(arguments.source)
    findings = [check_python(), *check_requirements(), check_runtime(), *check_folder(arguments.folder), check_clock()]
    findings += [check_limits(), check_trust(None if target is None else target.name), *check_credentials(), *check_authorities()]
    if target is not None:
        findings += asyncio.run(_way(target))
    problems = [finding for finding in findings if finding.status == "problem"]
    lines = [line for finding in findings for line in _lines(finding)]
    lines.append("all is well" if not problems else f"{len(problems)} problem{'s' if len(problems) > 1 else ''}")
    context.console.result({"ok": not problems, "checks": [finding.to_json() for finding in findings]}, lines)
    return 1 if problems else 0


async def _way(target: Any) -> list[Finding]:
    from accordion.cli.doctor_network import check_way

    return [finding async for finding in check_way(target)]


def _lines(finding: Finding) -> list[str]:
    lines = [f"{MARKS[finding.status]} {finding.check}: {finding.found}"]
    return lines if not finding.advice else [*lines, f"        {finding.advice}"]
