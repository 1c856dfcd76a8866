"""The command line of the experiments: arguments in, one exit code out."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from accordion.cli import options
from accordion.errors import AccordionError, UsageError
from accordion.profiling.latency import machine_name
from experiments import catalogue, listing, outcome, timing
from experiments.comparisons.commands import add_parsers as add_comparisons
from experiments.one_by_one import one_by_one
from experiments.run import Run
from experiments.state import state_of

__all__ = ["main"]

INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """One command. Exit codes are those of `accordion`: 0 done, 1 failed, 2 wrong usage, 3 not done in time, 4 broken content."""
    try:
        arguments = _parser().parse_args(argv)
        code: int = arguments.execute(arguments)
        return code
    except SystemExit as done:  # --help
        return done.code if isinstance(done.code, int) else 0
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return AccordionError.exit_code
    except AccordionError as error:
        _say(f"experiments: {' '.join(str(error).split())}")
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m experiments", description="The evidence: runs, tables and pictures.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    shown = commands.add_parser("list", help="all runs in order of value: done, partly done, to do, and their cost here")
    shown.add_argument("--json", action="store_true", help="one JSON document")
    shown.add_argument("--open", action="store_true", help="only what can be worked on")
    _folders(shown)
    shown.set_defaults(execute=_list)
    run = commands.add_parser(
        "run", help="do a run, or go on with it; next: the first of the list that is not done, and so on while there is time"
    )
    run.add_argument("name", metavar="NAME|next", help="a name of the list, or next")
    run.add_argument(
        "--max-time", type=options.seconds, metavar="TIME", help="stop with a checkpoint after this time, such as 40min"
    )
    run.add_argument("--jobs", type=options.count, default=1, help="so many runs at once, the cores shared between them (1)")
    run.add_argument("--only", metavar="TEXT", help="next: only runs whose name contains this")
    run.add_argument("--once", action="store_true", help="next: one run, not the one after it")
    run.add_argument("--accelerator", default="auto", help="Lightning Fabric's: cpu, cuda, … (auto)")
    run.add_argument(
        "--precision",
        choices=timing.PRECISIONS,
        help="train in this instead of what the list says: 32-true is faster on a processor that has no bfloat16 arithmetic",
    )
    _folders(run)
    run.set_defaults(execute=_run)
    timed = commands.add_parser("timing", help="measure what a training step costs on this machine (a minute)")
    timed.add_argument("--precision", choices=timing.PRECISIONS, help="only this one (both)")
    timed.add_argument("--accelerator", default="auto", help="Lightning Fabric's (auto)")
    timed.add_argument("--rounds", type=options.count, default=7, help="timed steps of each network (7)")
    timed.set_defaults(execute=_timing)
    tables = commands.add_parser(
        "tables", help="write the tables of docs/evidence.md and docs/comparisons*.md (data files) and zoo/README.md (packages)"
    )
    tables.add_argument("--data", type=Path, default=outcome.DATA, help="outcomes (experiments/data)")
    tables.add_argument("--check", action="store_true", help="write nothing; fail if the document is not what the data files give")
    tables.set_defaults(execute=_tables)
    figures = commands.add_parser("figures", help="draw the pictures of both from the data files")
    figures.add_argument("--data", type=Path, default=outcome.DATA, help="outcomes (experiments/data)")
    figures.add_argument("-o", "--out", type=Path, help="where to draw (docs/evidence and docs/comparisons)")
    figures.set_defaults(execute=_figures)
    compared = commands.add_parser("comparisons", help="baselines, what the paper names and more, in one list: list, run")
    add_comparisons(compared)
    policies = commands.add_parser("policies", help="make the policies that runs of the list train by, from traces and outcomes")
    policies.add_argument("--data", type=Path, default=outcome.DATA, help="outcomes (experiments/data)")
    policies.set_defaults(execute=_policies)
    encoded = commands.add_parser("encode", help="package finished runs for the comparison of delivered accuracy (minutes)")
    _folders(encoded)
    encoded.set_defaults(execute=_encode)
    delivered = commands.add_parser("delivered", help="what every way of sending delivers in time over the measured traces")
    delivered.add_argument("--traces", type=Path, help="the traces (../shared/data/traces)")
    delivered.add_argument("--data", type=Path, default=outcome.DATA, help="outcomes (experiments/data)")
    delivered.set_defaults(execute=_delivered)
    zoo = commands.add_parser("zoo", help="try a package in plain ONNX Runtime: clean, purged and corrupted test pictures")
    zoo.add_argument("package", type=Path, metavar="PACKAGE")
    zoo.add_argument("--tag", help="which version (the first)")
    zoo.add_argument("--samples", type=options.count, default=2000, help="corrupted pictures (2000)")
    zoo.add_argument("--clean-samples", type=options.count, help="clean pictures (all)")
    zoo.add_argument(
        "--earlier",
        type=Path,
        metavar="PACKAGE",
        help="the package that was tried before, of the same graphs and weights in other layers: what was found of it stands",
    )
    zoo.add_argument("--threads", type=options.index, default=0, help="of ONNX Runtime; 0 is one a core")
    zoo.add_argument("--data", type=Path, default=outcome.DATA / "zoo", help="where its data file goes (experiments/data/zoo)")
    zoo.set_defaults(execute=_zoo)
    twins = commands.add_parser("duplicates", help="find the test pictures that are nearly in the training set (minutes)")
    twins.add_argument("dataset", metavar="DATASET", help="cifar10 or cifar100")
    twins.add_argument("--data", type=Path, default=outcome.DATA / "zoo", help="where the list goes (experiments/data/zoo)")
    twins.set_defaults(execute=_duplicates)
    return parser


def _folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, default=Path("runs/experiments"), help="checkpoints and packages (runs/experiments)")
    parser.add_argument("--data", type=Path, default=outcome.DATA, help="outcomes (experiments/data)")


def _list(arguments: argparse.Namespace) -> int:
    outcomes = {found.name: found for found in outcome.read_all(arguments.data)}
    runs = catalogue.catalogue()
    if arguments.open:
        runs = [run for run in runs if state_of(run, outcomes, arguments.runs).open]
    rows, lines = listing.listing(runs, outcomes, timing.read_table(), machine_name(), arguments.runs)
    print(json.dumps({"runs": rows}, indent=2) if arguments.json else "\n".join(lines))
    return 0


def _run(arguments: argparse.Namespace) -> int:
    deadline = None if arguments.max_time is None else time.monotonic() + arguments.max_time
    if arguments.name != "next":
        known = catalogue.by_name()
        if arguments.name not in known:
            raise UsageError(f"there is no run {arguments.name!r}: python -m experiments list names them")
        return 0 if _one(known[arguments.name], arguments, deadline) else 3
    if arguments.jobs > 1:
        return _several(arguments)
    return _next(arguments, deadline)


def _next(arguments: argparse.Namespace, deadline: float | None) -> int:
    def still_open() -> list[Run]:
        outcomes = {found.name: found for found in outcome.read_all(arguments.data)}
        asked = [run for run in catalogue.catalogue() if arguments.only is None or arguments.only in run.name]
        return [run for run in asked if state_of(run, outcomes, arguments.runs).open]

    return one_by_one(still_open, lambda run: _one(run, arguments, deadline), _say, deadline=deadline, once=arguments.once)


def _one(run: Run, arguments: argparse.Namespace, deadline: float | None) -> bool:
    from experiments.execute import begun_in, execute

    _say(f"{run.name}")
    found = execute(
        run.at(arguments.precision or begun_in(arguments.runs / run.name)),
        runs=arguments.runs,
        data=arguments.data,
        accelerator=arguments.accelerator,
        deadline=deadline,
        progress=lambda line: _say(f"  {line}"),
    )
    if found is None:
        _say(f"{run.name}: the time is over; the same command goes on from here")
        return False
    smallest, complete = found.configurations[0], found.complete
    print(f"{run.name}: test error complete {complete.test.error:.2%}, smallest {smallest.test.error:.2%}", flush=True)
    return True


def _several(arguments: argparse.Namespace) -> int:
    """As many processes as jobs, each taking the next run that no other is at."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = str(max(1, cores // arguments.jobs))
    command = [sys.executable, "-m", "experiments", "run", "next", "--accelerator", arguments.accelerator]
    command += ["--runs", str(arguments.runs), "--data", str(arguments.data)]
    command += ["--precision", arguments.precision] if arguments.precision else []
    command += ["--once"] * arguments.once + (["--only", arguments.only] if arguments.only else [])
    command += ["--max-time", f"{arguments.max_time}s"] if arguments.max_time is not None else []
    jobs = [subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": threads}) for _ in range(arguments.jobs)]
    try:
        return max(code if (code := job.wait()) >= 0 else AccordionError.exit_code for job in jobs)  # below 0: a signal ended it
    except KeyboardInterrupt:
        for job in jobs:
            job.wait()  # they were interrupted with us, and write their checkpoints
        raise


def _timing(arguments: argparse.Namespace) -> int:
    for precision in [arguments.precision] if arguments.precision else timing.PRECISIONS:
        _say(precision)
        found = timing.measure(precision, accelerator=arguments.accelerator, rounds=arguments.rounds, progress=_say)
        timing.write_table([*timing.read_table(), found])
        blocks = ", ".join(f"{one * 1e3:.2f}" for one in found.block_s)
        print(f"{found.machine}, {found.precision}: {found.rest_s * 1e3:.1f} ms a step and {blocks} ms a block of stage 1, 2, 3")
    return 0


def _tables(arguments: argparse.Namespace) -> int:
    from experiments import document
    from experiments.comparisons import document as comparisons
    from experiments.zoo import document as cards

    _there(arguments.data)
    if arguments.check:
        evidence, ours = document.current(arguments.data), comparisons.current(arguments.data)
        for path, current in {document.EVIDENCE: evidence, **ours, cards.CARDS: cards.current()}.items():
            if current != document.read(path):
                raise AccordionError(f"{path} is not what the data files give: python -m experiments tables")
        return 0
    print(f"{document.EVIDENCE}: {'written' if document.update(data=arguments.data) else 'unchanged'}")
    for path, changed in comparisons.update(arguments.data).items():
        print(f"{path}: {'written' if changed else 'unchanged'}")
    print(f"{cards.CARDS}: {'written' if cards.update() else 'unchanged'}")
    return 0


def _there(data: Path) -> None:
    """Without data everything would be drawn and written as not run."""
    if not data.is_dir():
        raise UsageError(f"there is no folder {data}")


def _figures(arguments: argparse.Namespace) -> int:
    _there(arguments.data)
    from experiments.comparisons.document import FIGURES as COMPARISONS
    from experiments.comparisons.figures.all import draw_all as draw_comparisons
    from experiments.document import FIGURES
    from experiments.figures.all import draw_all

    drawn = draw_all(arguments.data, arguments.out or FIGURES)
    for path in [*drawn, *draw_comparisons(arguments.data, arguments.out or COMPARISONS)]:
        print(f"drew {path}")
    return 0


def _policies(arguments: argparse.Namespace) -> int:
    from experiments.delivery.policies import write_policies

    for path in write_policies(outcome.read_all(arguments.data)):
        print(f"wrote {path}")
    return 0


def _encode(arguments: argparse.Namespace) -> int:
    from experiments.delivery.make import encode_all

    for line in encode_all(outcome.read_all(arguments.data), arguments.runs, arguments.data, _say):
        _say(line)
    return 0


def _delivered(arguments: argparse.Namespace) -> int:
    from experiments.delivery.cases import TRACES
    from experiments.delivery.make import make

    path = make(outcome.read_all(arguments.data), arguments.traces or TRACES, arguments.data, _say)
    print(f"wrote {path}")
    return 0


def _zoo(arguments: argparse.Namespace) -> int:
    from experiments.zoo.evaluate import evaluate

    path = evaluate(
        arguments.package,
        arguments.data,
        tag=arguments.tag,
        samples=arguments.samples,
        clean_samples=arguments.clean_samples,
        threads=arguments.threads,
        progress=_say,
        earlier=arguments.earlier,
    )
    print(f"wrote {path}")
    return 0


def _duplicates(arguments: argparse.Namespace) -> int:
    from accordion.data import load
    from experiments.zoo import duplicates

    dataset = load(arguments.dataset)
    rows = duplicates.find(dataset, _say)
    path = duplicates.write(arguments.data, dataset.name, rows)
    print(f"{len(rows)} of {len(dataset.test)} test pictures are nearly in the training set: {path}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
