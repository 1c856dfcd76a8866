"""`--trust FILE`, and private keys with their passwords, for the commands that need them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from accordion.errors import UsageError

if TYPE_CHECKING:
    from accordion.trust import Trust
    from accordion.trust.keys import PrivateKey

__all__ = ["PASSWORD", "add_trust", "password_from", "read_private", "trust_from"]

PASSWORD = "ACCORDION_KEY_PASSWORD"


def add_trust(parser: argparse.ArgumentParser) -> None:
    """The option of every command that installs, runs or checks."""
    parser.add_argument(
        "--trust",
        type=Path,
        metavar="FILE",
        help="what this device trusts (the file named by ACCORDION_TRUST, else ~/.config/accordion/trust.json if there is one)",
    )


def trust_from(arguments: argparse.Namespace) -> Trust | None:
    """What this device is configured to trust; None where nothing is configured."""
    from accordion.trust import Trust

    return Trust.configured(arguments.trust)


def password_from(path: Path | None) -> bytes | None:
    """A key's password: the first line of a file, else of ACCORDION_KEY_PASSWORD; None without. UsageError if it is empty."""
    from accordion.artifact.bounded import read_file

    if path is not None:
        found = read_file(path, 4096).split(b"\n")[0].rstrip(b"\r")
        if not found:
            raise UsageError(f"{path} holds no password")
        return found
    text = os.environ.get(PASSWORD)
    return text.encode() if text else None


def read_private(path: Path, password: bytes | None) -> PrivateKey:
    """A private key's file; a password is used where the key wants one. UsageError if it is none."""
    from accordion.artifact.bounded import read_file
    from accordion.trust.keys import KEY_LIMIT, PrivateKey

    data = read_file(path, KEY_LIMIT)
    return PrivateKey.parse(data, password if b"ENCRYPTED" in data else None, str(path))
