"""`accordion run MODEL INPUT…`: all of the model, or a fraction."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from accordion.cli import options
from accordion.cli.answers import answer_lines, as_lists
from accordion.cli.console import Context
from accordion.cli.trusting import add_trust, trust_from
from accordion.errors import UsageError
from accordion.units import format_seconds

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "run",
        help="run a model, or a fraction of it",
        description="Runs the largest complete configuration, or the one asked for, on arrays (.npy, .npz) or pictures.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="FILE, or NAME=FILE where the network has several inputs")
    parser.add_argument("--configuration", type=options.index, metavar="K", help="this configuration")
    parser.add_argument("--max-macs", type=options.count, metavar="M", help="the best within so many multiply-accumulates: 50e6")
    parser.add_argument("--max-energy", type=options.number, metavar="JOULES", help="the best within so many joules: 2e-3")
    parser.add_argument(
        "--max-latency", type=options.seconds, metavar="TIME", help="the best that was measured to run in this time: 2ms"
    )
    parser.add_argument(
        "--kernels", choices=["float", "integer"], help="how it computes (float; with --max-latency the better one)"
    )
    add_trust(parser)
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Runs, and says what came out."""
    import time

    from accordion.cli.inputs import read_inputs
    from accordion.device import Model

    limits = {"--max-macs": arguments.max_macs, "--max-energy": arguments.max_energy, "--max-latency": arguments.max_latency}
    for option, bound in limits.items():
        if arguments.configuration is not None and bound is not None:
            raise UsageError(f"--configuration names what runs: leave {option} out")
    if arguments.max_energy is not None and arguments.max_energy <= 0:
        raise UsageError(f"--max-energy {arguments.max_energy:g} is no amount of energy: it must be more than nothing")
    if arguments.max_energy is not None and arguments.max_latency is not None:
        raise UsageError("--max-energy counts for float kernels, --max-latency may choose others: name one of them")
    with Model.open(arguments.model, trust=trust_from(arguments)) as model:
        for warning in model.warnings:
            context.console.progress(warning)
        kernels = arguments.kernels or "float"
        if arguments.max_latency is not None:
            k, kernels = model.choose_within(arguments.max_latency, kernels=arguments.kernels, max_macs=arguments.max_macs)
        else:
            k = model.choose(arguments.configuration, max_macs=arguments.max_macs, max_energy_j=arguments.max_energy)
        arrays = read_inputs(arguments.inputs, model.ladder.inputs_of(k))
        k = model.prepare(k, kernels=kernels)
        began = time.perf_counter()
        outputs = model.run(arrays, k, kernels=kernels)
        seconds = time.perf_counter() - began
        specs = model.ladder.outputs_of(k)
    lines = [f"configuration {k}, {kernels} kernels, {format_seconds(seconds)}", *answer_lines(outputs, specs)]
    value = {"configuration": k, "kernels": kernels, "outputs": as_lists(outputs), "seconds": seconds}
    context.console.result(value, lines)
    return 0
