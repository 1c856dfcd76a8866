"""Outcomes taken together: what a user of one method would choose among, by seed, and how that stands against the others.

Where one of several is picked, the validation split picks and the test split is reported.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from experiments.comparisons.methods.elastic import ORDERS
from experiments.comparisons.outcome import OURS, File, Result, Row
from experiments.outcome import Outcome
from experiments.series import Group, Spread
from experiments.tables.markdown import blocks
from experiments.zoo.record import CLEAN, VALIDATION, Evaluation

__all__ = [
    "ABOVE",
    "NAMES",
    "POINTS",
    "Failure",
    "Family",
    "Verdict",
    "changes",
    "families",
    "float32_bytes",
    "judge",
    "levels",
    "of_outcomes",
    "of_packages",
]

ELASTIC, PLAIN = "elastic", "plain"
LEAST_SHARE, POINTS = 0.02, 0.005
"""The target: from 2 % of the float32 bytes on, within half a point."""

ABOVE = (0.20, 0.10, 0.05, 0.01)
"""Requirements for the tables: validation errors of at most so much more than the plain network's."""

NAMES = tuple(f"+{100 * above:g}" for above in ABOVE)
"""What they are called: points more."""


@dataclass(frozen=True, slots=True)
class Family:
    """`rows` by seed, each sorted by bytes."""

    group: Group
    method: str
    name: str
    rows: Mapping[int, tuple[Row, ...]]

    @property
    def ours(self) -> bool:
        """Whether it is an elastic network."""
        return self.method in OURS

    def best(self, seed: int, size: float) -> Row | None:
        """The lowest validation error among what has at most so many bytes."""
        fitting = [row for row in self.rows[seed] if row.bytes <= size]
        return min(fitting, key=lambda row: row.validation.error, default=None)

    def within(self, size: float) -> Spread | None:
        """Test errors of the best with at most so many bytes, by seed; None if some seed has nothing so small."""
        found = [self.best(seed, size) for seed in self.rows]
        return Spread(tuple(row.test.error for row in found if row)) if all(found) else None

    def reaching(self, seed: int, error: float, has: Row | None = None) -> Row | None:
        """The fewest bytes to receive, beside `has`, for a validation error of at most `error`; the smallest among equals."""
        fitting = [row for row in self.rows[seed] if row.validation.error <= error]
        return min(fitting, key=lambda row: (row.missing(has), row.bytes, row.macs), default=None)

    def path(self, wanted: Sequence[float]) -> list[float | None]:
        """Mean bytes over the seeds for a device that starts with nothing and goes from one requirement to the next (validation
        errors); None where some seed can't meet one of the two.

        Where more is wanted, it receives the least that will do beside what it runs; where less is, in order to compute less, it
        goes to the smallest that will do.
        """
        walks = [self._walk(seed, wanted) for seed in self.rows]
        return [
            statistics.fmean(cost for cost in costs if cost is not None) if None not in costs else None
            for costs in zip(*walks, strict=True)
        ]

    def _walk(self, seed: int, wanted: Sequence[float]) -> list[float | None]:
        costs: list[float | None] = []
        has: Row | None = None
        before = math.inf
        for k, error in enumerate(wanted):
            goes = self.reaching(seed, error, has if error < before else None)
            met = goes is not None and (k == 0 or has is not None)
            costs.append(goes.missing(has) if goes is not None and met else None)
            has, before = goes, error
        return costs


@dataclass(frozen=True, slots=True)
class Failure:
    """Where a baseline is better by more than is allowed, or where it alone has something: stretches of sizes in bytes, each up to
    the size at which that ends (infinite: to the last that was looked at), and the largest distance with what it consists of."""

    family: Family
    sizes: tuple[tuple[float, float], ...]
    ours: Spread | None
    theirs: Spread

    @property
    def gap(self) -> float:
        """As a share of the pictures; infinite if there is nothing of ours."""
        return math.inf if self.ours is None else self.ours.mean - self.theirs.mean


@dataclass(frozen=True, slots=True)
class Verdict:
    """`chosen` is the compact package that is held against every baseline, None if there is none; `checked` how many sizes were
    looked at; `held` the stretches of them where it has something and no baseline fails it, as in Failure."""

    chosen: Family | None
    baselines: int
    checked: int
    failures: tuple[Failure, ...]
    held: tuple[tuple[float, float], ...] = ()


