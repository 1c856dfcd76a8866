"""`accordion key NAME`: a pair of keys, NAME.key to sign with and NAME.pub to be trusted."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from accordion.cli.console import Context
from accordion.cli.trusting import PASSWORD, password_from
from accordion.errors import StorageError, UsageError

__all__ = ["add", "execute", "write_private"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "key",
        help="make a pair of keys",
        description="Makes NAME.key, the private key (PKCS 8), and NAME.pub, the public one (PKIX), both in PEM form. "
        f"The private key is encrypted where a password is given, in a file or in {PASSWORD}.",
    )
    parser.add_argument("name", type=Path, metavar="NAME", help="path of both files, without their endings")
    parser.add_argument("--type", choices=["ecdsa-p256", "ed25519"], default="ecdsa-p256", help="kind of key (ecdsa-p256)")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="its first line is the private key's password")
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Makes the keys; what is there is never overwritten."""
    from accordion.artifact.atomic import write_file
    from accordion.trust.keys import make_key

    name: Path = arguments.name
    private, public = name.with_name(name.name + ".key"), name.with_name(name.name + ".pub")
    if public.exists():
        raise UsageError(f"{public} is there already: name other files, or remove it yourself")
    password = password_from(arguments.password_file)
    key = make_key(arguments.type)
    write_private(private, key.to_pem(password))
    write_file(public, key.public.pem.encode())
    closed = "encrypted" if password else f"not encrypted: whoever reads it can sign ({PASSWORD} or --password-file encrypts it)"
    lines = [f"{private}: keep it to yourself; it is {closed}", f"{public}: give it to the devices", f"{key.public}"]
    value = {"private": str(private), "public": str(public), "type": arguments.type, "fingerprint": key.public.fingerprint}
    context.console.result({**value, "encrypted": password is not None}, lines)
    return 0


def write_private(path: Path, data: bytes) -> None:
    """A new file that nobody else may read. UsageError if there is one, StorageError from the disk."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except FileExistsError as error:
        raise UsageError(f"{path} is there already: name other files, or remove it yourself") from error
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror or error}") from error
