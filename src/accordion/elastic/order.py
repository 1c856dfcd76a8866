"""Orders: the rule by which blocks join, as values. No torch here.

An order lists the configurations of a network from the smallest (0) to the complete one (K-1). Configurations are nested: each
contains the one before. Blocks are named by their dotted path in the network, grouped by stage, in the order of the data flow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from accordion.errors import UsageError

__all__ = ["Order", "Stages", "blockwise", "by_name", "nested", "right_to_left", "stage_counts"]

Stages = tuple[tuple[str, ...], ...]
"""Block names by stage, first stage first, blocks in the order of the data flow."""


@dataclass(frozen=True, slots=True)
class Order:
    """A nested sequence of configurations over the blocks of `stages`.

    `configurations[k]` is the set of block names that configuration k runs. Raises UsageError when the sequence is empty, names
    unknown blocks, is not strictly nested, or does not end with every block.
    """

    name: str
    stages: Stages
    configurations: tuple[frozenset[str], ...]

    def __post_init__(self) -> None:
        blocks = [block for stage in self.stages for block in stage]
        known = frozenset(blocks)
        if len(known) != len(blocks):
            twice = sorted({block for block in blocks if blocks.count(block) > 1})
            raise UsageError(f"order {self.name!r}: block named twice: {', '.join(twice)}")
        if not self.configurations:
            raise UsageError(f"order {self.name!r} has no configuration")
        previous: frozenset[str] | None = None
        for index, active in enumerate(self.configurations):
            if unknown := active - known:
                raise UsageError(
                    f"order {self.name!r}, configuration {index}: the network has no block {', '.join(sorted(unknown))}"
                )
            if previous is not None and not previous < active:
                lost = ", ".join(sorted(previous - active)) or "nothing is added"
                raise UsageError(
                    f"order {self.name!r} is not nested: configuration {index} must keep every block of configuration "
                    f"{index - 1} and add at least one ({lost})"
                )
            previous = active
        if previous != known:
            raise UsageError(
                f"order {self.name!r}: the last configuration must be complete; it lacks "
                f"{', '.join(sorted(known - (previous or frozenset())))}"
            )

    def __len__(self) -> int:
        """K, the number of configurations."""
        return len(self.configurations)

    def by_stage(self, k: int) -> tuple[int, ...]:
        """How many blocks of each stage configuration `k` runs."""
        active = self.configurations[k]
        return tuple(sum(block in active for block in stage) for stage in self.stages)

    def find(self, counts: Sequence[int]) -> int:
        """The configuration with these block counts by stage; UsageError if the order has none."""
        wanted = tuple(counts)
        for k in range(len(self)):
            if self.by_stage(k) == wanted:
                return k
        raise UsageError(f"order {self.name!r} has no configuration {wanted}")


def stage_counts(stages: Stages) -> tuple[int, ...]:
    """The number of blocks of each stage."""
    return tuple(len(stage) for stage in stages)


def _prefixes(stages: Stages, counts: Iterable[int]) -> frozenset[str]:
    return frozenset(block for stage, count in zip(stages, counts, strict=True) for block in stage[:count])


def right_to_left(stages: Stages) -> Order:
    """CoML: blocks leave from the right, the last stage first. One configuration for each number of blocks, from one up."""
    blocks = [block for stage in stages for block in stage]
    return Order("right-to-left", stages, tuple(frozenset(blocks[: n + 1]) for n in range(len(blocks))))


def blockwise(stages: Stages) -> Order:
    """BlockCoML: the same number of blocks in each stage, from one up; a shorter stage stays complete once it is."""
    most = max(stage_counts(stages), default=0)
    return Order("blockwise", stages, tuple(_prefixes(stages, [n] * len(stages)) for n in range(1, most + 1)))


def nested(name: str, stages: Stages, counts: Iterable[Sequence[int]]) -> Order:
    """Any nested order given as data: block counts by stage, one row a configuration, smallest first."""
    rows = []
    limits = stage_counts(stages)
    for index, row in enumerate(counts):
        if len(row) != len(limits) or any(not 0 <= n <= limit for n, limit in zip(row, limits, strict=True)):
            raise UsageError(
                f"order {name!r}, configuration {index}: {tuple(row)} does not fit a network of {limits} blocks by stage"
            )
        rows.append(_prefixes(stages, row))
    return Order(name, stages, tuple(rows))


def by_name(name: str, stages: Stages) -> Order:
    """`right-to-left` (alias `CoML`) or `blockwise` (alias `BlockCoML`)."""
    makers = {"right-to-left": right_to_left, "coml": right_to_left, "blockwise": blockwise, "blockcoml": blockwise}
    try:
        return makers[name.lower()](stages)
    except KeyError:
        raise UsageError(f"unknown order {name!r}: choose right-to-left or blockwise") from None
