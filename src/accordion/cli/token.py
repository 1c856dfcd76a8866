"""`accordion token NAME --file TOKENS`: a new token for an endpoint's callers."""

from __future__ import annotations

import argparse
import json
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from accordion.artifact.atomic import held
from accordion.cli import options
from accordion.cli.console import Context
from accordion.cli.extras import extra
from accordion.errors import StorageError, UsageError

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "token",
        help="make a token for an endpoint's callers",
        description="Makes a token and adds its hash to the file that `accordion serve --tokens` reads. The token is printed once, "
        "and is nowhere else; a running endpoint notices the change. To revoke a token: --remove.",
    )
    parser.add_argument("name", help="what to call it: letters, digits, '.', '_' and '-'")
    parser.add_argument("--file", type=Path, required=True, metavar="TOKENS", help="the file, new or with other tokens")
    parser.add_argument(
        "--packages", action="append", default=[], metavar="PATTERN", help="for these, '*' for any characters; several times (*)"
    )
    parser.add_argument("--rights", default="pull,plan", metavar="LIST", help="of pull, plan and metrics (pull,plan)")
    parser.add_argument("--days", type=options.count, metavar="N", help="how long it is valid (until it is removed)")
    parser.add_argument("--remove", action="store_true", help="remove the token of this name instead")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Makes or removes a token. With --json: {name, token, packages, rights, expires}."""
    path: Path = arguments.file.resolve()  # a link to it stays one
    with held(path.parent):  # who adds and who revokes at the same time must not undo each other
        return _change(path, arguments, context)


def _change(path: Path, arguments: argparse.Namespace, context: Context) -> int:
    with extra("endpoint"):
        from accordion.endpoint.tokens import Tokens, make_token
    before = _read(path)
    known = [grant.name for grant in Tokens.parse(json.dumps(before).encode(), str(path)).grants]
    if arguments.remove:
        if arguments.name not in known:
            raise UsageError(f"{path} has no token {arguments.name!r:.80}")
        _write(path, {**before, "tokens": [row for row in before["tokens"] if row["name"] != arguments.name]})
        context.console.result({"name": arguments.name, "removed": True}, [f"removed {arguments.name} from {path}"])
        return 0
    if arguments.name in known:
        raise UsageError(f"{path} has a token {arguments.name!r} already: remove it first, or choose another name")
    try:
        expires = None if arguments.days is None else datetime.now(UTC).replace(microsecond=0) + timedelta(days=arguments.days)
    except OverflowError as error:
        raise UsageError(f"{arguments.days} days go beyond the calendar's end: leave --days out for a token without one") from error
    rights = [right.strip() for right in arguments.rights.split(",") if right.strip()]
    token, grant = make_token(arguments.name, arguments.packages or ["*"], rights, expires)
    row = grant.to_json()
    _write(path, {**before, "tokens": [*before["tokens"], row]})
    context.console.progress(f"added {grant.name} to {path}; this is the token, which nothing keeps:")
    shown = {
        "name": grant.name,
        "token": token,
        "packages": row["packages"],
        "rights": row["rights"],
        "expires": row.get("expires"),
    }
    context.console.result(shown, [token])
    return 0


def _read(path: Path) -> dict[str, Any]:
    from accordion.artifact.strict_json import parse_object
    from accordion.endpoint.tokens import FILE_LIMIT

    try:
        with path.open("rb") as stream:
            raw = stream.read(FILE_LIMIT + 1)
    except FileNotFoundError:
        return {"tokens": []}
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror or error}") from error
    return parse_object(raw, str(path), FILE_LIMIT)


def _write(path: Path, value: dict[str, Any]) -> None:
    """Replaces the file in one step. Who could read it still can: the endpoint, for one. A new one is its maker's alone."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            if path.exists():
                _take_after(stream.fileno(), path.stat())
            stream.write(json.dumps(value, indent=2) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(new, path)  # noqa: PTH105
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror or error}") from error


def _take_after(handle: int, before: os.stat_result) -> None:
    """Gives an open file the mode, the group and the owner of another, as far as this user may."""
    with suppress(PermissionError):
        os.fchown(handle, -1, before.st_gid)
    os.fchmod(handle, before.st_mode & 0o777)
    with suppress(PermissionError):
        os.fchown(handle, before.st_uid, -1)
