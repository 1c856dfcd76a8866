"""How long trainings took against how much of the network they trained, and whether they had converged."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from experiments.changes import time_ratio
from experiments.computation import expected_work, training_macs
from experiments.outcome import Outcome
from experiments.series import Series, groups
from experiments.tables.figure4 import in_paper_order
from experiments.tables.markdown import NONE, percent, table

__all__ = ["convergence_lines", "time_lines"]

TENTH = 0.1


def time_lines(series: Sequence[Series]) -> list[str]:
    """Mean share of trained blocks, of multiply-accumulates and of measured time, against the plain network on the same machine."""
    rows = []
    for group, members in groups(series, "figure4").items():
        plain = next((one for one in members if one.scheme == "ResNet"), None)
        for one in in_paper_order(members):
            config = one.outcomes[0].config
            ratio = None if plain is None else training_macs(config) / training_macs(plain.outcomes[0].config)
            rows.append(
                [
                    group.title,
                    one.scheme,
                    str(len(one.seeds)),
                    percent(expected_work(config).trained_share, 0),
                    percent(ratio, 0),
                    percent(None if plain is None else time_ratio(one, plain), 0),
                ]
            )
    if not rows:
        return ["Nothing of this has run yet."]
    header = ["training", "scheme", "seeds", "blocks trained, mean", "multiply-accumulates of plain", "measured time of plain"]
    return table(header, rows)


def convergence_lines(series: Sequence[Series]) -> list[str]:
    """What the last tenth of the epochs still changed."""
    rows = []
    for group, members in groups(series, "figure4").items():
        for one in in_paper_order(members):
            losses = [_last_tenths(outcome.curve.loss) for outcome in one.outcomes]
            errors = [_last_tenths(seen) for outcome in one.outcomes if (seen := _complete_errors(outcome))]
            loss = statistics.fmean(last / before - 1 for before, last in losses)
            points = f"{100 * statistics.fmean(last - before for before, last in errors):+.2f}" if errors else NONE
            rows.append([group.title, one.scheme, str(len(one.seeds)), f"{100 * loss:+.1f} %", points])
    if not rows:
        return ["Nothing of this has run yet."]
    pictures = [f"![curves](evidence/curves-{group.stem}.png)" for group in groups(series, "figure4")]
    return [*pictures, "", *table(["training", "scheme", "seeds", "training loss", "validation error, complete, points"], rows)]


def _complete_errors(outcome: Outcome) -> list[float]:
    """Without the last, which is of all validation pictures where those before are of some."""
    return [row[-1] for row in outcome.curve.validation_errors[:-1]]


def _last_tenths(values: Sequence[float]) -> tuple[float, float]:
    """Means of the last tenth and of the tenth before it (one value each where there are few)."""
    count = max(1, round(TENTH * len(values)))
    last = values[-count:]
    before = values[-2 * count : -count] or values[:1]
    return statistics.fmean(before), statistics.fmean(last)
