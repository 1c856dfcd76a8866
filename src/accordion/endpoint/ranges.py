"""The `Range` request header: which bytes of how many are asked for (RFC 9110, section 14)."""

from __future__ import annotations

import re

__all__ = ["MOST_RANGES", "Unsatisfiable", "parse_range"]

MOST_RANGES = 512  # in one header; an upgrade to another version needs one for each run of layers that changed
_ONE = re.compile(r"([0-9]{0,19})-([0-9]{0,19})")


class Unsatisfiable(Exception):  # noqa: N818  it is an answer (416), not a failure
    """The header is well formed, but none of its ranges holds a byte of the content."""


def parse_range(header: str | None, size: int, *, most: int = MOST_RANGES) -> list[tuple[int, int]] | None:
    """The ranges asked for, as (first, last) byte, both inclusive, ascending; those that overlap or touch are merged.

    None where the header has to be ignored: it is missing, malformed, in another unit or of more than `most` ranges.

    Raises:
        Unsatisfiable: no range holds a byte.
    """
    if header is None:
        return None
    unit, equals, rest = header.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return None
    parts = [part.strip(" \t") for part in rest.split(",", most + 1)]
    parts = [part for part in parts if part]  # empty list elements are allowed, and mean nothing
    if not parts or len(parts) > most:
        return None
    found: list[tuple[int, int]] = []
    for part in parts:
        match = _ONE.fullmatch(part)
        if match is None or part == "-":
            return None
        first, last = match.groups()
        if not first:  # the last so many bytes
            start, end = max(0, size - int(last)), size - 1
        else:
            start, end = int(first), int(last) if last else size - 1
            if last and end < start:
                return None
            end = min(end, size - 1)
        if start <= end:
            found.append((start, end))
    if not found:
        raise Unsatisfiable
    return _merged(found)


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    made: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if made and start <= made[-1][1] + 1:
            made[-1] = (made[-1][0], max(made[-1][1], end))
        else:
            made.append((start, end))
    return made
