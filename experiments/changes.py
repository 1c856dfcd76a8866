"""What one change does: seed for seed against the same training without it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.computation import training_macs
from experiments.outcome import Outcome
from experiments.series import Group, Series, Spread, find

__all__ = ["SMALL", "Effect", "effects", "time_ratio"]

SHARES = tuple(n / 20 for n in range(1, 21))
SMALL = 0.25


@dataclass(frozen=True, slots=True)
class Effect:
    """Changes of the error (negative is better), by seed: `mean` over 5, 10, … 100 % of the bytes (what a device gets that
    stops there, so that orders with other configurations can be compared), `small` up to `SMALL` of them, `complete`.
    `validation` is `mean` on the validation split, by which is decided what pays. `macs` and `seconds` are the
    training's, divided by those without the change; `seconds` on machines where both have run, None if there is none.
    """

    series: Series
    base: Series
    mean: Spread
    small: Spread | None
    complete: Spread
    validation: Spread
    macs: float
    seconds: float | None

    @property
    def pays(self) -> str:
        """In words: zero must lie outside of the 95 % interval of the validation error's change, by Student's t over the seeds."""
        if self.validation.reach is None:
            return "one seed: open"
        if abs(self.validation.mean) <= self.validation.reach:
            return "no difference beyond noise"
        return "yes" if self.validation.mean < 0 else "no, worse"


def effects(series: Sequence[Series]) -> list[Effect]:
    """Of every change and every learned order that has run, as what it is compared with has."""
    found = []
    for one in series:
        against = one.outcomes[0].against
        if one.experiment not in ("ablation", "order", "delivered") or against is None:
            continue
        group = Group(one.dataset, one.network, one.recipe)
        base = find(series, "figure4", against, group) or find(series, "ablation", against, group)
        if base is not None and set(one.seeds) & set(base.seeds):
            found.append(_effect(one, base))
    return found


def _effect(one: Series, base: Series) -> Effect:
    seeds = [seed for seed in one.seeds if seed in base.seeds]

    def difference(split: str, most: float) -> Spread | None:
        shares = [share for share in SHARES if share <= most and one.within(share=share) and base.within(share=share)]
        if not shares:
            return None
        return Spread(tuple(_mean_error(one, seed, split, shares) - _mean_error(base, seed, split, shares) for seed in seeds))

    mean, validation = difference("test", 1.0), difference("validation", 1.0)
    assert mean is not None and validation is not None  # the complete networks have all of the bytes
    complete = tuple(
        one.complete.test.values[one.seeds.index(seed)] - base.complete.test.values[base.seeds.index(seed)] for seed in seeds
    )
    return Effect(
        series=one,
        base=base,
        mean=mean,
        small=difference("test", SMALL),
        complete=Spread(complete),
        validation=validation,
        macs=training_macs(one.outcomes[0].config) / training_macs(base.outcomes[0].config),
        seconds=time_ratio(one, base),
    )


def time_ratio(one: Series, base: Series) -> float | None:
    """Seconds of one training divided by another's, seed for seed where both have run on one machine in one precision: means of
    these. None if there is no such seed."""
    other = {_where(outcome): outcome.seconds for outcome in base.outcomes}
    pairs = [(outcome.seconds, other[_where(outcome)]) for outcome in one.outcomes if _where(outcome) in other]
    if not pairs:
        return None
    return sum(mine for mine, _ in pairs) / sum(theirs for _, theirs in pairs)


def _where(outcome: Outcome) -> tuple[int, str, str]:
    return outcome.config.seed, outcome.machine, outcome.config.precision


def _mean_error(series: Series, seed: int, split: str, shares: Sequence[float]) -> float:
    """Over shares of the bytes: the error of the configuration that `Series.within` picks."""
    position = series.seeds.index(seed)
    rungs = [rung for share in shares if (rung := series.within(share=share)) is not None]
    return statistics.fmean((rung.test if split == "test" else rung.validation).values[position] for rung in rungs)
