"""Tensors that are not made yet, known by what they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ARITHMETIC", "BYTE", "HALF", "SINGLE", "WHOLE", "Array", "Chain", "Piece", "Stack", "Step", "root_of"]

Array = NDArray[Any]

BYTE, SINGLE, HALF, WHOLE = np.dtype(np.uint8), np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.int64)
ARITHMETIC: Mapping[str, Any] = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}


@dataclass(slots=True, eq=False)
class Piece:
    """A tensor that is not made yet, of `shape`. Equal `key`s are equal contents, in all configurations; `uses` counts its readers.

    `op` is `file` (bytes of a file, `detail` says which), `inside` (`detail` is an array of the graph), `part` (the rows `detail`
    of another), `done` (another with its steps done), or arithmetic on two.
    """

    key: int
    op: str
    of: tuple[Chain, ...]
    shape: tuple[int, ...]
    detail: Any
    depth: int
    uses: int = 0


Chain = tuple["Piece", tuple["Step", ...], int]
"""A piece, what is still to be done to it, and the number that stands for these steps."""

Step = tuple[str, Any]
"""An operator that works on a piece alone, and what it needs to know."""


class Stack(NamedTuple):  # there are hundreds, and this is the kind of class that is made fastest
    """A tensor as pieces one behind the other along its first axis; to each of them the same `steps` are still to be done.

    `rows` and `inner` are the shape afterwards: rows of each piece, and the other axes. `cost` counts steps.
    """

    pieces: tuple[Piece, ...]
    kind: np.dtype[Any]
    rows: tuple[int, ...]
    inner: tuple[int, ...]
    steps: tuple[Step, ...] = ()
    token: int = 0
    cost: int = 0


def root_of(piece: Piece) -> Piece:
    """What a part is a part of."""
    while piece.op == "part":
        piece = piece.of[0][0]
    return piece
