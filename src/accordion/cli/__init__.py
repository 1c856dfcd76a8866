"""The command line: one file for each command, each a thin cover of the library."""

from accordion.cli.app import main

__all__ = ["main"]
