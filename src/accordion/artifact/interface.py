"""Whether a graph takes and gives what its ladder says: a caller prepares inputs and reads answers by the ladder alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from accordion.artifact.tensor_spec import TensorSpec
from accordion.errors import FormatError

if TYPE_CHECKING:
    import onnx

__all__ = ["check_interface"]

_TYPES = {"float": "float32", "double": "float64"}  # ONNX's names where they are not NumPy's


def check_interface(graph: onnx.GraphProto, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], what: str) -> None:
    """FormatError naming `what` unless the graph has exactly these inputs, and these outputs at least.

    Types must be the same. A size that the ladder fixes may be open in the graph, and an output's the other way round; an input's
    may not: what the ladder lets vary the graph must take. Labels are as many as the last axis is long.
    """
    held = {tensor.name for tensor in graph.initializer}
    takes = {value.name: value for value in graph.input if value.name not in held}
    gives = {value.name: value for value in graph.output}
    named = {spec.name for spec in inputs}
    if beyond := sorted(set(takes) - named):
        raise FormatError(f"{what} needs the input {beyond[0]!r}, which the ladder does not name")
    for kind, specs, there in (("input", inputs, takes), ("output", outputs, gives)):
        for spec in specs:
            if spec.name not in there:
                raise FormatError(f"{what} has no {kind} {spec.name[:80]!r}, which the ladder names")
            _check_one(there[spec.name], spec, f"{what}: the {kind} {spec.name[:80]!r}", fixed_only=kind == "output")


def _check_one(value: onnx.ValueInfoProto, spec: TensorSpec, where: str, *, fixed_only: bool) -> None:
    import onnx

    tensor = value.type.tensor_type
    name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if value.type.HasField("tensor_type") else "no tensor"
    kind = _TYPES.get(name, name)
    if kind != spec.dtype:
        raise FormatError(f"{where} is of {kind}, the ladder says {spec.dtype[:40]}")
    if spec.labels is not None and spec.shape and isinstance(spec.shape[-1], int) and len(spec.labels) != spec.shape[-1]:
        raise FormatError(f"{where} has {spec.shape[-1]} values and {len(spec.labels)} labels")
    if not tensor.HasField("shape"):
        return
    sizes = [axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim]
    if len(sizes) != len(spec.shape):
        raise FormatError(f"{where} has {len(sizes)} axes, the ladder says {len(spec.shape)}")
    for axis, (size, stated) in enumerate(zip(sizes, spec.shape, strict=True)):
        if size is None or size == stated or (fixed_only and isinstance(stated, str)):
            continue
        raise FormatError(f"{where} is {size} long along axis {axis}, the ladder says {stated}")
