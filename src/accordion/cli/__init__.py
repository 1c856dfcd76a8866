"""The command line: one file for each command, each a thin cover of the library."""

import sys
from collections.abc import Sequence

__all__ = ["main"]

INTERRUPTED = 130  # as a shell says it: 128 + SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: `accordion.cli.app.main`, loaded where an interrupt ends in no traceback."""
    try:
        from accordion.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("accordion: interrupted\n")
        return INTERRUPTED
    return run(argv)
