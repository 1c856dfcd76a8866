"""`python -m experiments comparisons …`: the list and the runs."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from accordion.cli import options
from accordion.errors import UsageError
from accordion.profiling.latency import machine_name
from experiments import catalogue as runs_list
from experiments import timing
from experiments.comparisons import catalogue, listing, outcome
from experiments.comparisons.catalogue import Comparison
from experiments.comparisons.outcome import read_results
from experiments.computation import SHAPES
from experiments.listing import longer
from experiments.one_by_one import one_by_one
from experiments.outcome import read_all

__all__ = ["add_parsers"]


def add_parsers(parser: argparse.ArgumentParser) -> None:
    """`comparisons list` and `comparisons run`."""
    commands = parser.add_subparsers(dest="what", metavar="COMMAND", required=True)
    shown = commands.add_parser("list", help="all comparisons in order of value: done, to do, and their cost here")
    shown.add_argument("--json", action="store_true", help="one JSON document")
    shown.set_defaults(execute=_list)
    run = commands.add_parser(
        "run", help="do one, or go on with it; next: the first that is not done, and so on while there is time"
    )
    run.add_argument("name", metavar="NAME|next", help="a name of the list, or next")
    run.add_argument("--max-time", type=options.seconds, metavar="TIME", help="stop with a checkpoint after this time (40min)")
    run.add_argument("--only", metavar="TEXT", help="next: only those whose name contains this")
    run.add_argument("--once", action="store_true", help="next: one, not the one after it")
    run.add_argument("--accelerator", default="auto", help="Lightning Fabric's: cpu, cuda, … (auto)")
    run.add_argument("--precision", choices=timing.PRECISIONS, help="train in this instead of what the list says")
    run.add_argument(
        "--trial",
        type=Path,
        metavar="FOLDER",
        help="one epoch on a few hundred pictures, everything into FOLDER: does it go through?",
    )
    run.set_defaults(execute=_run)
    for one in (shown, run):
        one.add_argument("--network", help="another list: for this network (resnet20, where one of these four is given)")
        one.add_argument("--dataset", help="another list: on this data set (cifar10)")
        one.add_argument("--recipe", help="another list: by this recipe (brief)")
        one.add_argument("--seed", type=options.index, action="append", help="another list: with this seed; may be repeated (0)")
        one.add_argument("--runs", type=Path, default=Path("runs/experiments"), help="checkpoints and files (runs/experiments)")
        one.add_argument("--data", type=Path, default=outcome.FOLDER, help="outcomes (experiments/data/comparisons)")


def _asked(arguments: argparse.Namespace) -> list[Comparison]:
    found = catalogue.catalogue(arguments.network, arguments.dataset, arguments.recipe, arguments.seed)
    for one in found[:1]:  # what is unknown is said at once
        _ = one.steps
        if one.dataset not in SHAPES:
            raise UsageError(f"{one.dataset!r} is no data set of the comparisons: choose {', '.join(SHAPES)}")
        if not re.fullmatch(r"resnet[0-9]{1,4}", one.network) or int(one.network[6:]) < 8 or (int(one.network[6:]) - 2) % 6:
            raise UsageError(f"{one.network!r} is no network of the comparisons: a ResNet of depth 6n+2, such as resnet20")
    return found


def _list(arguments: argparse.Namespace) -> int:
    results = {found.name: found for found in read_results(arguments.data)}
    times, machine = timing.read_table(), machine_name()
    outcomes = {one.name: one for one in read_all()}
    factor = longer(runs_list.catalogue(), outcomes, times, machine) or 1.0  # no comparison was done here, but perhaps a run
    rows, lines = listing.listing(_asked(arguments), results, times, machine, arguments.runs, factor)
    print(json.dumps({"comparisons": rows}, indent=2) if arguments.json else "\n".join(lines))
    return 0


def _run(arguments: argparse.Namespace) -> int:
    deadline = None if arguments.max_time is None else time.monotonic() + arguments.max_time
    if arguments.trial is not None:
        arguments.runs, arguments.data = arguments.trial / "runs", arguments.trial / "data"
    if arguments.name == "next":
        return _next(arguments, deadline)
    read_results(arguments.data)  # a folder of other outcomes is said before hours are spent, not after
    known = catalogue.by_name(_asked(arguments))
    if arguments.name not in known:
        raise UsageError(f"there is no comparison {arguments.name!r}: python -m experiments comparisons list names them")
    return 0 if _one(known[arguments.name], arguments, deadline, waits=True) else 3


def _next(arguments: argparse.Namespace, deadline: float | None) -> int:
    def still_open() -> list[Comparison]:
        asked = [one for one in _asked(arguments) if arguments.only is None or arguments.only in one.name]
        if arguments.trial is not None:  # a trial's outcomes have other settings than the list says
            done = {path.stem for path in arguments.data.glob("*.json")}
            return [one for one in asked if one.name not in done and listing.state_of(one, {}, arguments.runs).open]
        results = {found.name: found for found in read_results(arguments.data)}
        return [one for one in asked if listing.state_of(one, results, arguments.runs).open]

    # What needs no training that another process is at comes before waiting for that.
    return one_by_one(
        still_open,
        lambda one: _one(one, arguments, deadline, waits=False),
        _say,
        deadline=deadline,
        once=arguments.once,
        patiently=lambda one: _one(one, arguments, deadline, waits=True),
    )


def _one(one: Comparison, arguments: argparse.Namespace, deadline: float | None, *, waits: bool) -> bool:
    from experiments.comparisons.execute import execute, shortened

    _say(one.name)
    dataset = None
    if arguments.trial is not None:
        one, dataset = shortened(one)
    progress: Callable[[str], None] = lambda line: _say(f"  {line}")  # noqa: E731
    found = execute(
        one,
        runs=arguments.runs,
        data=arguments.data,
        accelerator=arguments.accelerator,
        deadline=deadline,
        progress=progress,
        dataset=dataset,
        precision=arguments.precision,
        waits=waits,
    )
    if found is None:
        _say(f"{one.name}: the time is over; the same command goes on from here")
        return False
    for row in found.rows:
        print(f"{found.name}: {row.label}: {row.bytes:,} bytes, test error {row.test.error:.2%}", flush=True)
    return True


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
