"""Graphs from strangers: what is checked before ONNX Runtime may load one.

A graph may name only files of its package, and only ranges inside them; it computes with ONNX's own operators, in a straight line;
it holds no weights of its own; every value is made before it is used, so there are no cycles; and its size, what it makes of its
weights and what it computes are bounded (`accordion.artifact.bounds`). Numbers that it reads are finite, indices in range. What
goes in and comes out is what the ladder says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from accordion.artifact.bounds import Declared, bits_of, check_bounds
from accordion.artifact.external import from_root
from accordion.artifact.indices import check_indices
from accordion.artifact.interface import check_interface
from accordion.artifact.paths import check_path
from accordion.artifact.remembered import Kind, Remembered, Row, kind_of
from accordion.artifact.weights import Weights
from accordion.errors import FormatError

if TYPE_CHECKING:  # importing it takes a tenth of a second, which a device has better use for until the first graph is there
    import onnx

__all__ = ["GRAPH_LIMIT", "check_graph"]

GRAPH_LIMIT = 64 * 2**20  # bytes of one graph
INLINE_LIMIT = 4096  # bytes of one tensor or list that stays in the graph: shapes, axes, a few constants
INLINE_TOTAL = 4 * 2**20  # bytes of all of them
INLINE_VALUES = 16  # numbers that a constant may have before it counts as weights: a picture's means, some axes
INLINE_WEIGHTS = 2**14  # bytes of all that do; a mask or two
MOST_NODES = 20_000  # the complete ResNet-56 with planes has 801; telling the size of what one makes takes up to half a millisecond
MOST_ELEMENTS = 2**40
MOST_DIMS = 32
OLDEST_IR = 3  # of 2017; what is newer than the installed library can't be read rightly
EXTERNAL = 1  # onnx.TensorProto.EXTERNAL
TABLES = "ai.onnx.ml"
DOMAINS = frozenset({"", "ai.onnx", TABLES})
_COUNTING = frozenset({6, 7, 9, 12, 13})  # types that weights do not have: INT32, INT64, BOOL, UINT32, UINT64
_EXTERNAL_KEYS = frozenset({"location", "offset", "length", "checksum"})


# What a graph calls a type → what a segment calls it, for the floats, which must be finite.
_FLOATS = {1: "F32", 10: "F16", 11: "F64", 16: "BF16", 17: "F8_E4M3", 19: "F8_E5M2"}


def check_graph(data: bytes, files: Mapping[str, int] | Weights, what: str, declared: Declared | None = None) -> frozenset[str]:
    """FormatError naming `what` unless `data` is an ONNX model that keeps the rules above. Returns which of the files it reads.

    `what` is the graph's path in the package, from whose folder it counts where its files lie. `files` are the configuration's
    segments; as sizes in bytes alone, their content is not looked at. `declared` is what the ladder says of the configuration;
    without it the bounds are those of its bytes.
    """
    if len(data) > GRAPH_LIMIT:
        raise FormatError(f"{what} has {len(data)} bytes, more than the {GRAPH_LIMIT} that a graph may have")
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError, RecursionError) as error:
        raise FormatError(f"{what} is not an ONNX model: {str(error).splitlines()[0] if str(error) else 'unreadable'}") from error
    if not model.HasField("graph") or not model.opset_import:
        raise FormatError(f"{what} is not an ONNX model: it has no graph or no operator set")
    if not OLDEST_IR <= model.ir_version <= onnx.IR_VERSION:
        raise FormatError(f"{what} is of the ONNX IR version {model.ir_version}: {OLDEST_IR} to {onnx.IR_VERSION} are known")
    if model.functions or model.training_info:
        raise FormatError(f"{what} defines functions or training of its own")
    if foreign := [row.domain for row in model.opset_import if row.domain not in DOMAINS]:
        raise FormatError(f"{what} needs operators of the domain {foreign[0][:80]!r}: only ONNX's own are allowed")
    _check_operator_sets(model, what)
    from_root(model, what)
    weights = files if isinstance(files, Weights) else None
    sizes = weights.sizes if weights is not None else dict(files)  # type: ignore[arg-type]
    remembered = Remembered() if weights is None else weights.remembered
    checked = _Check(sizes, weights, what, remembered)
    nodes, tensors = checked.graph(model.graph)
    bounds = check_bounds(model, nodes, tensors, sum(sizes.values()), declared, what, remembered)
    check_indices(model, bounds, weights, what)
    if declared is not None and declared.inputs:
        check_interface(model.graph, bounds.values, declared.inputs, declared.outputs, what)
    return frozenset(checked.read)


def _check_operator_sets(model: onnx.ModelProto, what: str) -> None:
    """Each once, and known: of two, a runtime may take the other one than the bounds were told from."""
    from onnx import defs

    domains = [row.domain or "ai.onnx" for row in model.opset_import]
    if len(set(domains)) != len(domains):
        raise FormatError(f"{what} names an operator set twice")
    newest = defs.onnx_opset_version()
    if bad := [row.version for row in model.opset_import if not 1 <= row.version <= newest]:
        raise FormatError(f"{what} needs version {bad[0]} of an operator set: 1 to {newest} are known")


class _Check:
    def __init__(self, files: Mapping[str, int], weights: Weights | None, what: str, remembered: Remembered) -> None:
        self.files, self.weights, self.what, self.remembered = files, weights, what, remembered
        self.inline = self.weights_inline = 0
        self.read: set[str] = set()

    def fail(self, problem: str) -> FormatError:
        return FormatError(f"{self.what}: {problem}")

    def graph(self, graph: onnx.GraphProto) -> tuple[list[Row], list[Row]]:
        """Its nodes and tensors."""
        if graph.sparse_initializer:
            raise self.fail("it holds sparse tensors")
        self.values(graph)
        names = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        if len({value.name for value in graph.input}) != len(graph.input):
            raise self.fail("two of its inputs have one name")
        if len({tensor.name for tensor in graph.initializer}) != len(graph.initializer):
            raise self.fail("two of its tensors have one name")
        if len(graph.node) > MOST_NODES:
            raise self.fail(f"it has more than {MOST_NODES} nodes")
        tensors = [Row(tensor, tensor.SerializeToString(deterministic=True)) for tensor in graph.initializer]
        for tensor in tensors:
            self.tensor(tensor)
        known = set(names)
        made: set[str] = set()
        nodes = []
        for node in graph.node:
            raw = node.SerializeToString(deterministic=True)
            row = Row(node, raw, self.node(node, raw), tuple(node.input), tuple(node.output))
            nodes.append(row)
            for name in row.inputs:
                if name and name not in known:
                    raise self.fail(f"{name[:80]!r} is used before it is made: a cycle, or a hole")
            for name in row.outputs:
                if name and (name in made or name in names):
                    raise self.fail(f"{name[:80]!r} is made twice")
                made.add(name)
                known.add(name)
        if missing := [value.name for value in graph.output if value.name not in known]:
            raise self.fail(f"nothing makes its output {missing[0][:80]!r}")
        return nodes, tensors

    def node(self, node: onnx.NodeProto, raw: bytes) -> Kind:
        """What a node is by itself."""
        if (found := self.remembered.nodes.get(raw)) is not None:
            self.count(0, "a node", found[1], weights=found[2])
            return found[0]
        before = self.inline, self.weights_inline
        self.texts(node.name, node.op_type, node.domain, *node.input, *node.output, *(one.name for one in node.attribute))
        if node.domain not in DOMAINS:
            raise self.fail(f"the operator {node.op_type[:80]!r} is of the domain {node.domain[:80]!r}")
        for attribute in node.attribute:
            self.attribute(attribute, table=node.domain == TABLES)
        kind = kind_of(node)
        counted = self.inline - before[0], self.weights_inline - before[1]
        self.remembered.keep(self.remembered.nodes, raw, (kind, *counted), 2 * len(raw))
        return kind

    def values(self, graph: onnx.GraphProto) -> None:
        for value in (*graph.input, *graph.output):
            self.texts(value.name, *(dim.dim_param for dim in value.type.tensor_type.shape.dim))
        for tensor in graph.initializer:
            self.texts(tensor.name)

    def texts(self, *found: object) -> None:
        """Protobuf hands bytes that are no UTF-8 on as bytes, and a runtime trips over them when it tells its outputs' names."""
        if not all(isinstance(text, str) for text in found):
            raise self.fail("one of its names is no text (UTF-8)")

    def attribute(self, attribute: onnx.AttributeProto, *, table: bool) -> None:
        if attribute.sparse_tensor.ByteSize() or attribute.sparse_tensors:
            raise self.fail("it holds sparse tensors")
        for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
            if tensor.data_location == EXTERNAL:
                raise self.fail("an attribute points to a file")
            self.count(tensor.ByteSize(), f"the attribute {attribute.name[:40]!r}", weights=_weights(tensor))
        size = len(attribute.s) + 4 * len(attribute.floats) + 8 * len(attribute.ints) + sum(map(len, attribute.strings))
        many = len(attribute.floats) > INLINE_VALUES and not table  # trees have no other place
        self.count(size, f"the attribute {attribute.name[:40]!r}", weights=size if many else 0)
        if attribute.HasField("g") or attribute.graphs:
            raise self.fail(f"the attribute {attribute.name[:40]!r} is a graph: branches and loops have no bound")

    def tensor(self, row: Row) -> None:
        where = f"the tensor {row.node.name[:80]!r}"
        if row.node.data_location != EXTERNAL:
            self.count(row.node.ByteSize(), where, weights=_weights(row.node))
            if any(size < 0 for size in row.node.dims):
                raise self.fail(f"{where} has a shape that nothing can have")
            return
        if (place := self.remembered.places.get(row.raw)) is None:
            place = self.place(row.node, where)
            self.remembered.keep(self.remembered.places, row.raw, place, len(row.raw))
        path, start, length, kind = place
        if path not in self.files:
            raise self.fail(f"{where} lies in {path!r}, which is not among the files that its configuration has")
        if start + length > self.files[path]:
            raise self.fail(f"{where} ends at byte {start + length} of {path!r}, which has {self.files[path]}")
        self.read.add(path)
        if self.weights is not None and kind in _FLOATS:
            self.weights.check_finite(path, start, length, _FLOATS[kind], f"{self.what}: {where}")

    def place(self, tensor: onnx.TensorProto, where: str) -> tuple[str, int, int, int]:
        """File, offset, length and type of a tensor outside of the graph."""
        if any(row.name.endswith("_data") and row.name != "external_data" for row, _ in tensor.ListFields()):
            raise self.fail(f"{where} holds weights in the graph itself beside those in a file")
        rows = {row.key: row.value for row in tensor.external_data}
        if len(rows) != len(tensor.external_data) or not set(rows) <= _EXTERNAL_KEYS:
            raise self.fail(f"{where} says in an unknown way where it lies")
        path = check_path(rows.get("location"), f"{self.what}: {where}")
        start, length = self.number(rows.get("offset", "0"), where), self.number(rows.get("length"), where)
        if (
            len(tensor.dims) > MOST_DIMS
            or any(size < 0 for size in tensor.dims)
            or math.prod(tensor.dims) > MOST_ELEMENTS
            or not bits_of(tensor.data_type)
        ):
            raise self.fail(f"{where} has a shape or a type that nothing can have")
        bits = math.prod(tensor.dims) * bits_of(tensor.data_type)
        if length != (bits + 7) // 8:
            raise self.fail(f"{where} is {length} bytes long; its shape needs {(bits + 7) // 8}")
        return path, start, length, tensor.data_type

    def number(self, text: str | None, where: str) -> int:
        if text is None or not text.isascii() or not text.isdigit() or len(text) > 15:
            raise self.fail(f"{where} has no offset or length that is a number")
        return int(text)

    def count(self, size: int, where: str, several: int = 0, *, weights: int = 0) -> None:
        """`size` bytes of one thing inside of the graph, or `several` of things that were counted one by one before; `weights` of
        them may be such."""
        self.inline += size + several
        self.weights_inline += weights
        if size > INLINE_LIMIT + 256 or self.inline > INLINE_TOTAL or self.weights_inline > INLINE_WEIGHTS:
            raise self.fail(f"{where} holds weights in the graph itself: they belong into a segment")


def _weights(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor inside of the graph that may be weights."""
    # The product of a million sizes would take for ever, and nothing has been bounded yet.
    few = len(tensor.dims) <= MOST_DIMS and math.prod(tensor.dims) <= INLINE_VALUES
    return 0 if few or tensor.data_type in _COUNTING else tensor.ByteSize()
