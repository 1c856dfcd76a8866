"""What each comparison will about cost: from closed forms and the measured step times of the plain network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from accordion.elastic import closed_form_macs
from accordion.errors import AccordionError, UsageError
from accordion.training.adapting import EPOCHS
from accordion.training.recipes import picture_size
from experiments import catalogue as runs_list
from experiments.comparisons.bases import PASSES, listed_run, plain_run, scheme_of, shape_of
from experiments.comparisons.catalogue import Comparison
from experiments.comparisons.fit import further
from experiments.comparisons.methods.finished import ADAPTED, FURTHER
from experiments.comparisons.outcome import Result
from experiments.computation import SHAPES, adapting_macs, training_macs
from experiments.timing import StepTimes, estimate_s

__all__ = ["estimates", "own_work"]


def own_work(one: Comparison) -> float:
    """How much its own training computes, in trainings of the plain network; not for elastic networks trained from the beginning,
    whose steps are known. UsageError for what lacks something."""
    steps = one.steps
    _, side, _ = SHAPES[one.dataset]
    areas = [(picture_size(steps, epoch, side) / side) ** 2 for epoch in range(steps.epochs)]
    whole, again = sum(areas), float(further(steps).epochs)
    network = _forward(one, one.network)
    if one.method == "plain":
        return 1.0
    if one.method == "alone":
        return _forward(one, one.variant) / network
    if one.method in ("pruned", "low-rank", "further"):
        return again / whole * (int(one.variant) / 100 if one.method == "low-rank" else 1.0)
    if one.method == "finished" and (scheme := scheme_of(one)):
        before = training_macs(listed_run(one, scheme).config()) / training_macs(plain_run(one).config())
        teacher = 0.0 if one.variant.endswith((FURTHER, ADAPTED)) else 1 / PASSES
        return again / whole * (before + teacher) + (_adapting(one, scheme) if one.variant.endswith(ADAPTED) else 0.0)
    if one.method == "distilled":
        return (3 * _forward(one, one.variant) + network) / (3 * network)
    if one.method == "exits":
        return 1.1
    if one.method == "student-first":
        student = _forward(one, one.variant)
        return (3 * student + network + 2.5 * (student + network) / 2) / (3 * network)
    if one.method == "skipping":
        return (_forward(one, "resnet8/2") + network) / network
    return 0.0


def _adapting(one: Comparison, scheme: str) -> float:
    """Of what comes after the further training; without weights' gradients two thirds of what such passes cost otherwise."""
    macs = adapting_macs(listed_run(one, scheme).config(), EPOCHS)
    return 2 / PASSES * macs / training_macs(plain_run(one).config())


def estimates(
    comparisons: Sequence[Comparison],
    results: Mapping[str, Result],
    times: Sequence[StepTimes],
    machine: str,
    otherwise: float = 1.0,
) -> dict[str, float]:
    """Seconds of each comparison's own training on `machine`, for those that can be estimated; measuring comes on top.

    By their steps, times how much longer than that comparisons took that this machine has done; `otherwise` where it has none.
    """
    mine = {row.precision: row for row in times if row.machine == machine}
    found = {}
    for one in comparisons:
        if one.precision in mine:
            try:
                if one.method == "elastic":
                    asked = runs_list.delivered(one.variant, one.network, one.dataset, one.recipe, one.seed)
                    found[one.name] = estimate_s(asked.config(), mine[one.precision])
                else:
                    found[one.name] = own_work(one) * estimate_s(plain_run(one).config(), mine[one.precision])
            except AccordionError:
                continue  # the list says what it lacks
    precisions = {one.name: one.precision for one in comparisons}
    ratios = sorted(
        results[name].training.seconds / seconds
        for name, seconds in found.items()
        if name in results
        and (results[name].machine, results[name].training.precision) == (machine, precisions[name])
        and seconds
        and results[name].training.seconds
    )
    factor = ratios[len(ratios) // 2] if ratios else otherwise
    return {name: seconds * factor for name, seconds in found.items()}


def _forward(one: Comparison, shape: str) -> int:
    network, width = shape_of(shape, one.width)
    match = re.fullmatch(r"resnet(\d+)(?:-(\d+)-(\d+))?", network)
    if not match:
        raise UsageError(f"unknown network {network!r}")
    blocks = [int(number) for number in match.groups() if number] if match[2] else [(int(match[1]) - 2) // 6] * 3
    channels, side, classes = SHAPES[one.dataset]
    return closed_form_macs(blocks, classes, size=side, in_channels=channels, widths=(width, 2 * width, 4 * width))
