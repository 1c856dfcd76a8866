"""Quantities with their units, as people write and read them; inside the program everything is SI."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from typing import Any

from accordion.errors import UsageError

__all__ = ["format_bytes", "format_rate", "format_seconds", "parse_bits_per_second", "parse_bytes", "parse_seconds", "whole_number"]

_SECONDS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "min": 60.0, "h": 3600.0}
_BYTES = {"": 1.0, "B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_RATES = {"": 1.0, "bps": 1.0, "kbps": 1e3, "Kbps": 1e3, "Mbps": 1e6, "Gbps": 1e9}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*([A-Za-zµ]*)\s*")


def _parse(text: str, units: Mapping[str, float], what: str, example: str) -> float:
    match = _QUANTITY.fullmatch(text)
    unit = units.get(match[2]) if match else None
    if match is None or unit is None:
        known = ", ".join(name for name in units if name)
        raise UsageError(f"{text!r} is not {what}: write a number with a unit ({known}), such as {example}")
    value = float(match[1]) * unit
    if not math.isfinite(value):
        raise UsageError(f"{text!r} is too large to be {what}")
    return value


def whole_number(value: Any, what: str, *, least: int | None = None) -> int:
    """`value` as an int, if it is a whole number (NumPy's too), of at least `least` if given; UsageError otherwise."""
    number = None if isinstance(value, bool) else _index(value)
    if number is None or (least is not None and number < least):
        from_there = "" if least is None else f" from {least} on"
        raise UsageError(f"{what} must be a whole number{from_there}, not {str(value)[:60]!r}")
    return number


def _index(value: Any) -> int | None:
    try:
        return operator.index(value)
    except TypeError:
        return None


def parse_seconds(text: str) -> float:
    """`300ms`, `0.3s`, `5min`; a bare number is seconds. UsageError otherwise."""
    return _parse(text, _SECONDS, "a time", "300ms")


def parse_bytes(text: str) -> int:
    """`10MB`, `10MiB`; a bare number is bytes. UsageError otherwise."""
    return round(_parse(text, _BYTES, "an amount of data", "10MB"))


def parse_bits_per_second(text: str) -> float:
    """`10Mbps`, `1Gbps`; a bare number is bits a second. UsageError otherwise, and for zero."""
    rate = _parse(text, _RATES, "a rate", "10Mbps")
    if rate <= 0:
        raise UsageError(f"{text!r} is no rate at which anything arrives")
    return rate


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    size, unit = next(((size, unit) for size, unit in steps if abs(value) >= size), steps[-1])
    number = value / size
    return f"{number:.{0 if number >= 100 or number == int(number) else 1 if number >= 10 else 2}f} {unit}"


def format_bytes(count: float) -> str:
    """For people: `1.75 MB`."""
    return _scaled(count, ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")))


def format_seconds(seconds: float) -> str:
    """For people: `300 ms`."""
    return _scaled(seconds, ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs")))


def format_rate(bits_per_second: float) -> str:
    """For people: `10 Mbps`."""
    return _scaled(bits_per_second, ((1e9, "Gbps"), (1e6, "Mbps"), (1e3, "kbps"), (1.0, "bps")))
