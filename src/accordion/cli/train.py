"""`accordion train`: an elastic network (Step 0) → a run directory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from accordion.cli import options
from accordion.cli.console import Context
from accordion.cli.extras import extra

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "train",
        help="train an elastic network → a run directory",
        description="Trains an elastic network. The same command goes on with a training that was stopped or killed.",
    )
    parser.add_argument("-o", "--out", type=Path, metavar="RUN", help="run directory (runs/NETWORK-DATASET)")
    parser.add_argument("--dataset", default="cifar10", help="cifar10, cifar100 or digits (cifar10)")
    parser.add_argument("--network", default="resnet56", help="resnet<6n+2>: resnet20, resnet56, resnet110, … (resnet56)")
    parser.add_argument("--width", type=options.count, default=16, help="channels of the first stage (16)")
    parser.add_argument("--order", default="right-to-left", help="right-to-left (CoML) or blockwise (BlockCoML)")
    parser.add_argument(
        "--policy",
        default="CoML-05",
        help="uniform, full, CoML-05, CoML-03, BlockCoML-05, BlockCoML-03, a JSON file (see accordion policy) or guarantee:FILE",
    )
    parser.add_argument("--recipe", default="modern", help="modern (short; the default) or paper (164 epochs)")
    parser.add_argument("--epochs", type=options.count, help="instead of the recipe's")
    parser.add_argument("--batch", type=options.count, help="pictures a step, instead of the recipe's")
    parser.add_argument("--learning-rate", type=options.number, help="instead of the recipe's")
    parser.add_argument("--objective", help="sampled, joint, stratified or sandwich, instead of the recipe's")
    parser.add_argument("--balance", type=options.number, help="how much less small configurations count than they occur (0)")
    parser.add_argument(
        "--sizes",
        metavar="SHARE:SCALE,…",
        help="picture size by share of the training, such as 0.4:0.75,1:1 (smaller pictures cost less), instead of the recipe's",
    )
    parser.add_argument("--full-size", action="store_true", help="the same as --sizes 1:1: slower, better")
    parser.add_argument(
        "--heads", default="shared", help="stage: configurations that end in an earlier stage get a head of their own"
    )
    parser.add_argument("--initial", metavar="RUN", help="begin with the weights of this finished run")
    parser.add_argument("--seed", type=options.index, default=0, help="of everything random (0)")
    parser.add_argument("--precision", default="32-true", help="Lightning Fabric's: 32-true, bf16-mixed, … (32-true)")
    parser.add_argument("--accelerator", default="auto", help="Lightning Fabric's: cpu, cuda, … (auto)")
    parser.add_argument(
        "--max-time", type=options.seconds, metavar="TIME", help="stop with a checkpoint after this time, such as 2h"
    )
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Trains, and says how well the configurations do on the validation split."""
    with extra("train"):
        from accordion.errors import UsageError
        from accordion.training import RECIPES, TrainingConfig, train
        from accordion.training.report import report_table

    if arguments.recipe not in RECIPES:
        raise UsageError(f"unknown recipe {arguments.recipe!r}: choose {' or '.join(RECIPES)}")
    recipe = RECIPES[arguments.recipe].with_changes(
        epochs=arguments.epochs,
        batch=arguments.batch,
        learning_rate=arguments.learning_rate,
        objective=arguments.objective or ("sampled" if arguments.policy.startswith("guarantee:") else None),
        balance=arguments.balance,
    )
    if arguments.full_size or arguments.sizes:
        recipe = recipe.with_changes(sizes=_sizes("1:1" if arguments.full_size else arguments.sizes))
    config = TrainingConfig(
        dataset=arguments.dataset,
        network=arguments.network,
        width=arguments.width,
        order=arguments.order,
        policy=arguments.policy,
        recipe=recipe,
        seed=arguments.seed,
        precision=arguments.precision,
        heads=arguments.heads,
        initial=arguments.initial,
    )
    run = arguments.out or Path("runs") / f"{arguments.network}-{arguments.dataset}"
    found = train(config, run, accelerator=arguments.accelerator, progress=context.console.progress, max_seconds=arguments.max_time)
    document = {"run": str(run), "validation_errors": list(found.errors), "seconds": found.seconds}
    if found.report is not None:
        document["report"] = found.report
    lines = [
        f"trained {len(found.errors)} configurations in {run}",
        f"validation error: smallest {found.errors[0]:.2%}, complete {found.errors[-1]:.2%}",
        *([] if found.report is None else report_table(found.report)),
        f"next: accordion profile {run}",
    ]
    context.console.result(document, lines)
    return 0


def _sizes(text: str) -> tuple[tuple[float, float], ...]:
    from accordion.errors import UsageError

    try:
        return tuple((float(share), float(scale)) for share, scale in (pair.split(":") for pair in text.split(",")))
    except ValueError:
        raise UsageError(f"--sizes {text} is not a list of SHARE:SCALE, such as 0.4:0.75,1:1") from None
