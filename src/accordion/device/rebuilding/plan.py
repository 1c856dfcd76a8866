"""What is to be made of a graph's constants, told from shapes alone: which nodes are taken over, and what of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from accordion.device.rebuilding.pieces import BYTE, HALF, SINGLE, WHOLE, Chain, Piece, Stack

if TYPE_CHECKING:
    import onnx

__all__ = ["EXTERNAL", "KINDS", "Plan"]

MOST_PIECES = 2**14  # of one stack, and about as many of all; what would be more stays in the graph
DEEPEST = 96  # pieces one made of the other: each is a few calls within the one before
MOST_STEPS = 96  # done to one piece
FLOAT, EXTERNAL = 1, 1  # onnx.TensorProto.FLOAT, .EXTERNAL
INT, STRING = 2, 3  # onnx.AttributeProto.INT, .STRING
KINDS: Mapping[int, np.dtype[Any]] = {1: SINGLE, 2: BYTE, 7: WHOLE, 10: HALF}  # of onnx.TensorProto.DataType


class Plan:
    """What is to be made, told from shapes alone. `made` holds the values of nodes that are taken over, by name."""

    def __init__(self, ids: dict[tuple[Any, ...], int]) -> None:
        self._ids = ids
        self.pieces: dict[int, Piece] = {}
        self.constants: dict[str, Stack] = {}
        self.made: dict[str, Stack] = {}
        self._full = False  # the bounds are reached: everything more stays in the graph

    def constant(self, tensor: onnx.TensorProto) -> None:
        """A tensor of the graph, in a file or inside, if it is of a type that numpy has."""
        if (kind := KINDS.get(tensor.data_type)) is None:
            return
        shape = tuple(tensor.dims)
        if tensor.data_location == EXTERNAL:
            place = {row.key: row.value for row in tensor.external_data}
            where = (place["location"], int(place.get("offset", 0)), int(place["length"]), kind.str)
            piece = self.piece("file", (), shape, where, where)
        else:
            from onnx import numpy_helper

            array = numpy_helper.to_array(tensor)
            piece = self.piece("inside", (), shape, array, (kind.str, array.tobytes()))
        self.constants[tensor.name] = Stack((piece,), kind, shape[:1] or (1,), shape[1:])

    def piece(self, op: str, of: tuple[Chain, ...], shape: tuple[int, ...], detail: Any, told: Any) -> Piece:
        """The piece made by `op`, the same one if it is there; `told` stands for `detail` in its key."""
        ids, depth = self._ids, 0
        made_of: list[int] = []
        for one, _, token in of:
            made_of += one.key, token
            depth = max(depth, one.depth + 1)
        key = ids.setdefault((op, shape, told, *made_of), 1 + len(ids))
        if (found := self.pieces.get(key)) is None:
            found = self.pieces[key] = Piece(key, op, of, shape, detail, depth)
            self._full = self._full or depth > DEEPEST or len(self.pieces) > MOST_PIECES
            for one, _, _ in of:
                one.uses += 1
        return found

    def step(self, stack: Stack, kind: np.dtype[Any], op: str, detail: Any, told: Any = None, cost: int = 1) -> Stack:
        """The stack with one step more that leaves its shape; `told` stands for `detail` where that has no hash."""
        token = self._ids.setdefault((stack.token, op, detail if told is None else told), 1 + len(self._ids))
        steps = (*stack.steps, (op, detail))
        self._full = self._full or stack.cost + cost > MOST_STEPS
        return Stack(stack.pieces, kind, stack.rows, stack.inner, steps, token, stack.cost + cost)

    def done(self, stack: Stack) -> Stack:
        """The same without steps, as pieces that others can be parts of."""
        if not stack.steps:
            return stack
        pieces = [
            self.piece("done", ((piece, stack.steps, stack.token),), (rows, *stack.inner), None, None)
            for piece, rows in zip(stack.pieces, stack.rows, strict=True)
        ]
        return Stack(tuple(pieces), stack.kind, stack.rows, stack.inner)

    def take(self, node: onnx.NodeProto) -> bool:
        """Whether `node` is taken over."""
        rule = _RULES.get(node.op_type)
        if rule is None or node.domain not in ("", "ai.onnx"):
            return False
        inputs = []
        for name in node.input:
            if (stack := self.made.get(name) or self.constants.get(name)) is None:
                return False
            inputs.append(stack)
        if not inputs or not _has_axes(inputs[0]):  # a number is something to compute with, and makes no stack
            return False
        outputs = rule(self, node, inputs)
        if outputs is None or self._full or len(outputs) != len(node.output):
            return False
        self.made.update(zip(node.output, outputs, strict=True))
        return True

    def cut(self, stack: Stack, ends: Sequence[int]) -> list[Piece]:
        """The pieces of a stack without steps, cut also before the rows `ends`, which rise up to the number of its rows."""
        found, at, rest = [], 0, iter(ends)
        cut = 0
        for piece in stack.pieces:
            begin, count = 0, piece.shape[0]
            while begin < count:
                while cut <= at + begin:
                    cut = next(rest)
                end = min(cut - at, count)
                if (begin, end) == (0, count):
                    found.append(piece)
                else:
                    place, shape = (begin, end), (end - begin, *piece.shape[1:])
                    found.append(self.piece("part", ((piece, (), 0),), shape, place, place))
                begin = end
            at += count
        return found


def _ends(stack: Stack) -> list[int]:
    return list(accumulate(stack.rows))


def _number(stack: Stack) -> Any:
    """The one element of a constant inside the graph, as an array without axes, else None."""
    piece = stack.pieces[0]
    return piece.detail.reshape(()) if piece.op == "inside" and piece.detail.size == 1 and not stack.steps else None


def _numbers(stack: Stack) -> list[int] | None:
    """The whole numbers of a constant inside the graph, else None."""
    piece = stack.pieces[0]
    return piece.detail.tolist() if piece.op == "inside" and stack.kind == WHOLE and len(piece.shape) == 1 else None


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Texts and whole numbers by name; what is of another type is there as None."""
    return {row.name: row.i if row.type == INT else row.s if row.type == STRING else None for row in node.attribute}


