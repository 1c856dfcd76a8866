"""What a check of an installation found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "fine", "note", "wrong"]

Status = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`found` is one line; `advice` what to do, empty where nothing is. A note may be as it should be; a problem may not."""

    check: str
    status: Status
    found: str
    advice: str = ""

    def to_json(self) -> dict[str, str]:
        """JSON values, by the fields' names."""
        return {"check": self.check, "status": self.status, "found": self.found, "advice": self.advice}


def fine(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", found)


def note(check: str, found: str, advice: str) -> Finding:
    """Perhaps not what was meant."""
    return Finding(check, "note", found, advice)


def wrong(check: str, found: str, advice: str) -> Finding:
    """Something can't work like this."""
    return Finding(check, "problem", found, advice)
