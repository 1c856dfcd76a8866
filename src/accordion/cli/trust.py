"""`accordion trust add|tuf|list|remove`: what this device trusts."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accordion.cli import options
from accordion.cli.console import Context
from accordion.cli.trusting import add_trust

if TYPE_CHECKING:
    from accordion.trust import Trust

__all__ = ["add", "execute"]

EVERYTHING = "*"


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "trust",
        help="say what this device trusts",
        description="From the first rule on, this device installs and runs nothing that no rule vouches for. A rule is for "
        "names or patterns of names (team/*); for a name counts the rule that names it, else the one with the longest pattern.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    keys = actions.add_parser("add", help="trust a public key")
    keys.add_argument("keys", type=Path, metavar="PUB", help="public key")
    keys.add_argument("names", nargs="*", default=[EVERYTHING], metavar="NAME", help="for these names (all)")
    keys.add_argument("--also", type=Path, action="append", default=[], metavar="PUB", help="another key that may sign")
    keys.add_argument("--threshold", type=options.count, metavar="N", help="how many keys have to sign (1)")
    tuf = actions.add_parser("tuf", help="trust a TUF repository")
    tuf.add_argument("root", type=Path, metavar="ROOT", help="its root metadata (1.root.json), from somebody you trust")
    tuf.add_argument("url", metavar="URL", help="where its metadata lies: https://…, http://… or file:///…")
    tuf.add_argument("names", nargs="*", default=[EVERYTHING], metavar="NAME", help="for these names (all)")
    tuf.add_argument(
        "--after-expiry",
        choices=["run", "refuse"],
        default="run",
        help="what installed models do once it has expired (run)",
    )
    show = actions.add_parser("list", help="show the rules")
    remove = actions.add_parser("remove", help="trust a rule's names, or a key, no longer")
    remove.add_argument("what", metavar="NAME|FINGERPRINT", help="a rule's names as `list` shows them, or a key's fingerprint")
    for action in (keys, tuf, show, remove):
        add_trust(action)
        action.add_argument("--json", action="store_true", help="one JSON document on standard output")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Changes the rules, or shows them."""
    from accordion.artifact.bounded import read_file
    from accordion.trust import Trust
    from accordion.trust.files import locked
    from accordion.trust.keys import KEY_LIMIT
    from accordion.trust.rules import RULES_LIMIT, Repository, Rules
    from accordion.trust.trust import VARIABLE

    place = Trust.place(arguments.trust)
    if arguments.action == "list":
        trust = Trust.configured(arguments.trust) or Trust(place, Rules())
        context.console.result({"file": str(place), **trust.rules.to_json()}, _lines(trust))
        return 0
    with locked(place.with_name(place.name + ".lock")):
        trust = Trust.open(place) if place.exists() else Trust(place, Rules())
        if arguments.action == "add":
            keys = [read_file(path, KEY_LIMIT) for path in (arguments.keys, *arguments.also)]
            trust.add_keys(arguments.names, keys, arguments.threshold)
        elif arguments.action == "tuf":
            root = read_file(arguments.root, RULES_LIMIT).decode(errors="replace")
            trust.add_repository(arguments.names, Repository(arguments.url, root, arguments.after_expiry))
        else:
            trust.rules = trust.rules.without(arguments.what)
        trust.save()
    lines = _lines(trust)
    if not trust.rules.rules and (arguments.trust is not None or os.environ.get(VARIABLE)):
        how = "leave --trust out" if arguments.trust is not None else f"unset {VARIABLE}"
        lines = [f"{place} is gone with the last rule: {how}, since a file that is named and missing stops everything"]
    context.console.result({"file": str(place), **trust.rules.to_json()}, lines)
    return 0


def _lines(trust: Trust) -> list[str]:
    """The rules for people."""
    lines = [f"{trust.path}: " + ("only this runs" if trust.rules.rules else "there are no rules, so everything runs")]
    for rule in trust.rules.rules:
        if rule.repository is not None:
            after = "" if rule.repository.after_expiry == "run" else "; nothing runs after it has expired"
            lines.append(f"{rule.names}: what {rule.repository.url} lists{after}")
        else:
            lines.append(f"{rule.names}: signed by {rule.threshold} of {', '.join(str(key) for key in rule.keys)}")
    return lines
