"""What a codec is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from accordion.errors import UsageError
from accordion.packaging.graph import Graph, Pool

__all__ = ["Builder", "Codec", "Encoded", "Kind", "Part", "Precision", "encode_planes"]

Array = NDArray[Any]
Weights = NDArray[np.float32]

Kind = Literal["codes", "values"]
"""What a part counts as: `codes` are the encoded weights, `values` what they need beside them (scales, tables, indices)."""


@dataclass(frozen=True, slots=True)
class Part:
    """One array of an encoded tensor as it travels, of a type that safetensors and ONNX share (`ml_dtypes` for bfloat16).

    If the codec `joins`, the first axis must run along with the tensors: parts of several tensors of equal shape are laid one
    behind the other along it, and `rebuild` gets the whole.
    """

    array: Array
    kind: Kind = "codes"

    @property
    def nbytes(self) -> int:
        return int(self.array.nbytes)


@dataclass(frozen=True, slots=True)
class Encoded:
    """`parts` by role; `value` is the tensor that the nodes of `rebuild` give, bit for bit."""

    parts: Mapping[str, Part]
    value: Weights

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts.values())


class Codec(Protocol):
    """One way for a tensor to travel. Codecs are values: equal ones encode alike, and the same tensor gives the same bytes."""

    @property
    def name(self) -> str:
        """As the ladder's `precision` says it: `int4`, `float16`."""
        ...

    @property
    def joins(self) -> bool:
        """Whether parts of several tensors can be laid one behind the other and rebuilt at once (see `Part`)."""
        ...

    def encode(self, weight: Weights, hessian: NDArray[np.float64] | None = None) -> Encoded:
        """`weight` [out, …] is finite. `hessian` [n, n], if known, is the mean of x·xᵀ over the inputs x [n] that one row of the
        tensor, flattened to n numbers, is multiplied with on real data; a codec may use it to choose what to lose.
        """
        ...

    def rebuild(self, build: Builder, parts: Mapping[str, str], shape: tuple[int, ...]) -> str:
        """Adds nodes that make float32 [m, …] of the named parts of one or several tensors (m: their rows together), where
        `shape` [out, …] is that of one tensor; returns the value's name. Standard operators of opset 17 only.
        """
        ...


@dataclass(frozen=True, slots=True)
class Precision:
    """Codecs one after the other: plane 1 encodes the weights, each later one what those before left over."""

    name: str
    planes: tuple[Codec, ...]

    def __len__(self) -> int:
        return len(self.planes)


def encode_planes(precision: Precision, weight: Weights, hessian: NDArray[np.float64] | None = None) -> list[Encoded]:
    """What each plane brings; the sum of the values up to plane p, in this order and in float32, is the tensor at plane p.

    UsageError if the tensor is not finite.
    """
    if not np.isfinite(weight).all():
        raise UsageError("the network has weights that are no finite numbers: it can't be packaged")
    found: list[Encoded] = []
    so_far: Weights | None = None
    for codec in precision.planes:
        left = weight if so_far is None else (weight - so_far).astype(np.float32)
        found.append(codec.encode(left, hessian))
        so_far = found[-1].value if so_far is None else so_far + found[-1].value
    return found


class Builder:
    """Adds nodes and tensors to a graph, under names that no other value has."""

    def __init__(self, graph: Graph, pool: Pool, prefix: str = "decode") -> None:
        self._graph, self._pool, self._prefix = graph, pool, prefix
        self._count = 0
        self._names: dict[tuple[int, str | None], str] = {}
        self.nodes: list[onnx.NodeProto] = []

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output; returns the output's name."""
        return self.ops(op_type, inputs, 1, **attributes)[0]

    def ops(self, op_type: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """A node with several outputs."""
        names = [self._fresh() for _ in range(outputs)]
        self.nodes.append(onnx.helper.make_node(op_type, list(inputs), names, **attributes))
        return names

    def tensor(self, array: Array, name: str | None = None) -> str:
        """A constant: small integers and single numbers stay in the graph, everything else is delivered in a segment."""
        kept = self._pool.intern(array)
        if (id(kept), name) not in self._names:
            self._names[id(kept), name] = self._graph.add(name or self._fresh(), kept)
        return self._names[id(kept), name]

    def numbers(self, *values: int) -> str:
        """A list of integers, as shapes and axes are given."""
        return self.tensor(np.array(values, np.int64))

    def _fresh(self) -> str:
        self._count += 1
        return f"{self._prefix}.{self._count}"
