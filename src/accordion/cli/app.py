"""Where every command begins and ends: arguments in, one exit code out, and no traceback for what people can cause."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from accordion.cli import INTERRUPTED
from accordion.cli.access import access, add_access
from accordion.cli.console import Console, Context
from accordion.errors import AccordionError, StorageError, UsageError

__all__ = ["main"]

# In the order in which the data flows, and so in `accordion --help`: each the name of its module too.
COMMANDS = (
    "policy",
    "train",
    "calibrate",
    "adapt",
    "finish",
    "order",
    "profile",
    "package",
    "restore",
    "key",
    "sign",
    "tuf",
    "serve",
    "token",
    "trust",
    "plan",
    "fetch",
    "upgrade",
    "run",
    "shed",
    "show",
    "verify",
    "push",
    "pull",
    "export",
    "prune",
    "picture",
    "doctor",
    "demo",
)

SPEAKING = ("serve", "plan", "fetch", "upgrade", "show", "push", "pull", "doctor")  # to other hosts


class _InterruptedError(AccordionError):
    exit_code = INTERRUPTED


class _Parser(argparse.ArgumentParser):
    """argparse, except that wrong usage is one line and goes the way of all errors, and that no half of an option is one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def build_parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The command line with these commands, the whole one if they are left out.

    Light: a command imports what it needs when it runs, and the modules of others are not loaded for it.
    """
    parser = _Parser(
        prog="accordion", description="Adaptive-bitrate streaming for neural networks: every prefix of the download runs."
    )
    parser.add_argument("--version", action="version", version=f"accordion {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in names:
        module = import_module(f"accordion.cli.{name}")
        command = module.add(commands)
        command.add_argument("--json", action="store_true", help="one JSON document on standard output")
        command.set_defaults(execute=module.execute)
        if name in SPEAKING:
            add_access(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed, 2 wrong usage, 3 unmeetable, 4 not what was promised.

    `argv` are the arguments without the program's name, `sys.argv`'s if left out. Deadlines count from when the command's own
    modules are loaded, which takes a good part of a second on a small machine: counted from before, `--deadline 300ms` could
    not be kept there whatever the link.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    console = Console(as_json="--json" in arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # whatever a terminal can't show must not end a command
            stream.reconfigure(errors="backslashreplace")
    try:
        first = arguments[:1]
        parsed = build_parser(first if first and first[0] in COMMANDS else COMMANDS).parse_args(arguments)
        with access(parsed):
            code: int = parsed.execute(parsed, Context(console, time.monotonic()))
        if sys.stdout is not None:  # as it is where it was closed from outside
            sys.stdout.flush()
        return code
    except SystemExit as done:  # --help and --version
        return done.code if isinstance(done.code, int) else 0
    except BrokenPipeError:
        return _reader_gone()
    except KeyboardInterrupt:
        return _fail(console, _InterruptedError("interrupted"))
    except AccordionError as error:
        return _fail(console, error)
    except OSError as error:
        return _fail(console, _storage(error))
    except MemoryError:
        return _fail(console, AccordionError("there is not enough memory for this"))


def _fail(console: Console, error: AccordionError) -> int:
    try:
        console.failure(error)
    except BrokenPipeError:
        return _reader_gone()
    except OSError:
        pass  # the output's disk is full: the exit code says what happened
    return error.exit_code


def _storage(error: OSError) -> AccordionError:
    """What the operating system refused, as one line; the commands turn what they expect into better errors themselves."""
    reason = error.strerror or str(error) or type(error).__name__
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"the disk is full{where}")
    return StorageError(f"{reason}{where}")


def _reader_gone() -> int:
    """Whoever read our output has left (`accordion show … | head`): no reason to complain, and nothing left to flush."""
    try:
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return AccordionError.exit_code


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("accordion-ml")
    except PackageNotFoundError:
        return "(not installed)"
