"""An order as data: block counts by stage, so that an order can be written down, found by a program, and carried in a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from accordion.elastic.order import Order, Stages, nested
from accordion.errors import UsageError

__all__ = ["OrderTable"]

MOST_BYTES = 2**20  # an order of a thousand configurations is 20 kB


@dataclass(frozen=True, slots=True)
class OrderTable:
    """`configurations[k]` are the blocks of configuration k by stage, smallest first; the last is the complete network.

    UsageError if these are no counts. Whether they are nested and fit a network shows with the network (`order`).
    """

    name: str
    configurations: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable() or len(self.name) > 100:
            raise UsageError(f"an order can't be called {self.name[:40]!r}: up to 100 printable characters")
        if not isinstance(self.configurations, Sequence) and not hasattr(self.configurations, "tolist"):
            raise UsageError(
                f"order {self.name!r}: its configurations are rows of block counts, not {type(self.configurations).__name__}"
            )
        if not len(self.configurations):
            raise UsageError(f"order {self.name!r} has no configuration")
        object.__setattr__(self, "configurations", tuple(map(_row, self.configurations)))
        for index, row in enumerate(self.configurations):
            if not isinstance(row, tuple) or not row or any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in row):
                raise UsageError(f"order {self.name!r}, configuration {index}: {row!r:.200} are not block counts by stage")

    def order(self, stages: Stages) -> Order:
        """The order over the blocks of `stages`; UsageError if the counts don't fit them or aren't nested."""
        return nested(self.name, stages, self.configurations)

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {"name": self.name, "configurations": [list(row) for row in self.configurations]}

    @classmethod
    def from_json(cls, data: Any) -> OrderTable:
        """From `{"name", "configurations": [[n1, n2, …], …]}`; other fields may stand beside them. UsageError."""
        try:
            name, rows = data["name"], data["configurations"]
            if not isinstance(name, str) or not isinstance(rows, Sequence) or isinstance(rows, str):
                raise TypeError
            return cls(name, tuple(tuple(row) for row in rows))
        except (KeyError, TypeError) as error:
            raise UsageError('an order needs {"name": …, "configurations": [[n1, n2, …], …]}') from error

    @classmethod
    def from_file(cls, path: Path | str) -> OrderTable:
        """From a JSON file; UsageError names the file and what is wrong with it."""
        path = Path(path)
        try:
            with path.open("rb") as stream:
                raw = stream.read(MOST_BYTES + 1)
            if len(raw) > MOST_BYTES:
                raise UsageError(f"it has more than {MOST_BYTES} bytes")
            return cls.from_json(json.loads(raw))
        except OSError as error:
            raise UsageError(f"can't read the order {path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path} is not JSON: {error}") from error
        except UsageError as error:
            raise UsageError(f"{path} is not an order: {error}") from error


def _row(row: Any) -> Any:
    """NumPy's whole numbers as Python's; what is no row is left as it is."""
    if isinstance(row, str) or not hasattr(row, "__iter__"):
        return row
    return tuple(int(n) if isinstance(n, Integral) and not isinstance(n, bool) else n for n in row)
