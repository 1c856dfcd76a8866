"""`accordion sign PACKAGE --key FILE`: says of a version that it is what it is, beside it in the package."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from accordion.cli import options
from accordion.cli.console import Context
from accordion.cli.trusting import password_from, read_private
from accordion.errors import UsageError

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "sign",
        help="sign a version of a package",
        description="Signs a version's manifest, and with it every prefix, in cosign's form. Left out, the version is latest, else "
        "the only one; of several forms of one network, each is signed. The signature says the package's name, the tags that it "
        "has, and how new it is, so that a device never goes back. An earlier signature by the same key is replaced, others stay.",
    )
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="a package directory")
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="private key")
    parser.add_argument("--reference", type=options.reference, metavar="TAG", help="which version (latest, else the only one)")
    parser.add_argument("--name", help="the name under which devices will ask for it (the directory's own)")
    parser.add_argument(
        "--tag",
        action="append",
        default=[],
        help="a tag that it holds for; once more for others (all it has here, and latest if --reference is left out)",
    )
    parser.add_argument("--sequence", type=options.index, metavar="N", help="larger for what is newer (seconds since 1970)")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="its first line is the private key's password")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Signs, and says what."""
    from accordion.artifact.layout import Layout, check_tag
    from accordion.artifact.names import is_name
    from accordion.trust.signature import add_signature
    from accordion.trust.statement import DEFAULT_TAG, Statement

    for tag in arguments.tag:
        check_tag(tag)
    layout = Layout.open(arguments.package)
    name = arguments.name or arguments.package.resolve().name
    if not is_name(name):
        raise UsageError(
            f"{name!r:.100} can't be signed for, since nobody can ask for it: rename the folder, or give --name (letters, digits, "
            "'.', '_' and '-', parts joined by '/')"
        )
    for tag in arguments.tag:
        if tag not in layout.tags():
            context.console.progress(f"{arguments.package} has no version {tag}: the signature will hold once it has")
    key = read_private(arguments.key, password_from(arguments.password_file))
    now = int(time.time())
    sequence = now if arguments.sequence is None else arguments.sequence
    done = []
    for reference in _versions(layout, arguments.reference):
        manifest = layout.manifest(reference)
        tags = tuple(arguments.tag or (tag for tag, one in layout.tags().items() if one.digest == manifest.digest))
        if not arguments.tag and arguments.reference is None and DEFAULT_TAG not in tags:
            tags = (*tags, DEFAULT_TAG)  # a device that names no tag gets it, as a form of the network or as the only version
        signature = add_signature(layout, manifest, Statement(manifest.digest, name, tags, sequence), key, now)
        done.append({"manifest": manifest.digest, "tags": list(tags), "signature": signature})
    lines = [f"signed {name} as {', '.join(row['tags']) or 'any tag'}: {row['manifest']}" for row in done]
    context.console.result({"name": name, "key": key.public.fingerprint, "sequence": sequence, "signed": done}, lines)
    return 0


def _versions(layout: Any, reference: str | None) -> list[str | None]:
    """Which versions: the one that is named, else all forms of the network, which are equally new, else the usual one."""
    from accordion.planning.choice import relatives

    if reference is not None:
        return [reference]
    ladders = {}
    for tag in layout.tags():
        ladders[tag] = layout.ladder(layout.manifest(tag))
    return list(relatives(ladders, prefers=True)) or [None]