_Taken = Sequence[Stack] | None


def _cast(plan: Plan, node: onnx.NodeProto, inputs: list[Stack]) -> _Taken:
    (stack,) = inputs
    if _attributes(node) != {"to": FLOAT} or stack.kind == WHOLE:
        return None
    return [plan.step(stack, SINGLE, "Cast", None)]


def _bits(plan: Plan, node: onnx.NodeProto, inputs: list[Stack]) -> _Taken:
    """A byte shifted to the right, or what a division leaves over."""
    stack, number = inputs[0], _number(inputs[1])
    attributes = _attributes(node)
    if stack.kind != BYTE or number is None or number.dtype != BYTE or inputs[1].pieces[0].shape:
        return None
    shift = node.op_type == "BitShift"
    if (attributes != {"direction": b"RIGHT"} or number >= 8) if shift else (attributes.get("fmod", 0) or number == 0):
        return None
    return [plan.step(stack, BYTE, node.op_type, number, int(number))]


def _arithmetic(plan: Plan, node: onnx.NodeProto, inputs: list[Stack]) -> _Taken:
    a, b = inputs
    if a.kind != SINGLE or b.kind != SINGLE:
        return None
    number = _number(b)
    if number is not None and not b.pieces[0].shape:
        return [plan.step(a, SINGLE, node.op_type, number, number.tobytes())]
    if len(a.inner) != len(b.inner) or any(n not in (1, m) for m, n in zip(a.inner, b.inner, strict=True)):
        return None
    if not _has_axes(b):
        return None
    if a.rows != b.rows:
        first, second = _ends(a), _ends(b)
        if first[-1] != second[-1] or first[-1] == 0:
            return None
        ends = sorted({*first, *second})
        a, b = (_of_pieces(plan.cut(plan.done(stack), ends), stack) for stack in (a, b))
    made = [
        plan.piece(node.op_type, ((one, a.steps, a.token), (other, b.steps, b.token)), (rows, *a.inner), None, None)
        for one, other, rows in zip(a.pieces, b.pieces, a.rows, strict=True)
    ]
    return [Stack(tuple(made), SINGLE, a.rows, a.inner)]


def _of_pieces(pieces: Sequence[Piece], stack: Stack) -> Stack:
    """A stack like `stack`, of these pieces."""
    return Stack(tuple(pieces), stack.kind, tuple(one.shape[0] for one in pieces), stack.inner)


def _has_axes(stack: Stack) -> bool:
    return bool(stack.pieces[0].shape)


