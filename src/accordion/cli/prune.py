"""`accordion prune PACKAGE [--drop TAG]`: gives back the disk of versions and blobs that nobody needs any more."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from accordion.cli.console import Context
from accordion.units import format_bytes

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "prune",
        help="drop versions of a package, and what nothing needs",
        description="Deletes the blobs of a package that no version needs: those that a moved tag left behind, and with --drop "
        "those of the versions named; also what killed pulls have left, and writes that were killed more than a day ago. Devices "
        "that are in the middle of such a version can't go on with it. Not while something is being packaged or pulled into "
        "the package.",
    )
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="a package directory")
    parser.add_argument("--drop", action="append", default=[], metavar="TAG", help="a version to drop; once more for others")
    parser.add_argument("--dry-run", action="store_true", help="say what would be deleted, and delete nothing")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Prunes, and says what went."""
    from accordion.artifact.layout import Layout
    from accordion.artifact.prune import prune

    found = prune(Layout.open(arguments.package), arguments.drop, dry=arguments.dry_run)
    value = {
        "dropped": list(found.tags),
        "blobs": found.blobs,
        "unfinished": found.unfinished,
        "bytes_freed": found.bytes + found.unfinished_bytes,
    }
    would = "would be deleted" if arguments.dry_run else "deleted"
    lines = [f"{tag}: {'would be dropped' if arguments.dry_run else 'dropped'}" for tag in found.tags]
    lines.append(f"{found.blobs} blobs {would}, {format_bytes(found.bytes)}")
    if found.unfinished:
        lines.append(f"{found.unfinished} files of writes that were killed {would}, {format_bytes(found.unfinished_bytes)}")
    context.console.result(value, lines)
    return 0
