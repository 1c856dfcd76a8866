"""Which configurations' graphs travel in one archive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from accordion.artifact.archive import compress

__all__ = ["group_graphs"]

LEVEL = 9  # for estimates: fast, and in the same proportions as what is sent
LAYER = 250  # bytes that one more layer takes in manifest and config
BESIDE = 2300  # bytes of ladder and manifest as they are sent, roughly
MOST = 0.1  # of a prefix may stand beside its weights …
FROM = 100_000  # … from so many bytes on
ROUNDS = 12


def group_graphs(graphs: Sequence[Mapping[str, bytes]], segments: Sequence[Sequence[int]]) -> list[int]:
    """How many of `graphs` go into each archive, one after the other.

    `graphs[i]` are files by path that some configurations have in common; `segments[i]` the bytes that each of these configurations
    adds. An archive arrives with the first configuration that needs it: what it holds for later ones delays that one, and what it
    leaves to the next archive is compressed without it. Chosen is the division with the least bytes of graphs as a share of
    everything else, summed over all prefixes, by dynamic programming. Prefixes of 100 kB or more in which more than a tenth is no
    weights then count twice, and twice again, until there are none or that no longer helps. An archive's size is estimated from its
    first graphs alone and what each further one adds to the one before it, so the time grows with the number of graphs.
    """
    alone = [_size(files) for files in graphs]
    added = [0, *(_size({**before, **files}) - alone[i] for i, (before, files) in enumerate(pairwise(graphs)))]
    sizes = _Sizes(alone, added)
    weights = _cut(accumulate(size for own in segments for size in own), segments)
    factors = [[1.0] * len(own) for own in segments]
    found: list[tuple[float, list[int]]] = []
    for _ in range(ROUNDS):
        counts = _divide(sizes, weights, factors)
        over = _over(sizes, weights, counts)
        found.append((sum(map(sum, over)), counts))
        if not found[-1][0]:
            break
        factors = [[f * (2 if o else 1) for f, o in zip(*both, strict=True)] for both in zip(factors, over, strict=True)]
    return min(found, key=lambda one: one[0])[1]


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Bytes of each graph alone, and of what it adds to an archive that has the one before it."""

    alone: list[int]
    added: list[int]

    def of(self, begin: int, end: int) -> int:
        return self.alone[begin] + sum(self.added[begin + 1 : end])


def _divide(sizes: _Sizes, weights: Sequence[Sequence[int]], factors: Sequence[Sequence[float]]) -> list[int]:
    """The counts of least cost; `factors` say how much each prefix counts."""
    # What a byte of an archive costs that arrives before the configurations of graph i: it is in all prefixes from there on.
    shares = [
        sum(f / (BESIDE + w) for w, f in zip(own, counting, strict=True)) for own, counting in zip(weights, factors, strict=True)
    ]
    delay = list(accumulate(reversed(shares)))[::-1]
    least, start = [0.0], [0]
    for end in range(1, len(shares) + 1):
        further, options = 0, []
        for begin in reversed(range(end)):
            options.append((least[begin] + (LAYER + sizes.alone[begin] + further) * delay[begin], begin))
            further += sizes.added[begin]
        cost, begin = min(options)
        least.append(cost)
        start.append(begin)
    counts, end = [], len(shares)
    while end:
        counts.append(end - start[end])
        end = start[end]
    return counts[::-1]


def _over(sizes: _Sizes, weights: Sequence[Sequence[int]], counts: Sequence[int]) -> list[list[float]]:
    """For each prefix the share that stands beside its weights beyond what may; 0 where that is kept."""
    beside, begin, found = BESIDE, 0, []
    for count in counts:
        beside += sizes.of(begin, begin + count)
        for own in weights[begin : begin + count]:
            found.append([max(0.0, beside / (beside + w) - MOST) if beside + w >= FROM else 0.0 for w in own])
        begin += count
    return found


def _cut(values: Iterable[int], like: Sequence[Sequence[int]]) -> list[list[int]]:
    taken = iter(values)
    return [[next(taken) for _ in own] for own in like]


def _size(files: Mapping[str, bytes]) -> int:
    return len(compress(b"".join(files.values()), level=LEVEL))
