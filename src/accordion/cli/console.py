"""What a command says: its result on standard output, everything else on standard error."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accordion.errors import AccordionError, UnmeetableError

__all__ = ["Console", "Context", "document"]

# What a terminal obeys instead of showing it: control characters, and those that turn the direction of writing.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def _visible(text: str) -> str:
    """`text` with what a terminal would obey written out: names in a package are strangers' words."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def document(value: Any) -> str:
    """`value` as JSON for people and programs; what JSON has no word for (not a number, infinity) is null."""
    try:
        return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


class Console:
    """Standard output holds one JSON document (`as_json`) or readable lines; standard error holds progress and errors."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, value: Mapping[str, Any], lines: Sequence[str]) -> None:
        """The command's one result, in either form."""
        self._print(document(value).split("\n") if self.as_json else lines)

    def progress(self, line: str) -> None:
        """One line on standard error, at once."""
        print(_visible(line), file=sys.stderr, flush=True)

    def failure(self, error: AccordionError) -> None:
        """One line on standard error; with `as_json` also a document `{error, exit_code}`, with what is known of the limit."""
        text = " ".join(str(error).split()) or type(error).__name__
        self.progress(f"accordion: {text}")
        if not self.as_json:
            return
        value: dict[str, Any] = {"error": text, "exit_code": error.exit_code}
        if isinstance(error, UnmeetableError):
            value |= {"limit": error.limit, "nearest": error.nearest}
        self._print(document(value).split("\n"))

    @staticmethod
    def _print(lines: Sequence[str]) -> None:
        print("\n".join(map(_visible, lines)), flush=True)


@dataclass(frozen=True, slots=True)
class Context:
    """What a command gets beside its arguments. `started` is the `time.monotonic()` from which deadlines count: when the command
    was loaded."""

    console: Console
    started: float

    def elapsed_s(self) -> float:
        """Seconds since the call."""
        return time.monotonic() - self.started
