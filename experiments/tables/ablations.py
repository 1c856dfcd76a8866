"""One change at a time: what it does to the error, and what it costs in training."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.catalogue import ABLATIONS
from experiments.changes import SMALL, Effect, effects
from experiments.series import Series
from experiments.tables.markdown import NONE, change, percent, table

__all__ = ["lines"]


def lines(series: Sequence[Series]) -> list[str]:
    """The table and its picture; then what has not run."""
    found = effects(series)
    order = {ablation.scheme: position for position, ablation in enumerate(ABLATIONS)}
    found.sort(key=lambda effect: order.get(effect.series.scheme, len(order)))
    missing = [scheme for scheme in [*order, "learned"] if scheme not in {effect.series.scheme for effect in found}]
    if not found:
        return ["Nothing of this has run yet."]
    header = [
        "change",
        "against",
        "seeds",
        "mean over bytes",
        f"mean up to {percent(SMALL, 0)} of the bytes",
        "complete",
        "training computation",
        "measured time",
        "pays (by validation)",
    ]
    out = ["![ablations](evidence/ablations.png)", "", *table(header, [_row(effect) for effect in found])]
    if missing:
        out += ["", f"Not run, or without a run to compare with: {', '.join(missing)}."]
    return out


def _row(effect: Effect) -> list[str]:
    name = "learned order" if effect.series.experiment == "order" else effect.series.scheme
    return [
        name,
        effect.base.scheme,
        str(len(effect.mean.values)),
        change(effect.mean),
        change(effect.small),
        change(effect.complete),
        f"× {effect.macs:.2f}",
        NONE if effect.seconds is None else f"× {effect.seconds:.2f}",
        effect.pays,
    ]
