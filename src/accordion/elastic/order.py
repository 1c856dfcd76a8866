"""Orders: the rule by which blocks join, as values. No torch here.

An order lists the configurations of a network from the smallest (0) to the complete one (K-1). Configurations are nested: each
contains the one before. A family is the same without nesting: what a network is trained over while an order is still sought.
Blocks are named by their dotted path in the network, grouped by stage, in the order of the data flow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Integral

from accordion.errors import UsageError

__all__ = ["Family", "Order", "Stages", "blockwise", "by_name", "grid", "nested", "right_to_left", "stage_counts"]

Stages = tuple[tuple[str, ...], ...]
"""Block names by stage, first stage first, blocks in the order of the data flow."""


@dataclass(frozen=True, slots=True)
class Family:
    """Configurations over the blocks of `stages`, the smallest first, the complete one last.

    `configurations[k]` is the set of block names that configuration k runs; every one contains the first. Raises UsageError when
    there is none, when one names unknown blocks or lacks a block of the first, when two are equal, or when the last lacks a block.
    """

    name: str
    stages: Stages
    configurations: tuple[frozenset[str], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "configurations", tuple(map(frozenset, self.configurations)))
        blocks = [block for stage in self.stages for block in stage]
        known = frozenset(blocks)
        if len(known) != len(blocks):
            twice = sorted({block for block in blocks if blocks.count(block) > 1})
            raise UsageError(f"order {self.name!r}: block named twice: {', '.join(twice)}")
        if not self.configurations:
            raise UsageError(f"order {self.name!r} has no configuration")
        for index, active in enumerate(self.configurations):
            if unknown := active - known:
                raise UsageError(
                    f"order {self.name!r}, configuration {index}: the network has no block {', '.join(sorted(unknown))}"
                )
        self._check_steps()
        if self.configurations[-1] != known:
            raise UsageError(
                f"order {self.name!r}: the last configuration must be complete; it lacks "
                f"{', '.join(sorted(known - self.configurations[-1]))}"
            )

    def _check_steps(self) -> None:
        smallest = self.configurations[0]
        for index, active in enumerate(self.configurations):
            if lost := smallest - active:
                raise UsageError(
                    f"order {self.name!r}, configuration {index} lacks blocks of the smallest one: {', '.join(sorted(lost))}"
                )
        if len(set(self.configurations)) != len(self.configurations):
            raise UsageError(f"order {self.name!r} has two equal configurations")

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

    def watched(self) -> tuple[int, ...]:
        """The configurations that a training looks at after each epoch: all of an order, the most even ones of a family."""
        even = {0, len(self) - 1}
        whole = stage_counts(self.stages)
        counts = [self.by_stage(k) for k in range(len(self))]
        for n in range(1, max(whole) + 1):
            goal = [min(n, most) for most in whole]
            even.add(min(range(len(self)), key=lambda k: (sum(abs(a - b) for a, b in zip(counts[k], goal, strict=True)), k)))
        return tuple(sorted(even))


@dataclass(frozen=True, slots=True)
class Order(Family):
    """A nested family: each configuration keeps every block of the one before and adds at least one. UsageError otherwise."""

    def _check_steps(self) -> None:
        previous: frozenset[str] | None = None
        for index, active in enumerate(self.configurations):
            if previous is not None and not previous < active:
                lost = ", ".join(sorted(previous - active)) or "nothing is added"
                raise UsageError(
                    f"order {self.name!r} is not nested: configuration {index} must keep every block of configuration "
                    f"{index - 1} and add at least one ({lost})"
                )
            previous = active

    def watched(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(range(len(self.configurations)))


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
        if (
            not isinstance(row, Sequence)
            or isinstance(row, str)
            or len(row) != len(limits)
            or not all(isinstance(n, Integral) and 0 <= n <= limit for n, limit in zip(row, limits, strict=True))
        ):
            raise UsageError(
                f"order {name!r}, configuration {index}: {row!r:.200} does not fit a network of {limits} blocks by stage"
            )
        rows.append(_prefixes(stages, row))
    return Order(name, stages, tuple(rows))


def grid(stages: Stages, minimum: Sequence[int] | None = None) -> Family:
    """Every configuration (n1, n2, …) with at least `minimum` blocks by stage (one each if left out), fewest blocks first.

    No nested path, so nothing to package: a network is trained over it to find out which path is worth taking.
    """
    most = stage_counts(stages)
    least = tuple(minimum) if minimum is not None else (1,) * len(most)
    if len(least) != len(most) or any(not 0 <= low <= high for low, high in zip(least, most, strict=True)) or not any(least):
        raise UsageError(f"a grid can't begin with {least} blocks by stage: the network has {most}, and one block must be there")
    counts = product(*(range(low, high + 1) for low, high in zip(least, most, strict=True)))
    rows = sorted(counts, key=lambda row: (sum(row), row))
    return Family(f"grid-{'-'.join(map(str, least))}", stages, tuple(_prefixes(stages, row) for row in rows))


def by_name(name: str, stages: Stages) -> Family:
    """`right-to-left` (alias `CoML`), `blockwise` (alias `BlockCoML`), or `grid` with its smallest configuration: `grid:2,1,1`."""
    makers = {"right-to-left": right_to_left, "coml": right_to_left, "blockwise": blockwise, "blockcoml": blockwise}
    kind, _, least = name.lower().partition(":")
    if kind == "grid":
        try:
            return grid(stages, [int(count) for count in least.split(",")] if least else None)
        except ValueError:
            raise UsageError(f"{name!r} is not a grid: write grid, or grid:2,1,1 with the fewest blocks by stage") from None
    try:
        return makers[name.lower()](stages)
    except KeyError:
        raise UsageError(f"unknown order {name!r}: choose right-to-left, blockwise, grid, or a JSON file") from None