def families(
    results: Iterable[Result], outcomes: Iterable[Outcome] = (), packages: Iterable[Evaluation] = ()
) -> dict[Group, list[Family]]:
    """By what can share a picture. Elastic networks that only the experiments' own list or the zoo has measured stand beside the
    comparisons as float32 packages or as the packages that they are, and further seeds of the plain network beside its first."""
    outcomes = list(outcomes)
    rows = _whole_seeds(results)
    for extra in (of_outcomes(outcomes), of_packages(packages)):
        for (group, name), by_seed in extra.items():
            known = rows.setdefault((group, ELASTIC, name), {})
            for seed, found in by_seed.items():
                known.setdefault(seed, found)
    for (group, method, _), by_seed in rows.items():
        if method == PLAIN:
            for seed, row in _other_seeds(group, by_seed, outcomes).items():
                by_seed.setdefault(seed, [row])
    made: dict[Group, list[Family]] = {}
    for (group, method, name), by_seed in rows.items():
        ordered = {seed: tuple(sorted(by_seed[seed], key=lambda row: (row.bytes, row.macs))) for seed in sorted(by_seed)}
        made.setdefault(group, []).append(Family(group, method, name, ordered))
    return {group: sorted(made[group], key=_place) for group in sorted(made)}


def _whole_seeds(results: Iterable[Result]) -> dict[tuple[Group, str, str], dict[int, list[Row]]]:
    """Rows by group, method and family, by seed. Of a family, seeds count of which the same comparisons are done, in the same
    version, as of the seed with most of them: a mean over seeds of which one has a student only would be of neither."""
    rows: dict[tuple[Group, str, str], dict[int, list[Row]]] = {}
    done: dict[tuple[Group, str, str], dict[int, set[tuple[str, str]]]] = {}
    for result in results:
        group = Group(result.dataset, result.network, result.recipe)
        for row in result.rows:
            key = group, result.method, row.family
            rows.setdefault(key, {}).setdefault(result.seed, []).append(row)
            made = result.variant, str(result.settings.get("version"))
            done.setdefault(key, {}).setdefault(result.seed, set()).add(made)
    for key, by_seed in done.items():
        fullest = max((by_seed[seed] for seed in sorted(by_seed)), key=len)
        rows[key] = {seed: found for seed, found in rows[key].items() if by_seed[seed] == fullest}
    return rows


def _other_seeds(group: Group, by_seed: Mapping[int, Sequence[Row]], outcomes: Iterable[Outcome]) -> dict[int, Row]:
    """The plain network's seeds that only the experiments' own list has: their errors, in files as large as the first seed's, since
    as many weights compress as well."""
    (like, *_) = by_seed[min(by_seed)]
    found = {}
    for one in outcomes:
        config = one.config
        if one.scheme == "ResNet" and Group(config.dataset, config.network, config.recipe.name) == group:
            complete = one.configurations[-1]
            files = tuple(replace(file, sha256=f"{one.name}/{file.name}") for file in like.files)
            found[config.seed] = replace(like, files=files, test=complete.test, validation=complete.validation)
    return found


def of_outcomes(outcomes: Iterable[Outcome]) -> dict[tuple[Group, str], dict[int, list[Row]]]:
    """Float32 packages of the experiments' own list, by group and family, by seed."""
    found: dict[tuple[Group, str], dict[int, list[Row]]] = {}
    for outcome in outcomes:
        if outcome.scheme not in ORDERS or outcome.experiment not in ("delivered", "figure4"):
            continue
        group = Group(outcome.config.dataset, outcome.config.network, outcome.config.recipe.name)
        name = f"Accordion, {ORDERS[outcome.scheme]}, float32"
        files: tuple[File, ...] = ()
        rows = []
        for k, one in enumerate(outcome.configurations):
            files += (_layers(outcome.name, k, one.package_bytes - sum(file.bytes for file in files)),)
            label = f"{k}: {blocks(one.blocks_by_stage)} float32"
            rows.append(Row(name, label, files, one.parameters, one.macs, one.test, one.validation))
        found.setdefault((group, name), {}).setdefault(outcome.config.seed, rows)
    return found


def of_packages(packages: Iterable[Evaluation]) -> dict[tuple[Group, str], dict[int, list[Row]]]:
    """Packages of the zoo, as they were tried from outside; all but those without counts on the validation split."""
    found: dict[tuple[Group, str], dict[int, list[Row]]] = {}
    for package in packages:
        if any(CLEAN not in row.results or VALIDATION not in row.results for row in package.rows):
            continue
        group = Group(package.dataset, package.name.partition("-")[0], "zoo")
        name = f"Accordion, zoo/{package.name}"
        files: tuple[File, ...] = ()
        rows = []
        for one in package.rows:
            files += (_layers(package.name, one.index, one.bytes - sum(file.bytes for file in files)),)
            label = f"{one.index}: {blocks(one.blocks_by_stage)}"
            rows.append(Row(name, label, files, 0, one.macs, one.results[CLEAN], one.results[VALIDATION]))
        found[group, name] = {0: rows}
    return found


def _layers(name: str, index: int, size: int) -> File:
    """What one configuration adds: its layers taken together, whose digests the data file does not hold."""
    return File(f"layers of configuration {index}", size, f"{name}/{index}")


