"""Which tensor travels with which configuration: each content once, with the first configuration that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accordion.packaging.graph import Graph

__all__ = ["INLINE_BYTES", "Home", "Segments", "divide", "is_inline"]

Array = NDArray[Any]

INLINE_BYTES = 1024
"""Shapes, axes and paddings up to this size stay in the graph: pointing elsewhere would cost more than they do."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where a content lies: the segment's number (the configuration that brought it), its rank there, its name there."""

    segment: int
    rank: int
    name: str


@dataclass(frozen=True, slots=True)
class Segments:
    """`tensors[k]` is what configuration k adds, by name (empty if nothing); `homes` by the identity of the interned array."""

    tensors: tuple[dict[str, Array], ...]
    homes: dict[int, Home]

    def home(self, array: Array) -> Home:
        """The home of an interned array."""
        return self.homes[id(array)]


def is_inline(array: Array) -> bool:
    """Whether a tensor is so small and so little a weight that it stays in the graph.

    Bytes are codes of weights, however few: in the graph they would travel again with every configuration. Many of the same, such
    as zero points, say nothing of a weight.
    """
    if array.dtype in (np.uint8, np.int8):
        return array.size <= 1 or (array.dtype == np.int8 and array.nbytes <= INLINE_BYTES and bool((array == array.flat[0]).all()))
    if np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_:
        return array.nbytes <= INLINE_BYTES
    return array.size <= 1


def divide(graphs: Sequence[Graph]) -> Segments:
    """Divides the tensors of all configurations, smallest first, into segments.

    The tensors of every graph must be interned in one pool. Names are the graphs' own, with a number behind where one segment holds
    two contents of one name.
    """
    segments: list[dict[str, Array]] = []
    homes: dict[int, Home] = {}
    for k, graph in enumerate(graphs):
        found: dict[int, tuple[str, Array]] = {}
        for node in graph.nodes:  # in the order of the data flow, so that the names in the file read as the network does
            for name in node.input:
                array = graph.tensors.get(name)
                if array is not None and not is_inline(array) and id(array) not in homes:
                    found.setdefault(id(array), (name, array))
        segment: dict[str, Array] = {}
        # Wide types first: then every tensor begins at a multiple of its own width.
        for name, array in sorted(found.values(), key=lambda entry: -entry[1].itemsize):
            taken, count = name, 1
            while taken in segment:
                count += 1
                taken = f"{name}.{count}"
            homes[id(array)] = Home(k, len(segment), taken)
            segment[taken] = array
        segments.append(segment)
    return Segments(tuple(segments), homes)
