"""How much a graph computes and holds, told from its shapes before anything runs, and held against what was promised.

Weights travel small and become large on the device, by operators over constants. Without a bound, twenty bytes of graph are a
terabyte (`Expand`, `Tile`, `ConstantOfShape`, a doubling `Concat`, …) in whatever session loads it first. So every node is walked
once with the shapes that ONNX's own inference gives it, and nothing is evaluated but shapes and small whole numbers:

- what is made of constants alone: all of it together, since a runtime that folds constants holds every step until the last,
  at most `REBUILT_BYTES` a parameter, and `REBUILT_WORK` operations a parameter;
- a configuration has at most `PARAMETERS` parameters for each byte that was delivered for it;
- what is made of inputs: at one input of the smallest size, at most `RUN_WORK` times the multiply-accumulates that the ladder
  states, and never more than `RUN_BYTES` at once. Once more at `WIDER` along each open axis, where work may grow with its square.

A size that can't be told beforehand is refused as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accordion.artifact.operators import ALLOWED, TABULAR, names, work
from accordion.artifact.remembered import Remembered, Row
from accordion.artifact.tensor_spec import TensorSpec
from accordion.errors import FormatError

if TYPE_CHECKING:
    import onnx

__all__ = ["Bounds", "Declared", "Value", "bits_of", "check_bounds"]

PARAMETERS = 64  # for a byte delivered: one bit and a mask's bit each make 4, factors of a low rank a few dozen
REBUILT_BYTES = 160  # a parameter: some twenty steps of 4 to 8 bytes each
REBUILT_BYTES_FLOOR = 16 * 2**20
REBUILT_WORK = 1024  # operations a parameter: factors of rank 512 need 512
REBUILT_WORK_FLOOR = 2**26
RUN_WORK = 16  # times what the ladder states, which counts multiplications only
RUN_WORK_FLOOR = 2**24
RUN_BYTES = 2**30  # at once, for one input
WIDER = 16
WIDER_BYTES = 2**34
KNOWN = 4096  # elements of whole numbers that are followed: shapes, axes, paddings
FEW_OUTPUTS = 4096  # values that an `ai.onnx.ml` operator gives for one input, as far as shapes don't say

Shapes = tuple[tuple[int, tuple[int, ...]], ...]
"""Types and shapes of a node's named outputs."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What the ladder says of a configuration; without `inputs` and `outputs` what goes in and out is not looked at."""

    parameters: int
    macs: int
    macs_per: str = "input"
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor as far as it is known: type, shape, whether it is made of constants alone, and its elements if few."""

    kind: int  # onnx.TensorProto.DataType
    shape: tuple[int, ...]
    constant: bool
    known: NDArray[Any] | None = None

    @property
    def bytes(self) -> int:
        """Its size in memory."""
        return (math.prod(self.shape) * bits_of(self.kind) + 7) // 8

    @property
    def finite(self) -> bool:
        """Whether no infinity is known in it. Segments have none; a mask in the graph may, as long as no weight is made of it."""
        return self.known is None or self.known.dtype.kind != "f" or bool(np.isfinite(self.known).all())


@cache
def _bits() -> dict[int, int]:
    from onnx import TensorProto as kinds  # noqa: N813

    return {
        kinds.FLOAT: 32, kinds.UINT8: 8, kinds.INT8: 8, kinds.UINT16: 16,
        kinds.INT16: 16, kinds.INT32: 32, kinds.INT64: 64, kinds.BOOL: 8,
        kinds.FLOAT16: 16, kinds.DOUBLE: 64, kinds.UINT32: 32, kinds.UINT64: 64,
        kinds.BFLOAT16: 16, kinds.FLOAT8E4M3FN: 8, kinds.FLOAT8E5M2: 8,
        kinds.UINT4: 4, kinds.INT4: 4,
    }  # fmt: skip


def bits_of(kind: int) -> int:
    """Bits an element, of the types that a package's tensors may have; 0 for all others. Strings have no fixed size."""
    return _bits().get(kind, 0)


@dataclass(frozen=True, slots=True)
class _Walked:
    """A node over its `inputs`: its named outputs, whether they are of constants alone, their bytes, and its work."""

    inputs: tuple[Value | None, ...]
    made: tuple[Value, ...]
    constant: bool
    bytes: int
    work: int


