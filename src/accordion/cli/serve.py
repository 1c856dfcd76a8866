"""`accordion serve DIR…`: the endpoint over packages."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from accordion.cli import options
from accordion.cli.console import Context, document
from accordion.cli.extras import extra

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "serve",
        help="the endpoint over packages",
        description="Serves packages until it is told to stop (Ctrl-C). A package has its directory's own name, or its path "
        "below a DIR that holds several.",
    )
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="a package, or a folder that holds packages")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    parser.add_argument("--port", type=options.port, default=8080, help="port to listen at, 0 for any free one (8080)")
    parser.add_argument("--workers", type=options.count, default=1, help="processes (1)")
    parser.add_argument(
        "--capacity", type=options.bits_per_second, metavar="RATE", help="what the line carries: near it, plans save bytes (1Gbps)"
    )
    parser.add_argument(
        "--request-log", type=Path, metavar="FILE", help="append each plan request, with nothing that identifies a device"
    )
    parser.add_argument(
        "--request-log-size", type=options.data, metavar="SIZE", help="how long that file may become; one older is kept (64MiB)"
    )
    parser.add_argument("--tuf", type=Path, metavar="REPO", help="serve a TUF repository's files too, under /tuf/")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Serves. With --json, the document on standard output says the URL as soon as the endpoint answers."""
    with extra("endpoint"):
        from accordion.endpoint import serve
        from accordion.endpoint.request_log import LOG_BYTES

    def ready(url: str) -> None:
        context.console.progress(f"serving at {url}")
        if context.console.as_json:
            print(document({"url": url}), flush=True)

    serve(
        arguments.directories,
        arguments.host,
        arguments.port,
        workers=arguments.workers,
        capacity_bps=arguments.capacity,
        on_ready=ready,
        request_log=arguments.request_log,
        request_log_bytes=arguments.request_log_size or LOG_BYTES,
        tuf=arguments.tuf,
    )
    return 0
