"""What was already seen of the graphs of one ladder, whose nodes and tensors are mostly the same from one to the next.

What a node makes hangs on its operator and attributes, its *kind*, and on the values that go in. Alike values are one object here,
so that a node is found again by its kind and by these objects, which its entry keeps alive. Nothing that failed is ever remembered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

__all__ = ["Kind", "Remembered", "Row", "kind_of"]

ROOM = 2**24  # bytes, about, of all that is remembered of a ladder: a stranger's graphs may have nothing in common
ENTRY = 400  # bytes that an entry takes beside what it says

Kind = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A node or a tensor with its bytes; of a node also its kind, and the names of what goes in and out ('' where nothing does)."""

    node: Any
    raw: bytes
    kind: Kind = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(slots=True)
class Remembered:
    """Each dictionary by what its values follow from; `keep` fills them as long as there is room."""

    nodes: dict[bytes, tuple[Kind, int, int]] = field(default_factory=dict)  # that keep the rules: kind, bytes inside, of weights
    places: dict[bytes, tuple[str, int, int, int]] = field(default_factory=dict)  # of tensors that keep the rules
    values: dict[Any, Any] = field(default_factory=dict)  # tensors, and one value for all that are alike
    walked: dict[Any, Any] = field(default_factory=dict)  # what nodes of a kind make of the values that go in
    room: int = ROOM

    def keep(self, where: dict[Any, Any], key: Any, value: Any, size: int) -> None:
        """Remembers `value`, which takes about `size` bytes with its key."""
        if self.room >= size + ENTRY:
            self.room -= size + ENTRY
            where[key] = value


def kind_of(node: onnx.NodeProto) -> Kind:
    """Everything that what a node makes follows from, but for what goes in."""
    attributes = tuple(sorted(one.SerializeToString(deterministic=True) for one in node.attribute))
    return (node.op_type, node.domain, tuple(map(bool, node.output)), *attributes)