def _place(family: Family) -> tuple[bool, bool, str]:
    return family.method != PLAIN, not family.ours, family.name


def float32_bytes(found: Sequence[Family]) -> float | None:
    """What shares of bytes are shares of: the plain network's float32 files, mean over seeds; None if it has not run."""
    plain = [rows[0].bytes for family in found if family.method == PLAIN for rows in family.rows.values()]
    return statistics.fmean(plain) if plain else None


def levels(found: Sequence[Family]) -> list[float] | None:
    """The requirements of the tables, from easy to hard; None if the plain network has not run."""
    plain = [rows[0].validation.error for family in found if family.method == PLAIN for rows in family.rows.values()]
    return [statistics.fmean(plain) + above for above in ABOVE] if plain else None


def changes(family: Family, wanted: Sequence[float]) -> dict[int | None, list[float | None]] | None:
    """Bytes to receive from each requirement (a place in `wanted`; None: from nothing) to each, mean over seeds, None where one of
    the two can't be met. None if the family meets fewer than two, or has one file that meets all that it meets: then no change
    costs anything."""
    able = [k for k, error in enumerate(wanted) if all(family.reaching(seed, error) for seed in family.rows)]
    if len(able) < 2:
        return None
    costs: dict[int | None, list[float | None]] = {None: [family.path([error])[0] for error in wanted]}
    for k, error in enumerate(wanted):
        costs[k] = [family.path([error, other])[1] for other in wanted]
    return costs if any(cost for k in able for cost in costs[k]) else None


def judge(found: Sequence[Family]) -> list[Verdict]:
    """The target, held against the data: at every size from 2 % to 100 % of the float32 bytes, is the compact package's error at
    most every baseline's, within half a point or the spread over seeds, whichever is more? Empty if the plain network has not run.

    Errors of both sides change at sizes of their rows alone, so these sizes are all that has to be looked at. There is a verdict on
    each compact package, the one with the least validation error, mean over these sizes, first.
    """
    whole = float32_bytes(found)
    if whole is None:
        return []
    most = max(rows[0].bytes for family in found if family.method == PLAIN for rows in family.rows.values())
    baselines = [family for family in found if not family.ours]
    sizes = {LEAST_SHARE * whole} | {row.bytes for family in found for rows in family.rows.values() for row in rows}
    looked = sorted(size for size in sizes if LEAST_SHARE * whole <= size <= most)
    compact = [family for family in found if family.ours and family.name.endswith("compact")]
    if not compact:
        return [Verdict(None, len(baselines), 0, ())]
    verdicts = []
    for one in sorted(compact, key=lambda family: _validation(family, looked)):
        failures = [failure for family in baselines for failure in _failures(one, family, looked)]
        worst_first = tuple(sorted(failures, key=lambda failure: -failure.gap))
        verdicts.append(Verdict(one, len(baselines), len(looked), worst_first, _held(one, worst_first, looked)))
    return verdicts


def _held(chosen: Family, failures: Sequence[Failure], sizes: Sequence[float]) -> tuple[tuple[float, float], ...]:
    failing = [stretch for failure in failures for stretch in failure.sizes]
    return _joined(
        [
            (size, end)
            for size, end in zip(sizes, [*sizes[1:], math.inf], strict=True)
            if chosen.within(size) is not None and not any(low <= size < high for low, high in failing)
        ]
    )


def _validation(family: Family, sizes: Sequence[float]) -> float:
    """Mean over sizes and seeds; where there is nothing, everything is wrong."""
    found = [family.best(seed, size) for seed in family.rows for size in sizes]
    return statistics.fmean(1.0 if row is None else row.validation.error for row in found)


def _failures(chosen: Family, baseline: Family, sizes: Sequence[float]) -> list[Failure]:
    """At most two: where there is something of ours, and where there is not."""
    failing: dict[bool, list[Failure]] = {True: [], False: []}
    for size, end in zip(sizes, [*sizes[1:], math.inf], strict=True):
        theirs, ours = baseline.within(size), chosen.within(size)
        if theirs is None:
            continue
        spread = 0.0 if ours is None else math.hypot(ours.sd or 0.0, theirs.sd or 0.0)
        one = Failure(baseline, ((size, end),), ours, theirs)
        if one.gap > max(POINTS, spread) + 1e-12:
            failing[ours is None].append(one)
    return [
        replace(max(found, key=lambda failure: failure.gap), sizes=_joined([failure.sizes[0] for failure in found]))
        for found in failing.values()
        if found
    ]


def _joined(stretches: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Those that follow each other, as one."""
    found: list[tuple[float, float]] = []
    for low, high in stretches:
        if found and low == found[-1][1]:
            found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return tuple(found)
