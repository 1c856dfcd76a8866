"""`accordion pull URL/NAME[:TAG] -o PACKAGE`: a version from an OCI registry or an endpoint into a package directory."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from accordion.cli.console import Context
from accordion.cli.trusting import add_trust, trust_from
from accordion.units import format_bytes, format_seconds

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "pull",
        help="bring a package from a registry",
        description="Brings one whole version, and its signature, into a package directory; what is there is not fetched again. "
        "ACCORDION_REGISTRY_AUTH holds user:password where the registry wants it.",
    )
    parser.add_argument("source", metavar="URL/NAME[:TAG]", help="where from; the tag left out: latest, else the only one")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="PACKAGE", help="package directory, new or with other versions"
    )
    parser.add_argument("--tag", help="the version's name in PACKAGE (as at the registry)")
    add_trust(parser)
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Brings it, and says how much."""
    from accordion.registry import RegistryClient, Transferred, parse_reference, pull

    source, trust = parse_reference(arguments.source), trust_from(arguments)

    async def work() -> Transferred:
        async with RegistryClient(source) as client:
            return await pull(client, arguments.out, tag=arguments.tag, progress=context.console.progress, trust=trust)

    done = asyncio.run(work())
    signed = ", signed" if done.signed else ""
    lines = [
        f"pulled {done.name}:{done.reference} into {arguments.out} in {format_seconds(done.seconds)}: "
        f"{format_bytes(done.bytes_sent)} received, {format_bytes(done.bytes_reused)} there already{signed}",
        done.manifest,
    ]
    context.console.result({"package": str(arguments.out), **done.to_json()}, lines)
    return 0
