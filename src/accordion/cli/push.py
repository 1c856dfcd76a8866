"""`accordion push PACKAGE URL/NAME:TAG`: a version of a package to an OCI registry."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from accordion.cli.console import Context
from accordion.units import format_bytes, format_seconds

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "push",
        help="send a package to a registry",
        description="Sends one version of a package, and its signature, to an OCI registry; what is there is not sent again. "
        "ACCORDION_REGISTRY_AUTH holds user:password where the registry wants it.",
    )
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="a package directory")
    parser.add_argument("target", metavar="URL/NAME:TAG", help="where to; the tag left out: latest")
    parser.add_argument(
        "--reference", metavar="TAG", help="the version in PACKAGE, where it has another name than the target's tag"
    )
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Sends, and says how much."""
    from accordion.registry import RegistryClient, Transferred, parse_reference, push

    target = parse_reference(arguments.target)

    async def work() -> Transferred:
        async with RegistryClient(target) as client:
            return await push(arguments.package, client, version=arguments.reference, progress=context.console.progress)

    done = asyncio.run(work())
    signed = ", signed" if done.signed else ""
    lines = [
        f"pushed {done.name}:{done.reference} to {target.base} in {format_seconds(done.seconds)}: "
        f"{format_bytes(done.bytes_sent)} sent, {format_bytes(done.bytes_reused)} there already{signed}",
        done.manifest,
    ]
    context.console.result(done.to_json(), lines)
    return 0
