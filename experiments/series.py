"""Outcomes that differ by seed alone, taken together: mean and standard deviation of every configuration.

Where one configuration is picked from several, the validation split picks and the test split is reported.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from scipy.stats import t

from accordion.errors import FormatError
from experiments.outcome import Outcome

__all__ = ["Group", "Rung", "Series", "Spread", "collect", "find", "groups"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Values of several seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float | None:
        """The sample's standard deviation (n - 1); None for a single seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def reach(self) -> float | None:
        """Half of the 95 % interval of the mean, by Student's t over the seeds; None for a single seed."""
        count = len(self.values)
        return None if self.sd is None else float(t.ppf(0.975, count - 1)) * self.sd / count**0.5


@dataclass(frozen=True, slots=True)
class Rung:
    """One configuration over all seeds. Shares are of the complete network of the same scheme."""

    index: int
    blocks_by_stage: tuple[int, ...]
    parameters: int
    bytes: float  # of the package's layers up to here, mean over seeds: archives compress a little differently
    share: float
    macs: int
    macs_share: float
    test: Spread
    validation: Spread
    pictures: int  # in the test split


@dataclass(frozen=True, slots=True)
class Series:
    """One scheme on one network and data set by one recipe; `outcomes` by seed."""

    experiment: str
    scheme: str
    dataset: str
    network: str
    recipe: str
    outcomes: tuple[Outcome, ...]
    rungs: tuple[Rung, ...]

    @property
    def complete(self) -> Rung:
        """The whole network."""
        return self.rungs[-1]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Which seeds have run."""
        return tuple(outcome.config.seed for outcome in self.outcomes)

    def within(self, *, share: float | None = None, size: float | None = None, blocks: float | None = None) -> Rung | None:
        """The configuration with the lowest validation error among those with at most this share of the bytes, so many bytes, or
        this share of the blocks; None if none is so small."""
        total = sum(self.complete.blocks_by_stage)
        fitting = [
            rung
            for rung in self.rungs
            if (share is None or rung.share <= share)
            and (size is None or rung.bytes <= size)
            and (blocks is None or sum(rung.blocks_by_stage) <= blocks * total)
        ]
        return min(fitting, key=lambda rung: rung.validation.mean, default=None)

    def reaching(self, error: float) -> Rung | None:
        """The smallest configuration whose validation error is at most `error`; None if none is so good."""
        return next((rung for rung in self.rungs if rung.validation.mean <= error), None)

    def at(self, blocks_by_stage: Sequence[int]) -> Rung | None:
        """The configuration with these blocks."""
        return next((rung for rung in self.rungs if rung.blocks_by_stage == tuple(blocks_by_stage)), None)


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """What can share a picture: one network on one data set by one recipe."""

    dataset: str
    network: str
    recipe: str

    @property
    def title(self) -> str:
        """For people."""
        network, dataset = self.network.replace("resnet", "ResNet-"), self.dataset.replace("cifar", "CIFAR-")
        return f"{network} on {dataset}, recipe {self.recipe}"

    @property
    def stem(self) -> str:
        """For file names."""
        return f"{self.network}-{self.dataset}-{self.recipe}"


def collect(outcomes: Iterable[Outcome]) -> list[Series]:
    """Puts together what differs by seed alone. FormatError if two outcomes of one name differ by more.

    Where some seeds have been done again with networks that begin otherwise, those that have not are left out.
    """
    together: dict[tuple[str, str, str, str, str], list[Outcome]] = {}
    for outcome in outcomes:
        config = outcome.config
        key = (outcome.experiment, outcome.scheme, config.dataset, config.network, config.recipe.name)
        together.setdefault(key, []).append(outcome)
    for key, same in together.items():
        newest = max(outcome.config.initialisation for outcome in same)
        together[key] = [outcome for outcome in same if outcome.config.initialisation == newest]
    return [Series(*key, tuple(same), _rungs(same)) for key, same in together.items()]


def groups(series: Iterable[Series], experiment: str) -> dict[Group, list[Series]]:
    """The series of an experiment, by what can share a picture."""
    found: dict[Group, list[Series]] = {}
    for one in series:
        if one.experiment == experiment:
            found.setdefault(Group(one.dataset, one.network, one.recipe), []).append(one)
    return dict(sorted(found.items()))


def find(series: Iterable[Series], experiment: str, scheme: str, group: Group) -> Series | None:
    """One series, if it has run."""
    for one in series:
        if (one.experiment, one.scheme, one.dataset, one.network, one.recipe) == (
            experiment,
            scheme,
            group.dataset,
            group.network,
            group.recipe,
        ):
            return one
    return None


def _rungs(outcomes: list[Outcome]) -> tuple[Rung, ...]:
    first = outcomes[0]
    for other in outcomes[1:]:
        # Precision is where a run was done, as its machine is, which is not in the settings at all.
        if replace(other.config, seed=first.config.seed, precision=first.config.precision) != first.config:
            raise FormatError(f"{other.name} and {first.name} differ by more than the seed")
    rungs = []
    for k, rows in enumerate(zip(*(outcome.configurations for outcome in outcomes), strict=True)):
        size = statistics.fmean(row.package_bytes for row in rows)
        whole = statistics.fmean(outcome.complete.package_bytes for outcome in outcomes)
        rungs.append(
            Rung(
                index=k,
                blocks_by_stage=rows[0].blocks_by_stage,
                parameters=rows[0].parameters,
                bytes=size,
                share=size / whole,
                macs=rows[0].macs,
                macs_share=rows[0].macs / first.complete.macs,
                test=Spread(tuple(row.test.error for row in rows)),
                validation=Spread(tuple(row.validation.error for row in rows)),
                pictures=rows[0].test.of,
            )
        )
    return tuple(rungs)