def check_bounds(
    model: onnx.ModelProto,
    nodes: Sequence[Row],
    tensors: Sequence[Row],
    delivered: int,
    declared: Declared | None,
    what: str,
    remembered: Remembered,
) -> Bounds:
    """FormatError naming `what` unless the graph keeps the bounds; `delivered` are the bytes of the configuration's segments.

    `nodes` and `tensors` are the model's. Without `declared`, the most that `delivered` allows is taken for the parameters, and
    work over inputs is not compared.
    """
    found = Bounds(model, delivered, declared, what, 1, remembered)
    found.walk(nodes, tensors)
    if any(dim.dim_value == 0 for value in model.graph.input for dim in value.type.tensor_type.shape.dim):
        # Open axes that hang together, as a cache's and its mask's, have no common size: then the first walk stands.
        with suppress(_MismatchError):
            Bounds(model, delivered, declared, what, WIDER, remembered).walk(nodes, tensors)
    return found


class _MismatchError(FormatError):
    """Shapes that don't fit one another."""


class Bounds:
    """One walk over a graph, with `size` for every open axis of its inputs. `values` holds what it found."""

    def __init__(
        self, model: onnx.ModelProto, delivered: int, declared: Declared | None, what: str, size: int, remembered: Remembered
    ) -> None:
        self.graph, self.what, self.size = model.graph, what, size
        self.declared, self.delivered = declared, delivered
        self.parameters = PARAMETERS * delivered if declared is None else declared.parameters
        self.opsets = {row.domain or "ai.onnx": row.version for row in model.opset_import}
        self.imports = list(model.opset_import)
        self.values: dict[str, Value] = {}
        self.rebuilt_bytes = self.rebuilt_work = self.run_work = self.live_bytes = 0
        self._live: dict[str, int] = {}  # bytes of what is made of inputs
        self._remembered = remembered
        self._versions = tuple(sorted(self.opsets.items()))

    def fail(self, problem: str) -> FormatError:
        return FormatError(f"{self.what}: {problem}")

    def walk(self, nodes: Sequence[Row], tensors: Sequence[Row]) -> None:
        """FormatError as soon as a bound is passed."""
        if self.parameters > PARAMETERS * self.delivered + KNOWN:
            raise self.fail(
                f"its configuration claims {self.parameters} parameters, more than {PARAMETERS} for each of the {self.delivered} "
                "bytes delivered"
            )
        for tensor in tensors:
            self.values[tensor.node.name] = self._constant(tensor)
        for value in self.graph.input:
            if value.name not in self.values:
                self.values[value.name] = self._input(value)
                self._live[value.name] = self.values[value.name].bytes
        last = {name: index for index, node in enumerate(nodes) for name in node.inputs}
        last.update((value.name, len(nodes)) for value in self.graph.output)
        for index, node in enumerate(nodes):
            self._node(node)
            for name in set(node.inputs):
                if last[name] == index and name in self._live:
                    self.live_bytes -= self._live[name]
            for name in node.outputs:
                if name in self._live and name not in last:
                    self.live_bytes -= self._live[name]

    def _constant(self, tensor: Row) -> Value:
        if (found := self._remembered.values.get(tensor.raw)) is None:
            found = self._value(tensor.node.data_type, tuple(tensor.node.dims), True, _elements(tensor.node))
            size = 0 if found.known is None else found.known.nbytes
            self._remembered.keep(self._remembered.values, tensor.raw, found, len(tensor.raw) + size)
        return found

    def _input(self, value: onnx.ValueInfoProto) -> Value:
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            raise self.fail(f"its input {value.name[:80]!r} is no tensor of a stated shape")
        kind, dims = value.type.tensor_type.elem_type, value.type.tensor_type.shape.dim
        shape = tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value else self.size for dim in dims)
        if not bits_of(kind) or any(size < 0 for size in shape) or len(shape) > 32:
            raise self.fail(f"its input {value.name[:80]!r} has a shape or a type that nothing can have")
        made = self._value(kind, shape, False)
        self.live_bytes += made.bytes
        return made

    def _value(self, kind: int, shape: tuple[int, ...], constant: bool, known: NDArray[Any] | None = None) -> Value:
        """The one object for all values that are alike; what nodes make of values is remembered by it."""
        key = (kind, shape, constant, None if known is None else (known.dtype, known.shape, known.tobytes()))
        if (found := self._remembered.values.get(key)) is None:
            found = Value(kind, shape, constant, known)
            self._remembered.keep(self._remembered.values, key, found, 0 if known is None else 2 * known.nbytes)
        return found

    def _node(self, row: Row) -> None:
        inputs = tuple([self.values[name] if name else None for name in row.inputs])
        key = (self._versions, row.kind, *map(id, inputs))
        if (found := self._remembered.walked.get(key)) is None:
            found = self._look(row.node, inputs)
            known = [value.known.nbytes for value in (*inputs, *found.made) if value is not None and value.known is not None]
            self._remembered.keep(self._remembered.walked, key, found, len(row.raw) + sum(known))
        made = dict(zip([name for name in row.outputs if name], found.made, strict=True))
        self.values.update(made)
        if found.constant:
            self._rebuilt(row.node, found.bytes, found.work)
        else:
            self._live.update((name, value.bytes) for name, value in made.items())
            self._run(row.node, found.bytes, found.work)

    def _look(self, node: onnx.NodeProto, inputs: tuple[Value | None, ...]) -> _Walked:
        """What a node makes of its inputs."""
        operator, tabular = node.op_type, node.domain == "ai.onnx.ml"
        if operator not in (TABULAR if tabular else ALLOWED):
            raise self.fail(f"the operator {operator[:80]!r} is not one that a package's graph may use")
        constant = all(value.constant for value in inputs if value is not None) and not tabular
        if constant and operator in _ARITHMETIC and not all(value is None or value.finite for value in inputs):
            raise self.fail(f"{_named(node)} makes weights of an infinity")
        shapes = self._infer(node, inputs, tabular)
        known = self._known(node, inputs, shapes)
        names = [name for name in node.output if name]
        made = tuple(self._value(kind, shape, constant, known.get(name)) for name, (kind, shape) in zip(names, shapes, strict=True))
        cost = self._work(node, inputs, [shape for _, shape in shapes])
        return _Walked(inputs, made, constant, sum(value.bytes for value in made), cost)

    def _rebuilt(self, node: onnx.NodeProto, size: int, cost: int) -> None:
        self.rebuilt_bytes += size
        self.rebuilt_work += cost
        most = REBUILT_BYTES * self.parameters + REBUILT_BYTES_FLOOR
        if self.rebuilt_bytes > most:
            raise self.fail(
                f"{_named(node)}: what it makes of its constants grows beyond {most} bytes, too much for its parameters"
            )
        most = REBUILT_WORK * self.parameters + REBUILT_WORK_FLOOR
        if self.rebuilt_work > most:
            raise self.fail(f"{_named(node)}: making its weights takes more than {most} operations, the most for its parameters")

    def _run(self, node: onnx.NodeProto, size: int, cost: int) -> None:
        self.run_work += cost
        self.live_bytes += size
        most = RUN_BYTES if self.size == 1 else WIDER_BYTES
        if self.live_bytes > most:
            raise self.fail(f"{_named(node)}: it needs more than {most} bytes at once for one input")
        if self.declared is not None:
            # What is counted for a token or a row may stand many times in an input of fixed size.
            times = 1 if self.declared.macs_per == "input" else self._input_elements()
            most = (RUN_WORK * self.declared.macs * times + RUN_WORK_FLOOR) * self.size**2
            if self.run_work > most:
                raise self.fail(
                    f"{_named(node)}: it computes more than {most} operations, where the ladder says {self.declared.macs} "
                    f"for one {self.declared.macs_per[:40]}"
                )

    def _input_elements(self) -> int:
        return max([1, *(math.prod(self.values[value.name].shape) for value in self.graph.input)])

    def _work(self, node: onnx.NodeProto, inputs: Sequence[Value | None], outputs: list[tuple[int, ...]]) -> int:
        try:
            return work(node.op_type, [() if value is None else value.shape for value in inputs], outputs, _attributes(node))
        except (IndexError, TypeError) as error:
            raise self.fail(f"{_named(node)}: its inputs are not those of this operator") from error

    def _infer(self, node: onnx.NodeProto, inputs: Sequence[Value | None], tabular: bool) -> Shapes:
        """Type and shape of each named output, from ONNX's own inference."""
        import onnx
        from onnx import defs, helper, numpy_helper, shape_inference

        alike = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
        alike.attribute.extend(node.attribute)
        alike.input.extend("" if value is None else f"i{index}" for index, value in enumerate(inputs))
        alike.output.extend(f"o{index}" if name else "" for index, name in enumerate(node.output))
        there = {f"i{index}": value for index, value in enumerate(inputs) if value is not None}
        types = {name: helper.make_tensor_type_proto(value.kind, value.shape) for name, value in there.items()}
        data = {name: numpy_helper.from_array(value.known) for name, value in there.items() if value.known is not None}
        try:
            schema = defs.get_schema(node.op_type, self.opsets.get(node.domain or "ai.onnx", 0), node.domain)
            found = shape_inference.infer_node_outputs(schema, alike, types, data, opset_imports=self.imports)
        except defs.SchemaError as error:
            raise self.fail(f"the operator {node.op_type[:80]!r} is not in the operator set that it names") from error
        except Exception as error:  # the C++ inference raises several unrelated types
            raise _MismatchError(f"{self.what}: {_named(node)} does not fit its inputs: {_first_line(error)}") from error
        made = tuple(self._shape(node, found.get(name), there, tabular) for name in alike.output if name)
        if node.op_type == "Reshape" and math.prod(there["i0"].shape) != math.prod(made[0][1]):  # which the inference lets pass
            raise _MismatchError(f"{self.what}: {_named(node)} does not fit its input: the number of elements changes")
        return made

    def _shape(
        self, node: onnx.NodeProto, found: onnx.TypeProto | None, inputs: Mapping[str, Value], tabular: bool
    ) -> tuple[int, tuple[int, ...]]:
        kind = 0 if found is None else found.tensor_type.elem_type
        dims = None if found is None or not found.tensor_type.HasField("shape") else found.tensor_type.shape.dim
        if tabular:
            rows = max([1, *(math.prod(value.shape[:1]) for value in inputs.values())])
            sizes = [rows, FEW_OUTPUTS] if dims is None else [dim.dim_value if dim.HasField("dim_value") else rows for dim in dims]
            return kind if bits_of(kind) else 1, tuple(sizes)
        if dims is None or not all(dim.HasField("dim_value") for dim in dims):
            raise self.fail(f"{_named(node)}: the size of what it makes can't be told beforehand")
        shape = tuple(dim.dim_value for dim in dims)
        if not bits_of(kind) or any(size < 0 for size in shape) or len(shape) > 32:
            raise self.fail(f"{_named(node)} makes a shape or a type that nothing can have")
        return kind, shape

    def _known(
        self, node: onnx.NodeProto, inputs: Sequence[Value | None], shapes: Sequence[tuple[int, tuple[int, ...]]]
    ) -> dict[str, NDArray[Any]]:
        """The elements of an output that shapes may hang on: few, and made of few that are known."""
        if node.op_type == "Shape" and inputs and inputs[0] is not None:
            end = _attributes(node)("end", len(inputs[0].shape))
            return {node.output[0]: np.array(inputs[0].shape[_attributes(node)("start", 0) : end], np.int64)}
        if node.op_type == "Constant" and len(node.attribute) == 1:
            value = _attributes(node)(node.attribute[0].name, None)
            if node.attribute[0].name == "value":
                known = _elements(value)
                return {} if known is None else {node.output[0]: known}
            return {node.output[0]: np.array(value)} if node.attribute[0].name in ("value_int", "value_ints") else {}
        if node.op_type not in _FOLLOWED or sum(math.prod(shape) for _, shape in shapes) > KNOWN:
            return {}
        if any(value is not None and value.known is None for value in inputs):
            return {}
        return _evaluate(node, [value.known for value in inputs if value is not None and value.known is not None], self.imports)


