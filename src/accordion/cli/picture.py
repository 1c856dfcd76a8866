"""`accordion picture`: error against bytes, a timeline, or a lattice with its path."""

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
        "picture",
        help="draw error against bytes, a timeline or a lattice",
        description="Draws FILE.png and FILE.svg: error against bytes of packages, the timeline of a fetch or an upgrade, or depth "
        "and precision with the path that accordion package --codec auto took through them.",
    )
    parser.add_argument(
        "kind", metavar="KIND", choices=("ladder", "timeline", "lattice"), help="ladder (error against bytes), timeline or lattice"
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="packages, model folders or URL/NAME; the JSON of one timeline; or a run's lattice.json",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="where to draw; .png and .svg are written")
    parser.add_argument("--title", help="over the picture")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Draws, and names the files."""
    from accordion.errors import UsageError

    with extra("train"):
        from accordion.pictures import draw_error_against_bytes, draw_lattice, draw_timeline, read_lattice, read_timeline

    out: Path = arguments.out
    if not out.parent.is_dir():
        raise UsageError(f"there is no directory {out.parent} to draw in")
    if arguments.kind == "timeline":
        if len(arguments.sources) != 1:
            raise UsageError("a timeline picture shows one fetch or upgrade: name one file")
        drawn = draw_timeline(read_timeline(Path(arguments.sources[0])), out, title=arguments.title)
    elif arguments.kind == "lattice":
        if len(arguments.sources) != 1:
            raise UsageError("a lattice picture shows one run: name one file")
        drawn = draw_lattice(read_lattice(Path(arguments.sources[0])), out, title=arguments.title)
    else:
        from accordion.cli.source import open_source

        ladders = {source.label: source.ladder for source in map(open_source, arguments.sources)}
        if len(ladders) < len(arguments.sources):
            raise UsageError("two of these have the same name and could not be told apart")
        drawn = draw_error_against_bytes(ladders, out, title=arguments.title)
    context.console.result({"files": [str(path) for path in drawn]}, [f"drew {path}" for path in drawn])
    return 0
