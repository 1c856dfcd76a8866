"""Which configurations' graphs travel in one archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from accordion.artifact.archive import compress

__all__ = ["group_graphs"]

LEVEL = 9  # for estimates: fast, and in the same proportions as what is sent
LAYER = 250  # bytes that one more layer takes in manifest and config
LADDER = 1500  # bytes before the first segment, roughly; only so that a share of them can be taken


def group_graphs(graphs: Sequence[Mapping[str, bytes]], segments: Sequence[Sequence[int]]) -> list[int]:
    """How many of `graphs` go into each archive, one after the other.

    `graphs[i]` are files by path that some configurations have in common; `segments[i]` the bytes that each of these configurations
    adds. An archive arrives with the first configuration that needs it: what it holds for later ones delays that one, and what it
    leaves to the next archive is compressed without it. Chosen is the division with the least bytes of graphs as a share of
    everything else, summed over all prefixes, by dynamic programming. An archive's size is estimated from its first graphs alone
    and what each further one adds to the one before it, so the time grows with the number of graphs.
    """
    alone = [_size(files) for files in graphs]
    added = [0, *(_size({**before, **files}) - alone[i] for i, (before, files) in enumerate(pairwise(graphs)))]
    weights, delay = 0, []  # delay[i]: what a byte of an archive costs that arrives before configuration i
    for own in segments:
        shares = []
        for size in own:
            weights += size
            shares.append(1 / (LADDER + weights))
        delay.append(sum(shares))
    for i in reversed(range(len(delay) - 1)):
        delay[i] += delay[i + 1]
    least, start = [0.0], [0]
    for end in range(1, len(graphs) + 1):
        further, options = 0, []
        for begin in reversed(range(end)):
            options.append((least[begin] + (LAYER + alone[begin] + further) * delay[begin], begin))
            further += added[begin]
        cost, begin = min(options)
        least.append(cost)
        start.append(begin)
    counts, end = [], len(graphs)
    while end:
        counts.append(end - start[end])
        end = start[end]
    return counts[::-1]


def _size(files: Mapping[str, bytes]) -> int:
    return len(compress(b"".join(files.values()), level=LEVEL))
