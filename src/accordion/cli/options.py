"""Types for argparse: quantities with units, numbers with bounds. What is wrong becomes one line that names the option."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

from accordion import units
from accordion.artifact.strict_json import EXACT
from accordion.errors import UsageError

__all__ = ["bits_per_second", "count", "data", "fraction", "index", "number", "or_none", "port", "reference", "seconds"]

T = TypeVar("T")


def _checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    def convert(text: str) -> T:
        try:
            return parse(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def _positive(parse: Callable[[str], float], what: str) -> Callable[[str], float]:
    def convert(text: str) -> float:
        value = parse(text)
        if value <= 0:
            raise UsageError(f"{text!r} is no {what}: it must be more than nothing")
        return value

    return convert


def _whole(least: int, what: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = float(text) if any(letter in text for letter in ".eE") else int(text)
            whole = int(value)
        except (ValueError, OverflowError):
            raise UsageError(f"{text!r} is no {what}: write a whole number") from None
        if whole != value or not least <= whole <= EXACT:
            raise UsageError(f"{text!r} is no {what}: write a whole number from {least} to {EXACT}")
        return whole

    return parse


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a number") from None
    if not math.isfinite(value):
        raise UsageError(f"{text!r} is not a number to compare with")
    return value


def _fraction(text: str) -> float:
    value = _number(text)
    if not 0 < value < 1:
        raise UsageError(f"{text!r} does not lie between 0 and 1")
    return value


def _port(text: str) -> int:
    value = _whole(0, "port")(text)
    if value > 65535:
        raise UsageError(f"{text!r} is no port: the largest is 65535")
    return value


seconds = _checked(_positive(units.parse_seconds, "time"))
data = _checked(lambda text: int(_positive(units.parse_bytes, "amount of data")(text)))
bits_per_second = _checked(units.parse_bits_per_second)
index = _checked(_whole(0, "configuration"))
count = _checked(_whole(1, "count"))
number = _checked(_number)
fraction = _checked(_fraction)
port = _checked(_port)


def reference(text: str) -> str:
    """A tag, or a digest, which may be written as it stands behind a name: `@sha256:…`."""
    return text.removeprefix("@")


def or_none(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    """As `parse`, and `none` for no such limit."""
    return lambda text: None if text == "none" else parse(text)
