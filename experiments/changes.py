"""What one change does: seed for seed against the same training without it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t

from experiments.computation import training_macs
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
        if self.validation.sd is None:
            return "one seed: open"
        count = len(self.validation.values)
        reach = float(t.ppf(0.975, count - 1)) * self.validation.sd / count**0.5
        if abs(self.validation.mean) <= reach:
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
    """Seconds of one training divided by another's, means over seeds, on machines where both have run in the same precision."""
    mine, other = _seconds(one), _seconds(base)
    both = mine.keys() & other.keys()
    if not both:
        return None
    first, second = (statistics.fmean(value for where in both for value in seconds[where]) for seconds in (mine, other))
    return first / second


def _seconds(series: Series) -> dict[tuple[str, str], list[float]]:
    """By what they depend on beside the training: the machine and the precision."""
    found: dict[tuple[str, str], list[float]] = {}
    for outcome in series.outcomes:
        found.setdefault((outcome.machine, outcome.config.precision), []).append(outcome.seconds)
    return found


def _mean_error(series: Series, seed: int, split: str, shares: Sequence[float]) -> float:
    """Over shares of the bytes: the error of the configuration that `Series.within` picks."""
    position = series.seeds.index(seed)
    rungs = [rung for share in shares if (rung := series.within(share=share)) is not None]
    return statistics.fmean((rung.test if split == "test" else rung.validation).values[position] for rung in rungs)
