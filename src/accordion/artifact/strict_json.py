"""JSON from strangers: bounded, without duplicate keys, NaN or bottomless nesting, and fields read with a clear message."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from accordion.errors import FormatError

__all__ = ["Fields", "dump", "parse_object", "printable"]

EXACT = 2**53  # JSON numbers are exact up to here in every language


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        again = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {again[:60]!r} occurs twice")
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is out of range")
    return number


# Made once: json.loads makes a new one for each text that it reads with hooks.
_DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite)


def parse_object(data: bytes, what: str, limit: int) -> dict[str, Any]:
    """The JSON object in `data`, of at most `limit` bytes; FormatError naming `what` otherwise."""
    if len(data) > limit:
        raise FormatError(f"{what} has {len(data)} bytes, more than the {limit} allowed")
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except RecursionError as error:
        raise FormatError(f"{what} is not valid JSON: it is nested too deep") from error
    except ValueError as error:  # bad UTF-8, bad JSON, an integer of thousands of digits
        raise FormatError(f"{what} is not valid JSON: {str(error).splitlines()[0]}") from error
    if not isinstance(value, dict):
        raise FormatError(f"{what} is not a JSON object")
    if b"\\u" in data and b"\\ud" in data.lower():  # halves of characters outside the basic plane: fine in pairs, no text alone
        try:
            dump(value)
        except UnicodeEncodeError as error:
            raise FormatError(f"{what} is not valid JSON: half of a surrogate pair stands alone") from error
    return value


def dump(value: Any) -> bytes:
    """The compact JSON form: no spaces, keys in the order given, UTF-8; the same bytes each time."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def printable(name: object) -> str:
    """A stranger's name for something, as it may stand in a line for people: short, and of that one line."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(name)[:60])


class Fields:
    """Reads typed fields of one JSON object; FormatError says where, if one is missing or of another kind.

    `rest()` gives the fields that nobody has asked for, so that they can be kept.
    """

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, dict):
            raise FormatError(f"{where} is not an object")
        self.data: dict[str, Any] = data
        self.where = where
        self._taken: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether the field is there and not null; counts as having asked for it."""
        self._taken.add(name)
        return self.data.get(name) is not None

    def get(self, name: str) -> Any:
        """The field as it is, which must be there."""
        self._taken.add(name)
        if name not in self.data:
            raise FormatError(f"{self.where} has no {name!r}")
        return self.data[name]

    def text(self, name: str) -> str:
        """A text of at most 1000 characters."""
        value = self.get(name)
        if not isinstance(value, str) or len(value) > 1000:
            raise FormatError(f"{self.where}: {name!r} is not a text of at most 1000 characters")
        return value

    def whole(self, name: str, least: int = 0) -> int:
        """A whole number from `least` to 2**53."""
        return self._whole(self.get(name), name, least)

    def wholes(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers, none negative."""
        return tuple(self._whole(value, name, 0) for value in self.items(name))

    def number(self, name: str) -> float:
        """A finite number."""
        return self._number(self.get(name), name)

    def pair(self, name: str) -> tuple[float, float]:
        """Two finite numbers, the first not above the second."""
        value = self.items(name)
        if len(value) != 2:
            raise FormatError(f"{self.where}: {name!r} is not [low, high]")
        low, high = self._number(value[0], name), self._number(value[1], name)
        if low > high:
            raise FormatError(f"{self.where}: {name!r} is not [low, high]: {low} is above {high}")
        return low, high

    def items(self, name: str, *, most: int = 100_000) -> list[Any]:
        """A list of at most `most` items."""
        value = self.get(name)
        if not isinstance(value, list) or len(value) > most:
            raise FormatError(f"{self.where}: {name!r} is not a list of at most {most} items")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self.items(name)
        if not all(isinstance(one, str) for one in value):
            raise FormatError(f"{self.where}: {name!r} is not a list of texts")
        return tuple(value)

    def rest(self) -> dict[str, Any]:
        """The fields that were not asked for."""
        return {name: value for name, value in self.data.items() if name not in self._taken}

    def _whole(self, value: object, name: str, least: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= EXACT:
            raise FormatError(f"{self.where}: {name!r} holds {value!r:.40}, not a whole number from {least} up")
        return value

    def _number(self, value: object, name: str) -> float:
        # The bound keeps integers of hundreds of digits, which are valid JSON, from overflowing a float.
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
            raise FormatError(f"{self.where}: {name!r} holds {str(value)[:40]!r}, not a finite number")
        return float(value)
