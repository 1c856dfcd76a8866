"""From finished runs to the data file: encodings where they lack, then the simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accordion.artifact.atomic import write_file
from accordion.errors import FormatError, StorageError, UsageError
from experiments.comparisons.outcome import FOLDER as COMPARISONS
from experiments.comparisons.outcome import read_results
from experiments.data_files import parse
from experiments.delivery.cases import GROUP, NAME, TRACES, compared
from experiments.delivery.encodings import FOLDER, Encoding, encode, read_encodings, read_package, wanted
from experiments.delivery.energy import FILE as ENERGY
from experiments.delivery.energy import bills, write_bills
from experiments.delivery.simulate import FILE, ZOO, simulate, write_rows
from experiments.delivery.ways import Way, alone, alone_in_int4, compressed, prefixes, ways_of
from experiments.outcome import DATA, Outcome

__all__ = ["GUARANTEES", "ZOO_FOLDER", "encode_all", "make", "read_guarantees"]

GUARANTEES = DATA / "guarantees"
ZOO_FOLDER = Path(__file__).parents[2] / "zoo"
ZOO_NETWORK = "resnet56-cifar10"
Progress = Callable[[str], None]


def encode_all(outcomes: Sequence[Outcome], runs: Path, data: Path = DATA, progress: Progress = lambda line: None) -> list[str]:
    """Packages what the comparison wants and lacks, keeps the reports of guarantees, and names what it could not do here."""
    lacks = []
    known = read_encodings(data / FOLDER.name)
    for one, codec in wanted(outcomes):
        if f"{one.name}-{codec}" not in known:
            try:
                encode(one, codec, runs=runs, data=data / FOLDER.name, progress=progress)
            except UsageError as error:
                lacks.append(str(error))
    for one in outcomes:
        report = runs / one.name / "run" / "report.json"
        if str(one.config.policy).startswith("guarantee:") and report.is_file():
            target = data / GUARANTEES.name / f"{one.name}.json"
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                write_file(target, report.read_bytes())
            except OSError as error:
                raise StorageError(f"can't write {target}: {error.strerror}") from error
    return lacks


def make(outcomes: Sequence[Outcome], traces: Path = TRACES, data: Path = DATA, progress: Progress = lambda line: None) -> Path:
    """Simulates everything that there are encodings for. UsageError if that is nothing, or without the traces."""
    encodings = read_encodings(data / FOLDER.name)
    ways: dict[tuple[str, int], list[Way]] = {}
    spent = []
    taking_part, results = compared(outcomes), read_results(data / COMPARISONS.name)
    for seed in sorted({one.config.seed for one in taking_part}):
        manifest = min((one.manifest_bytes for one in encodings.values()), default=0)  # of whatever has fewest layers
        small = alone_in_int4(results, seed, manifest)
        of_seed = [one for one in taking_part if one.config.seed == seed]
        spent += bills(of_seed, encodings, traces, small)
        if found := ways_of(of_seed, encodings, small):
            ways[NAME, seed] = found + compressed(results, seed, manifest)
    if shipped := _zoo():
        ways[ZOO, 0] = shipped
    if not ways:
        raise UsageError(f"no run of {GROUP.title} is encoded: python -m experiments encode")
    write_bills(spent, data / ENERGY.parent.name / ENERGY.name)
    return write_rows(simulate(ways, traces, progress), data / FILE.parent.name / FILE.name)


def _zoo() -> list[Way]:
    """The shipped packages of one network, and its float32 form downloaded whole."""
    plain, compact = ZOO_FOLDER / ZOO_NETWORK, ZOO_FOLDER / f"{ZOO_NETWORK}-compact"
    if not plain.is_dir() or not compact.is_dir():
        return []
    full: Encoding = read_package(plain, ZOO_NETWORK, "float32")
    small: Encoding = read_package(compact, ZOO_NETWORK, "auto")
    return [alone(f"{plain.name}, whole", full), prefixes(plain.name, full), prefixes(compact.name, small)]


def read_guarantees(folder: Path = GUARANTEES) -> dict[str, Mapping[str, Any]]:
    """The reports of trainings with a guarantee, by run. FormatError if one is something else."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            value = parse(path.read_bytes())
            rows = value["configurations"]
            if not all({"index", "target", "error", "upper_bound", "steps", "met", "certified"} <= set(row) for row in rows):
                raise ValueError("rows without a target or what was reached")
        except OSError as error:
            raise StorageError(f"can't read {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{path} is no report of a guarantee: {error}") from error
        found[path.stem] = value
    return found
