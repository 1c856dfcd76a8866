"""The tensors of all configurations, encoded: between the folding of norms and the division into segments.

What a configuration newly reads is laid together by shape: one array of codes, one of scales, for all its convolutions of 32 × 32
× 3 × 3. A graph joins these arrays over all configurations so far, rebuilds each shape at once, and splits it into weights. So the
graph has a handful of nodes more than without encoding, however many blocks there are, and fewer pointers into segments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from accordion.artifact.archive import compress
from accordion.packaging.codecs import Builder, Encoded, Precision
from accordion.packaging.graph import Graph, Pool

__all__ = ["Encodings", "Group", "Point", "encode_graphs", "weights_of"]

Array = NDArray[Any]
SMALLEST_WEIGHT = 64  # numbers; a weight below is treated like a bias: scales of its own would cost as much as it does


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors that are as precise as each other in every configuration, encoded by one `precision`."""

    name: str
    precision: Precision


@dataclass(frozen=True, slots=True)
class Point:
    """One configuration: the network's own configuration `depth`, with `planes[group]` planes (all, where not given)."""

    depth: int
    planes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one configuration brings of one plane: parts by role, for the tensors (ids of their arrays) one behind the other."""

    tensors: tuple[int, ...]
    parts: Mapping[str, Array]


class Encodings:
    """What the planes of each tensor bring, found when first asked for and then kept.

    `groups` says by the identity of a tensor's array which group it is of; what has none travels as it is. `encode` makes the
    planes of a tensor; it is called once for each content.
    """

    def __init__(self, groups: Mapping[int, Group], encode: Callable[[Array, Precision], list[Encoded]]) -> None:
        self.groups, self._encode = groups, encode
        self._planes: dict[int, list[Encoded]] = {}
        self._sizes: dict[int, list[int]] = {}

    def planes(self, array: Array) -> list[Encoded]:
        """What each plane brings of a tensor that has a group."""
        if id(array) not in self._planes:
            self._planes[id(array)] = self._encode(array, self.groups[id(array)].precision)
        return self._planes[id(array)]

    def sizes(self, array: Array) -> list[int]:
        """About how many bytes each plane takes on its way: packed, where that is smaller."""
        if id(array) not in self._sizes:
            parts = [b"".join(part.array.tobytes() for part in one.parts.values()) for one in self.planes(array)]
            self._sizes[id(array)] = [min(len(data), len(compress(data))) for data in parts]
        return self._sizes[id(array)]

    def value(self, array: Array, planes: Mapping[str, int]) -> Array:
        """The tensor as it is with so many planes of each group (all, where not given); itself if it has no group."""
        group = self.groups.get(id(array))
        if group is None:
            return array
        first, *others = (one.value for one in self.planes(array)[: planes.get(group.name, len(group.precision))])
        total: Array = first
        for other in others:
            total = total + other
        return total


def weights_of(graph: Graph) -> dict[str, onnx.NodeProto]:
    """The constants that multiply activations, by name, with the node that reads them: convolutions and matrix products."""
    found = {}
    for node in graph.nodes:
        if node.op_type in ("Conv", "Gemm", "MatMul") and len(node.input) > 1 and node.input[1] in graph.tensors:
            array = graph.tensors[node.input[1]]
            if array.ndim >= 2 and array.size >= SMALLEST_WEIGHT:
                found[node.input[1]] = node
    return found


def encode_graphs(graphs: Sequence[Graph], points: Sequence[Point], encodings: Encodings, pool: Pool) -> list[Graph]:
    """The graph of each point: `graphs[point.depth]` with its tensors rebuilt from what the points up to it deliver."""
    delivered: dict[tuple[str, tuple[int, ...]], dict[int, list[_Piece]]] = {}
    have: dict[int, int] = {}
    made = []
    for point in points:
        graph = graphs[point.depth]
        wanted: dict[tuple[str, tuple[int, ...], int], list[tuple[int, Encoded]]] = {}
        groups: dict[str, Group] = {}
        for array in _tensors(graph):
            group = encodings.groups.get(id(array))
            if group is None:
                continue
            groups[group.name] = group
            target = point.planes.get(group.name, len(group.precision))
            for plane in range(have.get(id(array), 0), target):
                wanted.setdefault((group.name, array.shape, plane), []).append((id(array), encodings.planes(array)[plane]))
            have[id(array)] = max(target, have.get(id(array), 0))
        for (group_name, shape, plane), tensors in wanted.items():
            pieces = delivered.setdefault((group_name, shape), {}).setdefault(plane, [])
            pieces += _pieces(tensors, joins=groups[group_name].precision.planes[plane].joins, pool=pool)
        made.append(_rebuilt(graph, point, groups, delivered, pool))
    return made


def _tensors(graph: Graph) -> Iterator[Array]:
    """Each constant once, in the order of the data flow."""
    seen = set()
    for node in graph.nodes:
        for name in node.input:
            if name in graph.tensors and id(graph.tensors[name]) not in seen:
                seen.add(id(graph.tensors[name]))
                yield graph.tensors[name]


def _pieces(tensors: Sequence[tuple[int, Encoded]], *, joins: bool, pool: Pool) -> list[_Piece]:
    if not joins:
        return [
            _Piece((identity,), {role: pool.intern(part.array) for role, part in one.parts.items()}) for identity, one in tensors
        ]
    roles = tensors[0][1].parts
    parts = {role: pool.intern(np.concatenate([one.parts[role].array for _, one in tensors])) for role in roles}
    return [_Piece(tuple(identity for identity, _ in tensors), parts)]


def _rebuilt(
    graph: Graph,
    point: Point,
    groups: Mapping[str, Group],
    delivered: Mapping[tuple[str, tuple[int, ...]], Mapping[int, Sequence[_Piece]]],
    pool: Pool,
) -> Graph:
    made = Graph([], graph.inputs, graph.outputs, graph.opset, graph.ir_version, dict(graph.tensors))
    build = Builder(made, pool)
    used = {id(array) for array in graph.tensors.values()}
    rebuilt: dict[int, str] = {}
    final: dict[str, str] = {}
    for stack, ((group_name, shape), planes) in enumerate(delivered.items()):
        if group_name not in groups:
            continue
        precision = groups[group_name].precision
        count = point.planes.get(group_name, len(precision))
        values: list[tuple[tuple[int, ...], str]] = []
        for plane in range(count):
            label = f"{'x'.join(map(str, shape))}.{plane + 1}"
            pieces = [piece for piece in planes[plane] if used.intersection(piece.tensors)]
            if pieces:
                values = _add(build, values, _plane(build, precision, plane, pieces, shape, label))
        for tensors, value in values:
            names = [value] if len(tensors) == 1 else build.ops("Split", [value], len(tensors), axis=0)
            # Names that stay the same from graph to graph, so that they compress.
            count = sum(name.startswith(f"weight.{stack}.") for name in final.values())
            final |= {name: f"weight.{stack}.{count + i}" for i, name in enumerate(names) if name not in made.tensors}
            rebuilt.update(zip(tensors, names, strict=True))
    for node in build.nodes:
        node.output[:] = [final.get(name, name) for name in node.output]
    rebuilt = {identity: final.get(name, name) for identity, name in rebuilt.items()}
    renamed = {name: rebuilt[id(array)] for name, array in graph.tensors.items() if id(array) in rebuilt}
    nodes = []
    for node in graph.nodes:
        new = onnx.NodeProto()
        new.CopyFrom(node)
        new.input[:] = [renamed.get(name, name) for name in node.input]
        nodes.append(new)
    made.nodes = [*build.nodes, *nodes]
    for name in renamed:
        del made.tensors[name]
    return made


def _plane(
    build: Builder, precision: Precision, plane: int, pieces: Sequence[_Piece], shape: tuple[int, ...], label: str
) -> list[tuple[tuple[int, ...], str]]:
    """The values of one plane, each with the tensors that lie in it one behind the other."""
    codec = precision.planes[plane]
    if not codec.joins:
        found = []
        for piece in pieces:
            names = {role: build.tensor(array, f"{label}.{role}") for role, array in piece.parts.items()}
            found.append((piece.tensors, codec.rebuild(build, names, shape)))
        return found
    joined = {}
    for role in pieces[0].parts:
        names_of_role = [build.tensor(piece.parts[role], f"{label}.{role}") for piece in pieces]
        joined[role] = names_of_role[0] if len(pieces) == 1 else build.op("Concat", *names_of_role, axis=0)
    tensors = tuple(tensor for piece in pieces for tensor in piece.tensors)
    return [(tensors, codec.rebuild(build, joined, shape))]


def _add(
    build: Builder, before: list[tuple[tuple[int, ...], str]], plane: list[tuple[tuple[int, ...], str]]
) -> list[tuple[tuple[int, ...], str]]:
    """The sum of the planes so far and the next, of whole stacks where both hold the same tensors."""
    if not before:
        return plane
    if [tensors for tensors, _ in before] == [tensors for tensors, _ in plane]:
        return [(tensors, build.op("Add", a, b)) for (tensors, a), (_, b) in zip(before, plane, strict=True)]
    by_tensor = []
    for values in (before, plane):
        apart: dict[int, str] = {}
        for tensors, value in values:
            names = [value] if len(tensors) == 1 else build.ops("Split", [value], len(tensors), axis=0)
            apart.update(zip(tensors, names, strict=True))
        by_tensor.append(apart)
    first, second = by_tensor
    return [((one,), build.op("Add", first[one], second[one])) for one in first]
