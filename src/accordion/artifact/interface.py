"""Whether a graph takes and gives what its ladder says: a caller prepares inputs and reads answers by the ladder alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from accordion.artifact.bounds import Value
from accordion.artifact.tensor_spec import TensorSpec
from accordion.errors import FormatError

if TYPE_CHECKING:
    import onnx

__all__ = ["check_interface"]

_TYPES = {"float": "float32", "double": "float64"}  # ONNX's names where they are not NumPy's
_LONGEST = 20  # letters of a type's name

Sizes = Sequence[int | None]
"""Of a tensor's axes; None where one is open."""


def check_interface(
    graph: onnx.GraphProto, values: Mapping[str, Value], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], what: str
) -> None:
    """FormatError naming `what` unless the graph needs no other inputs than these, and has these inputs and outputs.

    `values` are what its bounds were told from, each open axis being 1. Types must be the same. A size that the ladder fixes may be
    open in the graph, and an output's the other way round; an input's may not: what the ladder lets vary the graph must take.
    An output's sizes are what is computed, whatever the graph says of it. Names of classes are as many as there are classes, in an
    output of two axes.
    """
    defaults = {tensor.name for tensor in graph.initializer}
    named = {spec.name for spec in inputs}
    if beyond := sorted(value.name for value in graph.input if value.name not in defaults | named):
        raise FormatError(f"{what} needs the input {beyond[0][:80]!r}, which the ladder does not name")
    takes = {value.name: value for value in graph.input}
    for spec in inputs:
        where = f"{what}: the input {spec.name[:80]!r}"
        if spec.name not in takes:
            raise FormatError(f"{what} has no input {spec.name[:80]!r}, which the ladder names")
        _check_type(values[spec.name].kind, spec, where)
        if (sizes := _declared(takes[spec.name])) is not None:
            _check_sizes(sizes, spec, where, may_be_fixed=False)
    gives = {value.name: value for value in graph.output}
    for spec in outputs:
        where = f"{what}: the output {spec.name[:80]!r}"
        if spec.name not in gives:
            raise FormatError(f"{what} has no output {spec.name[:80]!r}, which the ladder names")
        value = values[spec.name]
        _check_type(value.kind, spec, where)
        stated = _declared(gives[spec.name])
        # 1 is what an open axis was told from, unless the graph itself says that it is one long.
        sizes = [
            None if size == 1 and (stated is None or len(stated) != len(value.shape) or stated[axis] != 1) else size
            for axis, size in enumerate(value.shape)
        ]
        _check_sizes(sizes, spec, where, may_be_fixed=True)
        if spec.labels and len(sizes) == 2 and sizes[1] not in (None, len(spec.labels)):
            raise FormatError(f"{where} has {sizes[1]} values and {len(spec.labels)} labels")


def _declared(value: onnx.ValueInfoProto) -> Sizes | None:
    """What a graph says of the axes of its input or output; None where it says nothing."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    return [axis.dim_value if axis.HasField("dim_value") else None for axis in value.type.tensor_type.shape.dim]


def _check_type(kind: int, spec: TensorSpec, where: str) -> None:
    import onnx

    name = onnx.TensorProto.DataType.Name(kind).lower()  # of a known kind: the bounds are told from no other
    name, stated = _TYPES.get(name, name), spec.dtype
    if len(stated) <= _LONGEST:
        with suppress(TypeError, ValueError, SyntaxError):
            stated = np.dtype(stated).name  # `f4` is a name too
    if name != stated:
        raise FormatError(f"{where} is of {name}, the ladder says {spec.dtype[:_LONGEST]}")


def _check_sizes(sizes: Sizes, spec: TensorSpec, where: str, *, may_be_fixed: bool) -> None:
    if len(sizes) != len(spec.shape):
        raise FormatError(f"{where} has {len(sizes)} axes, the ladder says {len(spec.shape)}")
    for axis, (size, stated) in enumerate(zip(sizes, spec.shape, strict=True)):
        if size is None or size == stated or (may_be_fixed and isinstance(stated, str)):
            continue
        raise FormatError(f"{where} is {size} long along axis {axis}, the ladder says {stated}")
