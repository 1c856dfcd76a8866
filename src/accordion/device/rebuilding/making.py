"""Pieces are made: read from files, and computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from accordion.device.rebuilding.files import Files
from accordion.device.rebuilding.lookup import EVERY_BYTE, Looked
from accordion.device.rebuilding.pieces import ARITHMETIC, SINGLE, Array, Chain, Piece, Stack, Step, root_of

__all__ = ["Making"]

WIDEST = 8  # numbers that one byte may stand for


class Making:
    """Makes pieces. `known` are those of an earlier configuration; what several read is made once and kept meanwhile."""

    def __init__(self, known: Mapping[int, Array], files: Files) -> None:
        self._known = dict(known)
        self._files = files

    def all(self, stacks: Mapping[str, Stack]) -> dict[str, Array]:
        """The arrays of stacks without steps, each in one piece."""
        for stack in stacks.values():
            for piece in stack.pieces:
                root_of(piece).uses += 2  # so that it is kept, and never written over
        with np.errstate(all="ignore"):
            found = {name: [self._piece(piece)[0] for piece in stack.pieces] for name, stack in stacks.items()}
        joined = {name: parts[0] if len(parts) == 1 else np.concatenate(parts) for name, parts in found.items()}
        return {name: np.asarray(array, order="C") for name, array in joined.items()}

    def roots(self, stacks: Mapping[str, Stack]) -> dict[int, Array]:
        """What was made to give `stacks`, by key: the pieces of which theirs are parts."""
        roots = {root_of(piece) for stack in stacks.values() for piece in stack.pieces}
        return {root.key: self._known[root.key] for root in roots if root.op not in ("file", "inside")}

    def _piece(self, piece: Piece) -> tuple[Array, bool]:
        """The piece, and whether nobody else will read this memory."""
        if (known := self._known.get(piece.key)) is not None:
            return known, False
        made, ours = self._made(piece)
        if piece.uses > 1:
            self._known[piece.key] = made
            return made, False
        return made, ours

    def _made(self, piece: Piece) -> tuple[Array, bool]:
        if piece.op == "file":
            return self._files.read(*piece.detail).reshape(piece.shape), False
        if piece.op == "inside":
            return piece.detail, False
        if piece.op == "part":
            made, ours = self._piece(piece.of[0][0])
            return made[slice(*piece.detail)], ours
        made, ours = self._chain(piece.of[0])
        if piece.op == "done":
            return made, ours
        other, _ = self._chain(piece.of[1])
        return ARITHMETIC[piece.op](made, other, out=made if ours else None), True

    def _chain(self, chain: Chain) -> tuple[Array, bool]:
        piece, steps, _ = chain
        made, ours = _after(*self._piece(piece), steps)
        return (made.up(), True) if isinstance(made, Looked) else (made, ours)


def _after(start: Array, ours: bool, steps: tuple[Step, ...]) -> tuple[Array | Looked, bool]:
    """`start` after `steps`, and whether nobody else will read this memory."""
    made: Array | Looked = start
    for op, detail in steps:
        if op == "Concat":
            assert isinstance(made, np.ndarray)  # it is always the first step
            made = _side_by_side([_after(made, False, branch)[0] for branch in detail])
            ours = True
        elif op == "Reshape":
            shape = (math.prod(made.shape) // math.prod(detail), *detail)
            made = Looked(made.source, made.table, shape) if isinstance(made, Looked) else made.reshape(shape)
        elif op == "Slice":
            made = (made.up() if isinstance(made, Looked) else made)[detail]
        elif isinstance(made, Looked):
            made = Looked(made.source, _computed(op, made.table, detail, False), made.shape)
        elif op in ("BitShift", "Mod"):
            made = Looked(made, _computed(op, EVERY_BYTE, detail, False), made.shape)
        else:
            made, ours = _computed(op, made, detail, ours), True
    return made, ours


def _computed(op: str, array: Array, number: Any, ours: bool) -> Array:
    """One operator on every number, in place where the memory is `ours`."""
    made: Array
    if op == "Cast":
        made = array.astype(SINGLE)
    elif op in ("BitShift", "Mod"):
        made = (np.right_shift if op == "BitShift" else np.mod)(array, number)
    else:
        made = ARITHMETIC[op](array, number, out=array if ours else None)
    return made


def _side_by_side(parts: Sequence[Array | Looked]) -> Array | Looked:
    """Along the last axis; as one table, where all look up the same bytes and give a row for each."""
    looked = [part for part in parts if isinstance(part, Looked)]
    first = looked[0] if looked else None
    width = sum(part.shape[-1] for part in parts)
    if (
        first is not None
        and len(looked) == len(parts)
        and width <= WIDEST
        and all(part.source is first.source and part.shape[-1] == part.table.shape[1] for part in looked)
    ):
        return Looked(first.source, np.concatenate([part.table for part in looked], axis=1), (*first.shape[:-1], width))
    return np.concatenate([part.up() if isinstance(part, Looked) else part for part in parts], axis=-1)
