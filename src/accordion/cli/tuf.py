"""`accordion tuf init|add|remove|renew|rotate|list`: a TUF repository over packages, with keys that need no network."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accordion.cli.console import Context
from accordion.cli.extras import extra
from accordion.cli.key import write_private
from accordion.cli.trusting import PASSWORD, password_from, read_private
from accordion.errors import AccordionError, StorageError, UsageError
from accordion.trust.metadata import ROLES

if TYPE_CHECKING:
    from accordion.trust.keys import PrivateKey
    from accordion.trust.tuf_repository import TufRepository

__all__ = ["add", "execute"]

DAY_S = 86_400


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "tuf",
        help="keep a TUF repository over packages",
        description="A folder of signed lists (The Update Framework): which manifest each NAME:TAG means, for how long that holds, "
        f"and which keys say so. Any file server can carry it, and `serve` and `export` do with --tuf. {PASSWORD} or "
        "--password-file holds the password of encrypted keys.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    made = {
        "init": actions.add_parser("init", help="a new repository, with keys for each role"),
        "add": actions.add_parser("add", help="list a package's versions"),
        "remove": actions.add_parser("remove", help="list a version no longer"),
        "renew": actions.add_parser("renew", help="sign a role again before it expires"),
        "rotate": actions.add_parser("rotate", help="new keys for a role; the old ones are trusted no longer"),
        "list": actions.add_parser("list", help="show what is listed"),
    }
    for name, action in made.items():
        action.add_argument("repository", type=Path, metavar="REPO", help="the repository's folder")
        if name != "list":
            action.add_argument(
                *("--keys", "-k"),
                type=Path,
                action="append",
                required=True,
                metavar="DIR",
                help="private keys; once more for more",
            )
            action.add_argument("--password-file", type=Path, metavar="FILE", help="its first line is the keys' password")
        action.add_argument("--json", action="store_true", help="one JSON document on standard output")
    help_ = "ROLE=N: N keys of a role have to sign, and so many are made (1)"
    made["init"].add_argument("--threshold", action="append", default=[], metavar="ROLE=N", help=help_)
    help_ = "ROLE=DAYS: for how long a role's word holds (root 365, targets 365, snapshot 30, timestamp 7)"
    made["init"].add_argument("--days", action="append", default=[], metavar="ROLE=DAYS", help=help_)
    made["add"].add_argument("package", type=Path, metavar="PACKAGE", help="a package directory")
    made["add"].add_argument("--name", help="the name under which devices will ask for it (the directory's own)")
    made["add"].add_argument("--reference", metavar="TAG", help="only this version (all)")
    made["remove"].add_argument("target", metavar="NAME:TAG", help="what is listed no longer")
    made["renew"].add_argument("roles", nargs="*", metavar="ROLE", help="timestamp (if left out), snapshot, targets or root")
    made["rotate"].add_argument("role", choices=ROLES, metavar="ROLE", help="root, targets, snapshot or timestamp")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Changes the repository, or shows it."""
    with extra("tuf"):
        import tuf.api.metadata  # noqa: F401
    from accordion.trust.tuf_repository import TufRepository

    if arguments.action == "init":
        repository = _init(arguments)
    else:
        keys = [] if arguments.action == "list" else _keys(arguments.keys, password_from(arguments.password_file))
        repository = TufRepository(arguments.repository, keys)
        _change(repository, arguments)
    listed = repository.targets()
    lines = [f"{path.rpartition('/')[0]}:{path.rpartition('/')[2]} is {digest}" for path, digest in listed.items()]
    value = {"repository": str(arguments.repository), "listed": listed, "expires": repository.expires()}
    lines += [f"{role} holds until {text}" for role, text in value["expires"].items()]  # type: ignore[attr-defined]
    context.console.result(value, lines)
    return 0


def _change(repository: TufRepository, arguments: argparse.Namespace) -> None:
    if arguments.action == "add":
        from accordion.artifact.layout import Layout, check_tag

        layout = Layout.open(arguments.package)
        name = arguments.name or arguments.package.resolve().name
        tags = [check_tag(arguments.reference)] if arguments.reference is not None else list(layout.tags())
        manifests = {tag: layout.manifest(tag) for tag in tags}
        repository.add({f"{name}/{tag}": (manifest.digest, manifest.size) for tag, manifest in manifests.items()})
    elif arguments.action == "remove":
        name, colon, tag = arguments.target.rpartition(":")
        if not colon:
            raise UsageError(f"{arguments.target!r:.100} names no tag: write NAME:TAG")
        repository.remove(f"{name}/{tag}")
    elif arguments.action == "renew":
        roles = arguments.roles or ["timestamp"]
        if unknown := [role for role in roles if role not in ROLES]:
            raise UsageError(f"{unknown[0]!r:.40} is no role: {', '.join(ROLES)}")
        repository.renew(roles)
    elif arguments.action == "rotate":
        threshold, count = repository.keys_of(arguments.role)
        made = _make(arguments.keys[0], arguments.role, count, password_from(arguments.password_file))
        with _discarded_if_unused(made):
            repository.change_keys(arguments.role, list(made.values()), threshold)


def _init(arguments: argparse.Namespace) -> TufRepository:
    from accordion.trust.tuf_repository import TufRepository

    thresholds, days = _by_role(arguments.threshold, "--threshold"), _by_role(arguments.days, "--days")
    folder = arguments.keys[0]
    password = password_from(arguments.password_file)
    if arguments.repository.exists() and any(arguments.repository.iterdir()):
        raise UsageError(f"{arguments.repository} is not empty: name a new folder for the repository")
    made = {role: _make(folder, role, thresholds.get(role, 1), password) for role in ROLES}
    with _discarded_if_unused(path for some in made.values() for path in some):
        keys = {role: list(some.values()) for role, some in made.items()}
        return TufRepository.create(arguments.repository, keys, thresholds, {role: DAY_S * count for role, count in days.items()})


def _by_role(texts: Sequence[str], option: str) -> dict[str, int]:
    found = {}
    for text in texts:
        role, _, number = text.partition("=")
        if role not in ROLES or not (number.isascii() and number.isdigit() and 0 < int(number[:9]) <= 36500):
            raise UsageError(f"{option} {text!r:.60}: write ROLE=N, with a role of {', '.join(ROLES)} and a whole number from 1 up")
        found[role] = int(number)
    return found


def _make(folder: Path, role: str, count: int, password: bytes | None) -> dict[Path, PrivateKey]:
    """New keys, written as `ROLE-1.key` and so on, under numbers that are free; each by its file."""
    from accordion.trust.keys import ED25519, make_key

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"can't make {folder}: {error.strerror or error}") from error
    made: dict[Path, PrivateKey] = {}
    number = 1
    for _ in range(count):
        while (folder / f"{role}-{number}.key").exists():
            number += 1
        path, key = folder / f"{role}-{number}.key", make_key(ED25519)
        write_private(path, key.to_pem(password))
        made[path] = key
    return made


@contextmanager
def _discarded_if_unused(files: Iterable[Path]) -> Iterator[None]:
    """New keys are written before the repository speaks of them, lest they be lost; where it never does, they go again."""
    try:
        yield
    except AccordionError:
        for path in files:
            path.unlink(missing_ok=True)
        raise


def _keys(folders: Sequence[Path], password: bytes | None) -> list[PrivateKey]:
    """Every private key in these folders. UsageError where there is none."""
    found = []
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}")
        found += [read_private(path, password) for path in sorted(folder.glob("*.key"))]
    if not found:
        raise UsageError(f"there is no key in {', '.join(map(str, folders))}")
    return found
