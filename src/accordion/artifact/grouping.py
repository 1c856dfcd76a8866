"""Which configurations' graphs travel in one archive, and when their alternatives come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from accordion.artifact.archive import compress

__all__ = ["LAYER", "Division", "divide_graphs"]

LEVEL = 9  # for estimates: fast, and in the same proportions as what is sent
LAYER = 250  # bytes that one more layer takes in manifest and config
MOST = 0.095  # of a prefix may stand beside its weights: the tenth that is allowed, less what estimates are off by …
FROM = 100_000  # … from so many bytes on
ROUNDS = 12

Files = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Division:
    """`archives[j]` are the numbers of the graphs in archive j, one after the other; alternatives come with archive `late` for
    all graphs up to it, with their own graph's archive after that. `over` is by how much prefixes exceed what may stand
    beside their weights, in shares added up."""

    archives: tuple[range, ...]
    late: int
    over: float


def divide_graphs(
    own: Sequence[Files],
    alternatives: Sequence[Files],
    segments: Sequence[Sequence[int]],
    beside: Sequence[Sequence[int]],
    counts: Sequence[int] | None = None,
    *,
    replaced: Sequence[Sequence[int]] | None = None,
) -> Division:
    """How graphs are divided into archives.

    `own[i]` are files by path without which some configurations can't run, `alternatives[i]` what these can also be run with;
    `segments[i]` the bytes that each of the configurations adds, and `beside[i]` how many bytes each adds that are neither weights
    nor graphs: headers of segments, and to the first configuration ladder, manifest and config, LAYER for each layer but the
    archives. `replaced[i]` are the bytes in each configuration's prefix that it does not read: they stand beside its weights too.
    An archive arrives with the first configuration that needs it: what it holds for later ones delays that one, and what it leaves
    to the next archive is compressed without it. Chosen is the division with the least bytes of graphs as a share of everything
    else, summed over all prefixes, by dynamic programming. Prefixes of 100 kB or more in which more than a tenth is no weights
    then count twice, and twice again, until there are none or that no longer helps. Where it does not, alternatives, which nobody
    has to have, wait: those of the first graphs come together, with the earliest graph for which no prefix is over any more, or
    with the one for which they are least over. An archive's size is estimated from its first graphs alone and what each further
    one adds to the one before it, so the time grows with the number of graphs, and with its square only where alternatives wait.
    `counts` says how many graphs each archive has.
    """
    weights = _cut(accumulate(size for rows in segments for size in rows), segments)
    fixed = _cut(accumulate(size for rows in beside for size in rows), beside)
    gone = replaced if replaced is not None else [[0] * len(rows) for rows in segments]
    weights = [[w - g for w, g in zip(*both, strict=True)] for both in zip(weights, gone, strict=True)]
    fixed = [[b + g for b, g in zip(*both, strict=True)] for both in zip(fixed, gone, strict=True)]
    plain = _Sizes.of_files(own)
    rich = _Sizes.of_files([{**mine, **more} for mine, more in zip(own, alternatives, strict=True)])
    best: Division | None = None
    for late in range(len(own)) if any(alternatives) else (0,):
        sizes = _until(late, plain, rich, own, alternatives)
        chosen = counts if counts is not None else _search(sizes, weights, fixed)
        over = sum(map(sum, _over(sizes, weights, fixed, chosen)))
        if best is None or over < best.over:
            ends = [0, *accumulate(chosen)]
            archives = tuple(range(begin, end) for begin, end in pairwise(ends))
            best = Division(archives, next(j for j, one in enumerate(archives) if late in one), over)
        if not over:
            break
    assert best is not None
    return best


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Bytes of each graph alone, and of what it adds to an archive that has the one before it."""

    alone: list[int]
    added: list[int]

    @classmethod
    def of_files(cls, files: Sequence[Files]) -> _Sizes:
        alone = [_size(one) for one in files]
        return cls(alone, [0, *(_size({**a, **b}) - alone[i] for i, (a, b) in enumerate(pairwise(files)))])

    def of(self, begin: int, end: int) -> int:
        return self.alone[begin] + sum(self.added[begin + 1 : end])


def _until(late: int, plain: _Sizes, rich: _Sizes, own: Sequence[Files], alternatives: Sequence[Files]) -> _Sizes:
    """The sizes where graphs before `late` travel without their alternatives, which come with it."""
    if late == 0:
        return rich
    together = {**own[late], **{path: data for files in alternatives[: late + 1] for path, data in files.items()}}
    added = _size({**own[late - 1], **together}) - plain.alone[late - 1]
    return _Sizes(
        [*plain.alone[:late], _size(together), *rich.alone[late + 1 :]],
        [*plain.added[:late], added, *rich.added[late + 1 :]],
    )


def _search(sizes: _Sizes, weights: Sequence[Sequence[int]], fixed: Sequence[Sequence[int]]) -> list[int]:
    factors = [[1.0] * len(rows) for rows in weights]
    found: list[tuple[float, list[int]]] = []
    for _ in range(ROUNDS):
        counts = _divide(sizes, weights, fixed, factors)
        over = _over(sizes, weights, fixed, counts)
        found.append((sum(map(sum, over)), counts))
        if not found[-1][0]:
            break
        factors = [[f * (2 if o else 1) for f, o in zip(*both, strict=True)] for both in zip(factors, over, strict=True)]
    return min(found, key=lambda one: one[0])[1]


def _divide(
    sizes: _Sizes,
    weights: Sequence[Sequence[int]],
    fixed: Sequence[Sequence[int]],
    factors: Sequence[Sequence[float]],
) -> list[int]:
    """The counts of least cost; `factors` say how much each prefix counts."""
    # What a byte of an archive costs that arrives before the configurations of graph i: it is in all prefixes from there on.
    shares = [sum(f / max(1, w + b) for w, b, f in zip(*rows, strict=True)) for rows in zip(weights, fixed, factors, strict=True)]
    delay = list(accumulate(reversed(shares)))[::-1]
    least, start = [0.0], [0]
    for end in range(1, len(shares) + 1):
        further, options = 0, []
        for begin in reversed(range(end)):
            options.append((least[begin] + LAYER * delay[0] + (sizes.alone[begin] + further) * delay[begin], begin))
            further += sizes.added[begin]
        cost, begin = min(options)
        least.append(cost)
        start.append(begin)
    counts, end = [], len(shares)
    while end:
        counts.append(end - start[end])
        end = start[end]
    return counts[::-1]


def _over(
    sizes: _Sizes, weights: Sequence[Sequence[int]], fixed: Sequence[Sequence[int]], counts: Sequence[int]
) -> list[list[float]]:
    """For each prefix the share that stands beside its weights beyond what may; 0 where that is kept."""
    graphs, begin, found = LAYER * len(counts), 0, []
    for count in counts:
        graphs += sizes.of(begin, begin + count)
        for rows in zip(weights[begin : begin + count], fixed[begin : begin + count], strict=True):
            row = []
            for w, b in zip(*rows, strict=True):
                whole = w + b + graphs
                row.append(max(0.0, (b + graphs) / whole - MOST) if whole >= FROM else 0.0)
            found.append(row)
        begin += count
    return found


def _cut(values: Iterable[int], like: Sequence[Sequence[int]]) -> list[list[int]]:
    taken = iter(values)
    return [[next(taken) for _ in own] for own in like]


def _size(files: Files) -> int:
    return len(compress(b"".join(files.values()), level=LEVEL))
