"""The targets, met or missed. The zoo's packages are what they are about; what has not been measured is said not to have been."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accordion.profiling import clopper_pearson
from experiments.outcome import Count
from experiments.recipes import ZOO
from experiments.references import alone
from experiments.series import Series
from experiments.tables.markdown import blocks, percent, table
from experiments.zoo.record import CLEAN, VALIDATION, Evaluation, Row

__all__ = ["lines"]

NOT_RUN = "not run"


def lines(series: Sequence[Series], evaluations: Sequence[Evaluation]) -> list[str]:
    """One row for each target."""
    known = {one.name: one for one in evaluations}
    ten, small_ten = known.get("resnet56-cifar10"), known.get("resnet56-cifar10-compact")
    hundred, small_hundred = known.get("resnet110-cifar100"), known.get("resnet110-cifar100-compact")
    compact = "the same by its compact package, of the float32 bytes"
    rows = [
        ["CIFAR-10, ResNet-56, complete", "–", "≤ 6.5 %", *_at_most(_complete(ten), 0.065)],
        ["no worse than plain by the same recipe", "–", "≤ 0 points", *_against_plain(ten, series)],
        ["CIFAR-10, ≤ 27 % of the bytes", "12 %", "≤ 8 %", *_at_most(_within(ten, 0.27, ten), 0.08)],
        [compact, "", "", *_at_most(_within(small_ten, 0.27, ten), 0.08)],
        ["CIFAR-10, ≤ 10 % of the bytes", "–", "≤ 11 %", *_at_most(_within(ten, 0.10, ten), 0.11)],
        [compact, "", "", *_at_most(_within(small_ten, 0.10, ten), 0.11)],
        ["CIFAR-100, ResNet-110, complete", "3 to 9 % worse than plain", "≤ 28 %", *_at_most(_complete(hundred), 0.28)],
        ["no worse than plain by the same recipe", "–", "≤ 0 points", *_against_plain(hundred, series)],
        ["CIFAR-100, ≤ 27 % of the bytes", "38 %", "≤ 32 %", *_at_most(_within(hundred, 0.27, hundred), 0.32)],
        [compact, "", "", *_at_most(_within(small_hundred, 0.27, hundred), 0.32)],
        [
            "CIFAR-100, one package at ≤ 50 % error saves bytes and MACs",
            "90 % and 61.5 %, or 75 % and 73.1 %",
            "≥ 93 % and ≥ 92 %",
            *_saves(hundred, hundred),
        ],
        [compact, "", "", *_saves(small_hundred, hundred)],
        *(_tax(one, series) for one in (ten, hundred) if one is not None),
        *(_monotone(one) for one in (ten, small_ten, hundred, small_hundred) if one is not None),
    ]
    if ten is None and hundred is None:
        rows += [
            ["tax, every configuration that has a reference", "–", "≤ 0.5 points", NOT_RUN, ""],
            ["a larger configuration worse than a smaller one, beyond its interval", "(claims none)", "none", NOT_RUN, ""],
        ]
    return table(["", "paper", "target", "measured", ""], rows)


def _complete(one: Evaluation | None) -> Row | None:
    return None if one is None else one.rows[-1]


def _within(one: Evaluation | None, share: float, whole: Evaluation | None) -> Row | None:
    """The best within a share of the bytes of the package `whole`, complete. The validation split picks, as everywhere."""
    complete = _complete(whole)
    return None if one is None or complete is None else _best([row for row in one.rows if row.bytes <= share * complete.bytes])


def _best(rows: Sequence[Row], by: Callable[[Row], float] | None = None) -> Row | None:
    known = [row for row in rows if CLEAN in row.results and VALIDATION in row.results]
    return min(known, key=by or (lambda row: row.results[VALIDATION].error), default=None)


def _at_most(row: Row | None, limit: float) -> list[str]:
    if row is None or CLEAN not in row.results:
        return [NOT_RUN, ""]
    error = row.results[CLEAN].error
    return [f"{percent(error, 2)} {blocks(row.blocks_by_stage)}", _verdict(error <= limit)]


def _against_plain(one: Evaluation | None, series: Sequence[Series]) -> list[str]:
    row = _complete(one)
    if one is None or row is None or CLEAN not in row.results:
        return [NOT_RUN, ""]
    plain = alone(series, one.dataset, ZOO[one.dataset].name).get(row.blocks_by_stage)
    if plain is None:
        return [f"{NOT_RUN} (the plain network)", ""]
    points = row.results[CLEAN].error - plain.mean
    return [f"{100 * points:+.2f} points against {percent(plain.mean, 2)}", _verdict(points <= 0)]


def _saves(one: Evaluation | None, of: Evaluation | None) -> list[str]:
    """Of the configurations that reach 50 % error by validation, the one that comes nearest to both targets; shares are of the
    package `of`, complete."""
    if one is None or of is None:
        return [NOT_RUN, ""]
    whole = of.rows[-1]
    good = [row for row in one.rows if VALIDATION in row.results and row.results[VALIDATION].error <= 0.5]
    row = _best(good, lambda row: max((row.bytes / whole.bytes) / 0.07, (row.macs / whole.macs) / 0.08))
    if row is None:
        return ["no configuration reaches 50 %", "missed"]
    saved, macs = 1 - row.bytes / whole.bytes, 1 - row.macs / whole.macs
    error = row.results[CLEAN].error
    fine = error <= 0.5 and saved >= 0.93 and macs >= 0.92
    return [f"{percent(saved)} and {percent(macs)}, error {percent(error)} {blocks(row.blocks_by_stage)}", _verdict(fine)]


def _tax(one: Evaluation, series: Sequence[Series]) -> list[str]:
    references = alone(series, one.dataset, ZOO[one.dataset].name)
    found = [
        (row.results[CLEAN].error - references[row.blocks_by_stage].mean, row)
        for row in one.rows
        if CLEAN in row.results and row.blocks_by_stage in references
    ]
    head = [f"tax of {one.name}, every configuration that has a reference", "–", "≤ 0.5 points"]
    if not found:
        return [*head, f"{NOT_RUN} (the references)", ""]
    points, row = max(found, key=lambda pair: pair[0])
    return [*head, f"at most {100 * points:+.2f} {blocks(row.blocks_by_stage)} of {len(found)}", _verdict(points <= 0.005)]


def _monotone(one: Evaluation) -> list[str]:
    head = [f"{one.name}: a larger configuration worse than a smaller one, beyond its interval", "(claims none)", "none"]
    known = [row for row in one.rows if CLEAN in row.results]
    if len(known) < len(one.rows):
        return [*head, NOT_RUN, ""]
    worse = [
        row for at, row in enumerate(known) if at and _low(row.results[CLEAN]) > min(r.results[CLEAN].error for r in known[:at])
    ]
    listed = ", ".join(f"{row.index} {blocks(row.blocks_by_stage)}" for row in worse)
    return [*head, listed or "none", _verdict(not worse)]


def _low(count: Count) -> float:
    return clopper_pearson(count.wrong, count.of)[0]


def _verdict(fine: bool) -> str:
    return "met" if fine else "missed"