_ARITHMETIC = frozenset({"Add", "DequantizeLinear", "Div", "Gemm", "MatMul", "Mul", "Pow", "QuantizeLinear", "Sub"})
# What exporters compute shapes with.
_FOLLOWED = names(
    """
    Add And Cast Ceil Concat ConstantOfShape Div Equal Expand Floor Gather Greater GreaterOrEqual Identity Less
    LessOrEqual Max Min Mod Mul Neg Not Or Range ReduceMax ReduceMin ReduceProd ReduceSum Reshape Size Slice Split Sqrt
    Squeeze Sub Tile Transpose Unsqueeze Where
    """
)


def _evaluate(node: onnx.NodeProto, inputs: list[NDArray[Any]], imports: list[Any]) -> dict[str, NDArray[Any]]:
    """Outputs by ONNX's reference implementation; nothing where it refuses, and the size is then not known."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    names = [name for name in node.input if name]
    feeds = dict(zip(names, inputs, strict=True))
    values = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "one", values, outputs)
    try:
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(helper.make_model(graph, opset_imports=imports)).run(None, feeds)
    except Exception:  # whatever hostile attributes provoke in it
        return {}
    return {value.name: np.asarray(array) for value, array in zip(outputs, found, strict=True)}


def _elements(tensor: onnx.TensorProto) -> NDArray[Any] | None:
    """The elements of a tensor inside the graph, if few."""
    from onnx import TensorProto, numpy_helper

    if tensor.data_location == TensorProto.EXTERNAL or tensor.data_type == TensorProto.STRING or math.prod(tensor.dims) > KNOWN:
        return None
    try:
        found = np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise FormatError(f"the tensor {tensor.name[:80]!r} has other elements than its shape and type say") from error
    if found.dtype.kind == "f" and np.isnan(found).any():
        raise FormatError(f"the tensor {tensor.name[:80]!r} holds a NaN")
    return found


def _attributes(node: onnx.NodeProto) -> Any:
    from onnx import helper

    found = {attribute.name: attribute for attribute in node.attribute}

    def read(name: str, default: Any) -> Any:
        return helper.get_attribute_value(found[name]) if name in found else default

    return read


def _named(node: onnx.NodeProto) -> str:
    output = next((name for name in node.output if name), "")
    return f"the {node.op_type[:40]} that makes {output[:80]!r}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1][:200] if lines else type(error).__name__
