"""`accordion export PACKAGE DIR`: a static folder that any file server can carry."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from accordion.cli.console import Context
from accordion.cli.extras import extra
from accordion.units import format_bytes

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "export",
        help="write a static folder for any file server",
        description="Writes every version of a package as plain files under the protocol's paths, for any file server.",
    )
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="a package directory")
    parser.add_argument("directory", type=Path, metavar="DIR", help="new, or with earlier exports, to which this one is added")
    parser.add_argument("--name", help="under which it is fetched, parts joined by '/' (the package directory's own)")
    parser.add_argument("--tuf", type=Path, metavar="REPO", help="write a TUF repository's files too, under tuf/")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Writes, and says what."""
    from accordion.artifact.layout import Layout

    with extra("endpoint"):
        from accordion.endpoint import export

    Layout.open(arguments.package)
    written = export(arguments.package, arguments.directory, name=arguments.name)
    if arguments.tuf is not None:
        from accordion.endpoint.tuf_export import export_tuf

        written += export_tuf(arguments.tuf, arguments.directory)
    name = arguments.name or arguments.package.resolve().name
    size = sum(path.stat().st_size for path in written)
    document = {"name": name, "directory": str(arguments.directory), "files": len(written), "bytes": size}
    lines = [
        f"wrote {name} to {arguments.directory}: {len(written)} files, {format_bytes(size)}",
        f"serve the folder with any file server, then: accordion fetch http://HOST:PORT/{name} -o MODEL",
    ]
    context.console.result(document, lines)
    return 0
