"""The paper's claims, each beside what our runs give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from accordion.profiling import clopper_pearson
from experiments.paper import DELIVERED_SHARE, MACS_SAVED, NETWORKS, RISE, SIZE_ORDER, points_of
from experiments.series import Group, Rung, Series, Spread, groups
from experiments.tables.figure4 import in_paper_order
from experiments.tables.markdown import NONE, blocks, change, megabytes, percent, spread, table

__all__ = ["failures_to_rise", "lines", "rise"]

DELIVERED_BYTES = 100e6 / 8 * 0.3
"""What 100 Mbit/s brings in 0.3 s."""

LEVELS = {"cifar10": (0.30, 0.20, 0.15), "cifar100": (0.60, 0.50, 0.40)}
"""Errors at which sizes are compared."""

TIE = 0.001
"""Sizes that differ by less than so much of them are the same blocks in archives that compress a little differently."""

Cell = Callable[[Series], str]


def lines(series: Sequence[Series]) -> list[str]:
    """A table for each network, data set and recipe."""
    found = groups(series, "figure4")
    if not found:
        return ["Nothing of this has run yet."]
    out: list[str] = []
    for group, members in found.items():
        schemes = in_paper_order(members)
        plain = next((one for one in members if one.scheme == "ResNet"), None)
        said = "; in brackets what the paper says, where it does" if _is_the_papers(group) else ""
        out += ["", f"**{group.title}** (test error{said})", ""]
        header = ["claim", *(one.scheme for one in schemes)]
        out += table(header, [[name, *(cell(one) for one in schemes)] for name, cell in _claims(group, plain)])
        out += ["", *_size_order(group, members), "", *_monotone(schemes)]
    return out[1:]


def rise(one: Series, plain: Series | None) -> Spread | None:
    """Points by which the complete network errs more than the plain one, seed for seed where both have run."""
    if plain is None or plain.scheme == one.scheme:
        return None
    return paired(one.complete.test, one.seeds, plain.complete.test, plain.seeds)


def paired(a: Spread, a_seeds: Sequence[int], b: Spread, b_seeds: Sequence[int]) -> Spread | None:
    """a - b for the seeds that both have."""
    other = dict(zip(b_seeds, b.values, strict=True))
    both = [value - other[seed] for seed, value in zip(a_seeds, a.values, strict=True) if seed in other]
    return Spread(tuple(both)) if both else None


def failures_to_rise(one: Series) -> list[tuple[Rung, Rung]]:
    """(larger, smaller) pairs where the larger one errs more, beyond 95 % intervals of what counting pictures and seeds leave open.

    Its interval, all seeds' pictures counted together, must not reach down to the smaller one's error; and where there are several
    seeds, the interval of their differences (Student's t) must not hold zero. For each larger configuration only the best smaller
    one is named.
    """
    pairs = []
    for k, larger in enumerate(one.rungs[1:], 1):
        smaller = min(one.rungs[:k], key=lambda rung: rung.test.mean)
        trials = larger.pictures * len(larger.test.values)
        low, _ = clopper_pearson(round(larger.test.mean * trials), trials)
        differences = Spread(tuple(a - b for a, b in zip(larger.test.values, smaller.test.values, strict=True)))
        if low > smaller.test.mean and differences.mean > (differences.reach or 0.0):
            pairs.append((larger, smaller))
    return pairs


def _is_the_papers(group: Group) -> bool:
    return NETWORKS.get(group.dataset) == group.network


def _claims(group: Group, plain: Series | None) -> list[tuple[str, Cell]]:
    paper = _is_the_papers(group)

    def said(scheme: str, share: float) -> str:
        points = [p for p in points_of(group.dataset, scheme) if abs(p.share - share) < 1e-9 and paper]
        return f" [{percent(points[0].error, 0)}]" if points else ""

    def at_half_error(one: Series) -> str:
        rung = one.reaching(0.5)
        points = [p for p in points_of(group.dataset, one.scheme) if p.error == 0.5 and paper]
        brackets = f" [{percent(1 - points[0].share, 0)}]" if points else ""
        if rung is None:
            return NONE + brackets
        return f"{percent(1 - rung.share)} {blocks(rung.blocks_by_stage)}{brackets}, error {spread(rung.test)}"

    def macs_at_half_error(one: Series) -> str:
        rung = one.reaching(0.5)
        brackets = f" [{percent(MACS_SAVED[one.scheme])}]" if paper and group.dataset == "cifar100" else ""
        return (NONE if rung is None else percent(1 - rung.macs_share)) + brackets

    def within_share(share: float) -> Cell:
        return lambda one: _error(one.within(share=share)) + said(one.scheme, share)

    def in_real_bytes(one: Series) -> str:
        rung = one.within(size=DELIVERED_BYTES)
        return NONE if rung is None else f"{spread(rung.test)} ({percent(rung.share, 0)} of the bytes)"

    def rises(one: Series) -> str:
        points = rise(one, plain)
        brackets = f" [{percent(RISE[one.scheme], 0)}]" if paper and one.scheme in RISE else ""
        if points is None or plain is None:
            return NONE
        return f"{change(points)} points, {100 * points.mean / plain.complete.test.mean:+.0f} % relative{brackets}"

    quarter = " [about 12 % for CoML]" if paper and group.dataset == "cifar10" else ""
    return [
        ("bytes saved at 50 % validation error", at_half_error),
        ("multiply-accumulates saved there", macs_at_half_error),
        (f"error with {percent(DELIVERED_SHARE, 0)} of the bytes (the paper's reading)", within_share(DELIVERED_SHARE)),
        (f"error with {megabytes(DELIVERED_BYTES)} (100 Mbit/s, 0.3 s, float32)", in_real_bytes),
        ("error with half of the bytes", within_share(0.5)),
        ("error with half of the blocks", lambda one: _error(one.within(blocks=0.5))),
        (f"error at 75 % smaller{quarter}", lambda one: _error(one.within(share=0.25))),
        ("complete network's error", lambda one: spread(one.complete.test)),
        ("its rise against plain ResNet", rises),
    ]


def _error(rung: Rung | None) -> str:
    return NONE if rung is None else spread(rung.test)


def _size_order(group: Group, members: Sequence[Series]) -> list[str]:
    """Which scheme needs fewest bytes for the same error."""
    by_scheme = {one.scheme: one for one in members}
    schemes = [scheme for scheme in SIZE_ORDER if scheme in by_scheme]
    if len(schemes) < 2:
        return []
    rows = []
    for level in LEVELS.get(group.dataset, (0.5,)):
        reached = {scheme: by_scheme[scheme].reaching(level) for scheme in schemes}
        sizes = [reached[scheme].bytes if reached[scheme] else float("inf") for scheme in schemes]  # type: ignore[union-attr]
        if all(size == float("inf") for size in sizes):
            continue
        known = [size for size in sizes if size < float("inf")]
        verdict = _verdict(known)
        if verdict != "does not hold" and len(known) < len(SIZE_ORDER):
            verdict = "open" if len(known) < 2 else f"{verdict} for those that reach it"
        cells = [
            NONE if (rung := reached[scheme]) is None else f"{megabytes(rung.bytes)} ({spread(rung.test)})" for scheme in schemes
        ]
        rows.append([f"≤ {percent(level, 0)}", *cells, verdict])
    head = ["validation error (test error)", *schemes, "the paper's size order " + " < ".join(SIZE_ORDER)]
    return table(head, rows)


def _verdict(sizes: Sequence[float]) -> str:
    """Whether each is larger than the one before it."""
    ties = [abs(a - b) <= TIE * b for a, b in pairwise(sizes)]
    if not all(tie or a < b for tie, (a, b) in zip(ties, pairwise(sizes), strict=True)) or (ties and all(ties)):
        return "does not hold"
    return "holds but for ties" if any(ties) else "holds"


def _monotone(schemes: Sequence[Series]) -> list[str]:
    """“The larger the number of hidden layers, the better the accuracy”: every configuration where that fails beyond noise."""
    out = [
        "“More layers, better accuracy” fails beyond 95 % intervals (of the pictures, and over seeds where there are several) at:",
        "",
    ]
    for one in schemes:
        pairs = failures_to_rise(one)
        listed = "; ".join(
            f"{blocks(larger.blocks_by_stage)} {spread(larger.test)} after {blocks(smaller.blocks_by_stage)} {spread(smaller.test)}"
            for larger, smaller in pairs
        )
        out.append(f"- {one.scheme}: {listed or 'none'}")
    return out
