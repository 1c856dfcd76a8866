"""The options that say who asks and whom to trust, for every command that speaks to another host.

They stand for environment variables, which a program around the command may set instead. A token never stands in the arguments
themselves, where other users of the machine could read it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accordion.errors import StorageError, UsageError

__all__ = ["access", "add_access"]

TOKEN_LIMIT = 8192  # bytes
CACERT, TOKEN = "ACCORDION_CACERT", "ACCORDION_TOKEN"


def add_access(parser: argparse.ArgumentParser) -> None:
    """The options. Credentials of `docker login` and proxies need none."""
    group = parser.add_argument_group("access")
    group.add_argument("--cacert", type=Path, metavar="FILE", help=f"PEM: more authorities to trust ({CACERT})")
    group.add_argument("--token-file", type=Path, metavar="FILE", help=f"what holds the token to show ({TOKEN})")


@contextmanager
def access(arguments: argparse.Namespace) -> Iterator[None]:
    """Within it the options are in the environment; for a command without them nothing changes."""
    given = {}
    if (cacert := getattr(arguments, "cacert", None)) is not None:
        if not cacert.is_file():
            raise UsageError(f"there is no file of certificates {cacert}")
        given[CACERT] = str(cacert)
    if (path := getattr(arguments, "token_file", None)) is not None:
        given[TOKEN] = _read(path)
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            raw = stream.read(TOKEN_LIMIT + 1)
        text = raw.decode().strip()
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {path} with a token") from error
    except OSError as error:
        raise StorageError(f"can't read the token in {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} holds no token, but other bytes") from error
    if not text or len(raw) > TOKEN_LIMIT:
        raise UsageError(f"{path} holds no token: it is {'too long' if text else 'empty'}")
    return text
