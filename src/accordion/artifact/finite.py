"""Numbers that are none: NaN and infinity in weights, scales and tables, found while the bytes stream by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from accordion.errors import FormatError

__all__ = ["FLOATS", "check_finite"]

# safetensors name → (unsigned integer of that width, mask, what the masked bits are if it is no finite number).
FLOATS: Mapping[str, tuple[str, int, int]] = {
    "F16": ("<u2", 0x7C00, 0x7C00),
    "BF16": ("<u2", 0x7F80, 0x7F80),
    "F32": ("<u4", 0x7F800000, 0x7F800000),
    "F64": ("<u8", 0x7FF0000000000000, 0x7FF0000000000000),
    "F8_E5M2": ("u1", 0x7C, 0x7C),
    "F8_E4M3": ("u1", 0x7F, 0x7F),  # has no infinity, and one NaN of each sign
}


def check_finite(pieces: Iterable[bytes], kind: str, what: str) -> None:
    """FormatError naming `what` if a float of the type `kind` is NaN or infinite. Pieces may be cut anywhere; other types pass."""
    if kind not in FLOATS:
        return
    width, mask, wrong = FLOATS[kind]
    size = np.dtype(width).itemsize
    rest = b""
    done = 0
    for piece in pieces:
        data = rest + piece
        whole = len(data) - len(data) % size
        numbers = np.frombuffer(data[:whole], width)
        if (bad := (numbers & numbers.dtype.type(mask)) == wrong).any():
            raise FormatError(f"{what} holds a NaN or an infinity, at element {done + int(bad.argmax())}")
        done += len(numbers)
        rest = data[whole:]
