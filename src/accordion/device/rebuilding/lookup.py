"""What bytes stand for, by tables of the 256 values that a byte can have."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from accordion.device.rebuilding.pieces import Array

__all__ = ["EVERY_BYTE", "Looked"]

EVERY_BYTE = np.arange(256, dtype=np.uint8).reshape(256, 1)
PAIRED = 2**16  # bytes from which a table of what two of them stand for, a MiB, pays
AT_ONCE = 2**14  # bytes, or pairs, looked up at once


class Looked(NamedTuple):
    """`table[source]`, with w numbers of [256, w] for each byte of `source`, in `shape`: not looked up yet."""

    source: Array
    table: Array
    shape: tuple[int, ...]

    def up(self) -> Array:
        width, count = self.table.shape[1], self.source.size
        source = np.ascontiguousarray(self.source).reshape(-1)
        found = np.empty((count, width), self.table.dtype)
        single = 0
        if count >= PAIRED and self.table.dtype.itemsize * width <= 8:
            single = count - count % 2
            _look_up(_pairs(self.table.tobytes(), self.table.dtype, width), source[:single].view("<u2"), found[:single])
        _look_up(self.table, source[single:], found[single:])
        return found.reshape(self.shape)


def _look_up(table: Array, source: Array, into: Array) -> None:
    """`table[source]` into memory that is there, in pieces whose indices stay near the processor."""
    rows = into.reshape(len(source), table.shape[1])
    for begin in range(0, len(source), AT_ONCE):
        part = slice(begin, begin + AT_ONCE)
        np.take(table, source[part], axis=0, out=rows[part], mode="clip")  # other modes would copy once more


@lru_cache(maxsize=1)
def _pairs(table: bytes, kind: np.dtype[Any], width: int) -> Array:
    """[65536, 2w]: what two bytes stand for, the first one in the low half of the index."""
    one = np.frombuffer(table, kind).reshape(256, width)
    both = np.empty((256, 256, 2, width), kind)
    both[:, :, 0], both[:, :, 1] = one[None, :], one[:, None]
    return both.reshape(65536, 2 * width)
