"""Paths inside a package: relative, plain, and the same on every system."""

from __future__ import annotations

import re

from accordion.errors import FormatError

__all__ = ["RESERVED", "check_path", "check_unique"]

MOST = 200  # characters; leaves room for the folder in the 260 that some systems allow
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@=-]*")
# Names that Windows keeps for devices, whatever their ending.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
RESERVED = frozenset({"manifest.json", "state.json", "commit", "oci-layout", "run.json"})
"""What a model folder keeps for itself beside the package's files, lower case: two files of its own, the marker of a version that
takes another's place, and what tells a package and a training's run from a model."""


def check_path(text: object, what: str = "a file of the package") -> str:
    """`text`, if it is a safe relative path with `/` between its parts; FormatError otherwise.

    Parts begin with a letter, a digit or `_` (so there is no `..`, no hidden file, no empty part) and hold only letters, digits
    and `._+@=-`. A model folder's own files can't be named.
    """
    if not isinstance(text, str) or not text or len(text) > MOST:
        raise FormatError(f"{what}: the path {str(text)[:80]!r} is empty or longer than {MOST} characters")
    for part in text.split("/"):
        if not _PART.fullmatch(part) or part.endswith(".") or _DEVICES.fullmatch(part):
            raise FormatError(f"{what}: the path {text!r} is not a plain relative path")
    if text.split("/")[0].lower() in RESERVED:
        raise FormatError(f"{what}: the path {text!r} is reserved for the model folder")
    return text


def check_unique(paths: list[str]) -> None:
    """FormatError if two paths are equal (case aside, as on many disks), or one is the folder of another."""
    seen: dict[str, str] = {}
    for path in paths:
        if (other := seen.get(path.lower())) is not None:
            raise FormatError(f"the path {path!r} occurs twice in the package (beside {other!r})")
        seen[path.lower()] = path
    for path in paths:
        parts = path.lower().split("/")
        for cut in range(1, len(parts)):
            if (folder := "/".join(parts[:cut])) in seen:
                raise FormatError(f"the path {seen[folder]!r} is a file and the folder of {path!r}")