def _reshape(plan: Plan, node: onnx.NodeProto, inputs: list[Stack]) -> _Taken:
    stack, wanted = inputs[0], _numbers(inputs[1]) if len(inputs) == 2 else None
    if not wanted or any(n == 0 or n < -1 for n in wanted) or wanted.count(-1) > 1:
        return None
    old, new = math.prod(stack.inner), math.prod(wanted[1:])
    if wanted[0] == -1:
        if any(rows * old % new for rows in stack.rows):
            return None
        rows, inner = tuple(rows * old // new for rows in stack.rows), tuple(wanted[1:])
    else:
        size = sum(stack.rows) * old
        rest = math.prod(n for n in wanted if n != -1)
        if len(stack.pieces) > 1 or size % rest or (-1 not in wanted and size != rest):
            return None
        shape = [size // rest if n == -1 else n for n in wanted]
        rows, inner = (shape[0],), tuple(shape[1:])
    made = plan.step(stack, stack.kind, "Reshape", inner, (wanted[0] == -1, *inner))
    return [made._replace(rows=rows, inner=inner)]


def _concat(plan: Plan, node: onnx.NodeProto, inputs: list[Stack]) -> _Taken:
    """Along the first axis nothing is done; along the last, values made of the same pieces come side by side."""
    first = inputs[0]
    rank, axis = 1 + len(first.inner), _attributes(node).get("axis")
    if any(stack.kind != first.kind or not _has_axes(stack) for stack in inputs):
        return None
    if axis in (0, -rank):
        if any(stack.inner != first.inner for stack in inputs) or sum(len(stack.pieces) for stack in inputs) > MOST_PIECES:
            return None
        done = [plan.done(stack) for stack in inputs]
        pieces, rows = (tuple(one for stack in done for one in getattr(stack, what)) for what in ("pieces", "rows"))
        return [Stack(pieces, first.kind, rows, first.inner)]
    if axis not in (-1, rank - 1) or any(stack.pieces != first.pieces or stack.rows != first.rows for stack in inputs):
        return None
    if any(stack.inner[:-1] != first.inner[:-1] for stack in inputs):
        return None
    inner = (*first.inner[:-1], sum(stack.inner[-1] for stack in inputs))
    start = Stack(first.pieces, first.kind, first.rows, inner)
    branches, told = tuple(stack.steps for stack in inputs), tuple(stack.token for stack in inputs)
    return [plan.step(start, first.kind, "Concat", branches, told, sum(one.cost + 1 for one in inputs))]


def _slice(plan: Plan, node: onnx.NodeProto, inputs: list[Stack]) -> _Taken:
    """A range of columns."""
    stack, numbers = inputs[0], [_numbers(stack) for stack in inputs[1:]]
    if len(numbers) != 3 or any(found is None or len(found) != 1 for found in numbers):
        return None
    begin, end, axis = (found[0] for found in numbers if found)
    if not 1 <= axis <= len(stack.inner) or not 0 <= begin < end <= stack.inner[axis - 1]:
        return None
    cut = (*(slice(None) for _ in range(axis)), slice(begin, end))
    made = plan.step(stack, stack.kind, "Slice", cut, (axis, begin, end))
    inner = (*stack.inner[: axis - 1], end - begin, *stack.inner[axis:])
    return [made._replace(inner=inner)]


def _split(plan: Plan, node: onnx.NodeProto, inputs: list[Stack]) -> _Taken:
    """Into equal parts along the first axis."""
    stack, count, attributes = inputs[0], len(node.output), _attributes(node)
    total = sum(stack.rows)
    if attributes.keys() - {"axis", "num_outputs"}:  # `split`, before it became an input, says how large each part is
        return None
    if len(inputs) != 1 or attributes.get("axis", 0) != 0 or total % count or total == 0:
        return None
    step, taken = total // count, 0
    parts: list[list[Piece]] = [[] for _ in range(count)]
    for piece in plan.cut(plan.done(stack), range(step, total + 1, step)):
        parts[taken // step].append(piece)
        taken += piece.shape[0]
    return [_of_pieces(part, stack) for part in parts]


_RULES: Mapping[str, Callable[[Plan, onnx.NodeProto, list[Stack]], _Taken]] = {
    "Add": _arithmetic,
    "BitShift": _bits,
    "Cast": _cast,
    "Concat": _concat,
    "Mod": _bits,
    "Mul": _arithmetic,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Sub": _arithmetic,
}
