"""`accordion order RUN -o ORDER.json`: finds the nested order with the best quality for its cost."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accordion.cli import options
from accordion.cli.console import Context
from accordion.cli.extras import extra

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "order",
        help="find an order for a network trained over a grid",
        description="Measures the configurations of a finished training (train --order grid) on the validation split and finds the "
        "nested order with the least mean error over budgets. Then: accordion train --order ORDER.json --initial RUN.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="what accordion train wrote")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="ORDER.json", help="where to write the order")
    parser.add_argument(
        "--objective",
        default="bytes",
        help="what budgets count: bytes (the default), macs, latency, or a weighting such as 2:bytes,1:macs",
    )
    parser.add_argument(
        "--scale",
        default="log",
        help="budgets spread evenly over the logarithm of the cost (log, the default) or the cost (linear)",
    )
    parser.add_argument("--steps", type=options.count, metavar="K", help="at most K configurations (as many as pay)")
    parser.add_argument("--name", help="the order's name (learned-OBJECTIVE)")
    parser.add_argument("--samples", type=options.count, metavar="N", help="measure on N validation pictures (all)")
    parser.add_argument("--every", type=options.count, default=1, metavar="N", help="measure every Nth count of blocks only (1)")
    parser.add_argument(
        "--norm-pictures",
        type=options.index,
        default=2000,
        metavar="N",
        help="for batch-norm statistics of each configuration (2000)",
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="draw all configurations and the orders; .png and .svg are written"
    )
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Measures, chooses, writes, and compares with the two orders of the paper."""
    from accordion.artifact.atomic import write_file
    from accordion.cli.console import document as as_text
    from accordion.errors import UsageError

    with extra("train"):
        from accordion.elastic import OrderTable
        from accordion.pictures import draw_orders
        from accordion.profiling import best_path, measure_lattice, parse_objective, value_of

    weights = parse_objective(arguments.objective)
    for path in (arguments.out, arguments.picture):
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"there is no directory {path.parent} to write in")
    lattice = measure_lattice(
        arguments.run,
        samples=arguments.samples,
        every=arguments.every,
        norm_pictures=arguments.norm_pictures,
        latency="latency" in weights,
        progress=context.console.progress,
    )
    best = best_path(lattice, weights, steps=arguments.steps, scale=arguments.scale)
    name = arguments.name or f"learned-{'-'.join(weights)}"
    table = OrderTable(name, tuple(lattice.configurations[row] for row in best.rows))
    others = {
        kind: value_of(lattice, rows, weights, scale=arguments.scale)
        for kind, rows in _fixed(lattice.configurations[0], lattice.configurations[-1]).items()
    }
    document = {
        **table.to_json(),
        "objective": weights,
        "scale": arguments.scale,
        "mean_error_over_budgets": best.value,
        "of_other_orders": {kind: path.value for kind, path in others.items()},
        "measured": {"configurations": len(lattice.configurations), "validation_pictures": lattice.samples},
        "validation_errors": [lattice.errors[row] for row in best.rows],
    }
    write_file(arguments.out, as_text(document).encode() + b"\n")
    lines = [
        f"{name}: {len(table.configurations)} of {len(lattice.configurations)} measured configurations",
        *_table(lattice.configurations, lattice.errors, lattice.costs, best.rows),
        f"mean error over budgets of {arguments.objective} ({arguments.scale}): {best.value:.2%}",
        *(f"  {kind}: {path.value:.2%}" for kind, path in others.items()),
    ]
    if arguments.picture is not None:
        paths = {name: best.rows, **{kind: path.rows for kind, path in others.items()}}
        drawn = draw_orders(lattice.errors, lattice.costs, paths, arguments.picture, samples=lattice.samples)
        lines += [f"drew {path}" for path in drawn]
    lines.append(f"next: accordion train --order {arguments.out} --initial {arguments.run} -o RUN")
    context.console.result(document, lines)
    return 0


def _fixed(least: tuple[int, ...], most: tuple[int, ...]) -> dict[str, list[tuple[int, ...]]]:
    """The paper's two orders, from the smallest measured configuration up."""
    right_to_left = [least]
    for stage, high in enumerate(most):
        for n in range(least[stage] + 1, high + 1):
            right_to_left.append(tuple(n if s == stage else count for s, count in enumerate(right_to_left[-1])))
    even = range(1, max(most) + 1)
    blockwise = [tuple(max(low, min(n, high)) for low, high in zip(least, most, strict=True)) for n in even]
    return {"right-to-left": right_to_left, "blockwise": list(dict.fromkeys(blockwise))}


def _table(
    configurations: tuple[tuple[int, ...], ...],
    errors: tuple[float, ...],
    costs: Mapping[str, tuple[float, ...]],
    rows: tuple[int, ...],
) -> list[str]:
    head = "  ".join(f"{name:>12}" for name in costs)
    found = [f"{'blocks':>14}  {'error':>7}  {head}"]
    for row in rows:
        blocks = "+".join(map(str, configurations[row]))
        values = "  ".join(f"{cost[row]:12.4g}" for cost in costs.values())
        found.append(f"{blocks:>14}  {errors[row]:7.2%}  {values}")
    return found
