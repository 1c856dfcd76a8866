"""The name by which a package is asked for, as the OCI distribution specification has names of repositories."""

from __future__ import annotations

import re

__all__ = ["is_name"]

_NAME = re.compile(r"[A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*(?:/[A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*)*")
LONGEST = 255  # characters


def is_name(text: str) -> bool:
    """Whether this can be the name of a package: parts of letters and digits, with `.`, `_`, `-` between them, joined by `/`."""
    return len(text) <= LONGEST and _NAME.fullmatch(text) is not None
