"""What `--codec` names: which precision the weights in blocks, those outside of blocks, and everything else travel in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accordion.elastic import Order
from accordion.errors import UsageError
from accordion.packaging.codecs import Precision, by_name
from accordion.packaging.encode import Group, weights_of
from accordion.packaging.graph import Graph
from accordion.packaging.segments import is_inline

__all__ = ["SCHEMES", "Scheme", "groups_of", "precision_name", "scheme"]

SMALLEST_VECTOR = 16  # numbers; the few below, such as the input's normalisation, stay float32


@dataclass(frozen=True, slots=True)
class Scheme:
    """`outside` is for the first and the last layers' weights, which are few and decide much; `vectors` for biases and the like."""

    name: str
    blocks: Precision
    outside: Precision
    vectors: Precision


SCHEMES: Mapping[str, Scheme] = {
    name: Scheme(name, by_name(blocks), by_name(outside), by_name("float16"))
    for name, blocks, outside in (
        ("float16", "float16", "float16"),
        ("bfloat16", "bfloat16", "bfloat16"),
        ("float8", "float8", "int8"),
        ("int8", "int8", "int8"),
        ("int4", "int4", "int8"),
        ("planes", "int4+4+8", "int8"),
        ("sparse8", "sparse8", "int8"),
        ("sparse4", "sparse4", "int8"),
        ("lowrank8", "lowrank8", "int8"),
    )
}


def scheme(name: str) -> Scheme:
    """The scheme called `name`; UsageError names those that there are."""
    try:
        return SCHEMES[name]
    except KeyError:
        raise UsageError(f"unknown codec {name!r}: choose float32, {', '.join(SCHEMES)}, auto, or a path file") from None


def groups_of(graphs: Sequence[Graph], order: Order, chosen: Scheme) -> dict[int, Group]:
    """The group of each tensor, by the identity of its array: one group for the blocks of each stage."""
    stages = [
        (block + ".", Group(f"stage{index + 1}", chosen.blocks)) for index, stage in enumerate(order.stages) for block in stage
    ]
    outside, vectors = Group("outside", chosen.outside), Group("vectors", chosen.vectors)
    found: dict[int, Group] = {}
    for graph in graphs:
        weights = weights_of(graph)
        for name, array in graph.tensors.items():
            if id(array) in found or is_inline(array) or array.dtype != np.float32:
                continue
            if name in weights:
                found[id(array)] = next((group for prefix, group in stages if name.startswith(prefix)), outside)
            elif _is_vector(array):
                found[id(array)] = vectors
    return found


def _is_vector(array: NDArray[Any]) -> bool:
    return array.size >= SMALLEST_VECTOR


def precision_name(chosen: Scheme, planes: Sequence[int], by_stage: Sequence[int]) -> str:
    """The ladder's `precision`: one word for the blocks of all stages, or one for each stage that has blocks, `/` between."""
    words = []
    for count, blocks in zip(planes, by_stage, strict=True):
        if blocks:
            first, *others = (codec.name for codec in chosen.blocks.planes[:count])
            words.append("+".join([first, *(other.removeprefix("int") for other in others)]))
    return words[0] if len(set(words)) == 1 else "/".join(words) or chosen.outside.name
