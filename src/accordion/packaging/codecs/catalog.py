"""The precisions that a package can be written in, by name."""

from __future__ import annotations

from collections.abc import Mapping

from accordion.errors import UsageError
from accordion.packaging.codecs.factors import LowRank
from accordion.packaging.codecs.floats import BFloat16, Float8, Float16, Float32
from accordion.packaging.codecs.integers import Integer
from accordion.packaging.codecs.interface import Precision
from accordion.packaging.codecs.sparse import Sparse

__all__ = ["PRECISIONS", "by_name"]

# The exponents follow the planes: 4 bits are a 16th, 4 + 4 bits a 256th of the range.
_PLANES = (Integer(4, -8), Integer(4, -12), Integer(8, -20))

PRECISIONS: Mapping[str, Precision] = {
    one.name: one
    for one in (
        Precision("float32", (Float32(),)),
        Precision("float16", (Float16(),)),
        Precision("bfloat16", (BFloat16(),)),
        Precision("float8", (Float8(),)),
        Precision("int8", (Integer(8),)),
        Precision("int4", _PLANES[:1]),
        Precision("int4+4", _PLANES[:2]),
        Precision("int4+4+8", _PLANES),
        Precision("sparse8", (Sparse(8),)),
        Precision("sparse4", (Sparse(4),)),
        Precision("lowrank8", (LowRank(),)),
    )
}
"""`a+b` is `a` with a plane of b bits for what it leaves over, so what `a` needs is sent first and used again."""


def by_name(name: str) -> Precision:
    """The precision called `name`. UsageError names those that there are."""
    try:
        return PRECISIONS[name]
    except KeyError:
        raise UsageError(f"unknown precision {name!r}: choose {', '.join(PRECISIONS)}") from None
