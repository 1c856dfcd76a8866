"""The names of the files that a TUF repository consists of."""

from __future__ import annotations

import re

__all__ = ["METADATA_LIMIT", "ROLES", "TIMESTAMP", "is_metadata"]

ROLES = ("root", "timestamp", "snapshot", "targets")
TIMESTAMP = "timestamp.json"  # the one file that changes under its name
METADATA_LIMIT = 5_000_000  # bytes, as python-tuf's client has it
_FILE = re.compile(r"(timestamp|[1-9][0-9]{0,9}\.(root|snapshot|targets))\.json\Z")


def is_metadata(name: str) -> bool:
    """Whether a file of this name is one that a repository serves."""
    return _FILE.match(name) is not None
