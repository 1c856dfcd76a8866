"""Errors: within shares of the bytes, beside the paper's figures, and the target's verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from experiments.comparisons.families import POINTS, Failure, Family, Verdict, float32_bytes, judge
from experiments.paper import POINTS as PAPER_POINTS
from experiments.series import Group, Spread
from experiments.tables.markdown import NONE, megabytes, percent, spread, table

__all__ = ["NOTHING", "error_lines", "paper_lines", "row_lines", "target_lines", "verdict_lines"]

SHARES = (0.02, 0.05, 0.10, 0.25, 0.50, 1.0)
NOTHING = ["Nothing of this has run yet."]
Groups = Mapping[Group, Sequence[Family]]


UNTRIED = ["The target has not been tried yet: it needs the plain network, one compact package, and baselines."]


def target_lines(groups: Groups) -> list[str]:
    """For each compact package, at which sizes it meets the target, and what it loses most by where it does not."""
    out: list[str] = []
    for group, found in groups.items():
        verdicts = [verdict for verdict in judge(found) if verdict.chosen is not None and verdict.baselines and verdict.checked]
        rows = []
        for verdict in verdicts:
            family = verdict.chosen
            assert family is not None
            name = family.name.removeprefix("Accordion, ").removesuffix(", compact")
            first = min(rows[0].bytes for rows in family.rows.values())
            met = "everywhere" if not verdict.failures else _stretches(verdict.held) if verdict.held else "nowhere"
            finite = [failure for failure in verdict.failures if failure.ours is not None]
            worst = NONE if not finite else _worst(finite[0])
            rows.append([name, str(len(family.rows)), megabytes(first), met, worst])
        if rows:
            one = verdicts[0]
            out += ["", f"**{group.title}**, against {one.baselines} families of baselines at {one.checked} sizes", ""]
            header = ["compact package", "seeds", "has answers from", "within the allowance", "at its worst"]
            out += table(header, rows)
    return out[1:] or UNTRIED


def _worst(failure: Failure) -> str:
    return f"{100 * failure.gap:.1f} points behind {failure.family.name} ({spread(failure.ours)}, theirs {spread(failure.theirs)})"


def verdict_lines(groups: Groups) -> list[str]:
    """Every baseline by which a compact package misses the target, in words, for each network."""
    out: list[str] = []
    for group, found in groups.items():
        for verdict in judge(found):
            out += ["", f"**{group.title}**: {_verdict(verdict)}"]
            out += [f"- {_failure(failure)}" for failure in verdict.failures]
    return out[1:] or UNTRIED


def _verdict(verdict: Verdict) -> str:
    if verdict.chosen is None:
        return "no compact package has been measured, so the target has not been tried."
    if not verdict.baselines or not verdict.checked:
        return "there is nothing to compare with yet."
    what = f"{verdict.chosen.name.removeprefix('Accordion, ')}, against {verdict.baselines} families of baselines"
    seeds = len(verdict.chosen.rows)
    what += f", at {verdict.checked} sizes, {seeds} seed{'s' * (seeds > 1)}"
    if not verdict.failures:
        return f"**met** ({what}): nowhere is a baseline better by more than {100 * POINTS:g} points or the spread over seeds."
    return f"**missed** ({what}). Better than the compact package, by more than is allowed:"


def _failure(failure: Failure) -> str:
    theirs = f"{failure.family.name}: {_stretches(failure.sizes)}, "
    if failure.ours is None or math.isinf(failure.gap):
        return theirs + f"where nothing of ours is so small (theirs {spread(failure.theirs)})"
    return theirs + f"by up to {100 * failure.gap:.1f} points ({spread(failure.theirs)} against {spread(failure.ours)})"


def _stretches(sizes: Sequence[tuple[float, float]]) -> str:
    return " and ".join(
        f"from {megabytes(low)} on" if math.isinf(high) else f"from {megabytes(low)} to {megabytes(high)}" for low, high in sizes
    )


def error_lines(groups: Groups) -> list[str]:
    """For each family, the test error of what fits into shares of the float32 bytes."""
    out: list[str] = []
    for group, found in groups.items():
        whole = float32_bytes(found)
        if whole is None:
            continue
        out += ["", f"**{group.title}** (float32: {megabytes(whole)})", ""]
        out += [f"![error against bytes](comparisons/bytes-{group.stem}.png)", ""]
        out += [f"![error against multiply-accumulates](comparisons/macs-{group.stem}.png)", ""]
        header = ["", "seeds", *(f"≤ {percent(share, 0)}" for share in SHARES), "any size"]
        out += table(header, [_row(family, whole) for family in found])
    return out[1:] or NOTHING


def _row(family: Family, whole: float) -> list[str]:
    sizes = [*(share * whole for share in SHARES), math.inf]
    return [family.name, str(len(family.rows)), *(spread(family.within(size)) for size in sizes)]


def row_lines(groups: Groups) -> list[str]:
    """Every row of the first seed, for whoever looks for one."""
    out: list[str] = []
    for group, found in groups.items():
        whole = float32_bytes(found)
        out += ["", f"**{group.title}**, first seed", ""]
        rows = []
        for family in found:
            seed = min(family.rows)
            for row in family.rows[seed]:
                share = NONE if whole is None else percent(row.bytes / whole)
                cells = [megabytes(row.bytes), share, f"{row.macs / 1e6:.1f} M", percent(row.validation.error, 2)]
                rows.append([family.name, row.label, *cells, percent(row.test.error, 2)])
        out += table(["", "", "bytes", "of float32", "MACs", "validation error", "test error"], rows)
    return out[1:] or NOTHING


def paper_lines(groups: Groups) -> list[str]:
    """The paper's three figures for 75 % less of ResNet-56 on CIFAR-10, and what was measured here for the same idea."""
    wanted = {
        "8 bits": ("quantized", "int8"),
        "pruned": ("pruned", "75 % pruned, float32"),
    }
    papers = [point for point in PAPER_POINTS if point.dataset == "cifar10" and point.share == 0.25]
    out: list[str] = []
    for group, found in groups.items():
        whole = float32_bytes(found)
        if group.dataset != "cifar10" or whole is None:
            continue
        rows = []
        for point in sorted(papers, key=lambda point: point.error):
            stated = ["paper, ResNet-56", point.scheme, "75 % smaller", percent(point.error, 0)]
            if point.scheme in wanted:
                measured = [
                    _static(family, wanted[point.scheme][1], whole) for family in found if family.name == wanted[point.scheme][0]
                ]
            else:
                measured = [_within(family, 0.25 * whole) for family in found if family.ours]
            rows += [stated, *(row for row in measured if row)]
        out += ["", f"**{group.title}**", ""]
        out += table(["", "", "size", "test error"], rows)
    return out[1:] or NOTHING


def _static(family: Family, ending: str, whole: float) -> list[str] | None:
    found = [row for rows in family.rows.values() for row in rows if row.label.endswith(ending)]
    if not found:
        return None
    share = sum(row.bytes for row in found) / len(found) / whole
    return ["here", found[0].label, percent(share) + " of float32", spread(Spread(tuple(row.test.error for row in found)))]


def _within(family: Family, size: float) -> list[str] | None:
    errors = family.within(size)
    return None if errors is None else ["here", family.name, "≤ 25 % of float32", spread(errors)]
