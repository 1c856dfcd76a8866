"""Which inputs are worth keeping: a few small ones that together reach every line that all of them reach."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from types import FrameType
from typing import Any

from accordion.errors import AccordionError
from fuzz.target import CORPUS, Target

__all__ = ["few", "keep", "lines_of"]

Line = tuple[str, int]
TRACED = ("/accordion/artifact/", "/accordion/planning/", "/accordion/device/", "/accordion/elastic/", "/accordion/training/")
MOST_BYTES = 12 * 1024  # of one target's kept inputs


def lines_of(target: Target, data: bytes) -> frozenset[Line]:
    """The lines of this project's parsers that reading `data` reaches."""
    reached: set[Line] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "call" and not any(part in frame.f_code.co_filename for part in TRACED):
            return None
        if event == "line":
            reached.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with suppress(AccordionError):
            target.take(data)
    finally:
        sys.settrace(before)
    return frozenset(reached)


def few(reach: Sequence[tuple[bytes, frozenset[Line]]], known: Iterable[Line]) -> list[bytes]:
    """Inputs that reach all that any does beyond `known`, greedily: those that bring most new lines for their bytes."""
    have, left, chosen = set(known), list(reach), []
    while left:
        best = max(left, key=lambda one: (len(one[1] - have) / (32 + len(one[0])), -len(one[0])))
        if not best[1] - have:
            break
        chosen.append(best[0])
        have |= best[1]
        left.remove(best)
    return chosen


def keep(target: Target, corpus: Sequence[bytes], findings: Sequence[bytes]) -> int:
    """Writes findings, and the few inputs that reach most beyond the seeds, to the target's folder; returns how many are new."""
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    known: set[Line] = set()
    for data in (*target.seeds(), *(path.read_bytes() for path in target.kept())):
        known |= lines_of(target, data)
    size = sum(path.stat().st_size for path in target.kept())
    new = 0
    for kind, data in [*(("found", one) for one in findings), *(("reach", one) for one in few(_reaches(target, corpus), known))]:
        if kind == "reach" and size + len(data) > MOST_BYTES:
            continue
        path = folder / f"{kind}-{sha256(data).hexdigest()[:12]}"
        if not path.exists():
            path.write_bytes(data)
            size, new = size + len(data), new + 1
    return new


def _reaches(target: Target, corpus: Sequence[bytes]) -> list[tuple[bytes, frozenset[Line]]]:
    return [(data, lines_of(target, data)) for data in sorted(corpus, key=len)]
