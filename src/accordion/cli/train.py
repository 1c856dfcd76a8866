"""`accordion train`: an elastic network (Step 0) → a run directory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accordion.cli import options
from accordion.cli.console import Context
from accordion.cli.extras import extra

if TYPE_CHECKING:
    from accordion.training import Recipe

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "train",
        help="train an elastic network → a run directory",
        description="Trains an elastic network. The same command goes on with a training that was stopped or killed.",
    )
    group = parser.add_argument_group("what is trained")
    group.add_argument("-o", "--out", type=Path, metavar="RUN", help="run directory (runs/NETWORK-DATASET)")
    group.add_argument(
        "--dataset", default="cifar10", help="cifar10, cifar100, digits, or pictures of your own: FILE.npz (cifar10)"
    )
    group.add_argument(
        "--network", default="resnet56", help="resnet<6n+2>: resnet20, …, or resnet<n1>-<n2>-<n3>, blocks by stage (resnet56)"
    )
    group.add_argument("--width", type=options.count, default=16, help="channels of the first stage (16)")
    group.add_argument(
        "--heads",
        default="shared",
        help="stage: configurations that end in an earlier stage get a head of their own; configuration: each does (shared)",
    )
    group.add_argument(
        "--initial", metavar="RUN|PACKAGE[:TAG]", help="begin with the weights of this finished run or of this package"
    )
    group.add_argument("--seed", type=options.index, default=0, help="of everything random (0)")

    group = parser.add_argument_group("which configurations")
    group.add_argument(
        "--order",
        default="right-to-left",
        metavar="ORDER",
        help="right-to-left (CoML; the default), blockwise (BlockCoML), a JSON file (as accordion order writes it), or grid or "
        "grid:N1,N2,N3: all configurations from N1,N2,N3 blocks up, only to find an order with",
    )
    group.add_argument(
        "--policy",
        default="CoML-05",
        help="uniform, full, CoML-05, CoML-03, BlockCoML-05, BlockCoML-03, a JSON file (see accordion policy) or guarantee:FILE "
        "(CoML-05)",
    )
    group.add_argument("--objective", help="sampled, joint, stratified or sandwich: which of them each step runs")
    group.add_argument(
        "--draws", type=options.count, metavar="N", help="configurations drawn at random in a stratified or sandwich step"
    )
    group.add_argument(
        "--balance", type=options.number, help="weigh each by its share of the blocks to this power; no use with sampled (0)"
    )
    group.add_argument(
        "--distill", type=options.number, metavar="SHARE", help="of a smaller one's loss, from the complete network's output"
    )

    group = parser.add_argument_group("how it is trained", "Left out, each is the recipe's.")
    group.add_argument("--recipe", default="modern", help="modern (short; the default), paper (164 epochs) or a JSON file")
    group.add_argument("--epochs", type=options.count)
    group.add_argument("--batch", type=options.count, help="pictures a step")
    group.add_argument("--learning-rate", type=options.number)
    group.add_argument("--schedule", help="steps, one-cycle or cosine")
    group.add_argument("--warm-up", type=options.fraction, metavar="SHARE", help="of the training in which the rate rises")
    group.add_argument("--weight-decay", type=options.number)
    group.add_argument("--label-smoothing", type=options.number, metavar="SHARE", help="for the complete network")
    group.add_argument("--smooth-all", action=argparse.BooleanOptionalAction, help="soften the labels of all configurations")
    group.add_argument("--zero-init", action=argparse.BooleanOptionalAction, help="let every block begin as the identity")
    group.add_argument(
        "--sizes",
        metavar="SHARE:SCALE,…",
        help="picture size by share of the training, such as 0.4:0.75,1:1 (smaller ones cost less)",
    )
    group.add_argument("--full-size", action="store_true", help="the same as --sizes 1:1: slower, better")

    group = parser.add_argument_group("which weights are kept")
    group.add_argument(
        "--average", type=options.number, metavar="DECAY", help="an average over the steps, such as 0.999 (0: the last ones)"
    )
    group.add_argument(
        "--norms",
        metavar="WHOSE",
        help="batch-norm statistics: running (those of the training), shared (measured again at the end), per-configuration, or "
        "a number of groups of configurations",
    )
    group.add_argument("--norm-pictures", type=options.count, metavar="N", help="training pictures to measure them on")

    group = parser.add_argument_group("where and how long")
    group.add_argument("--precision", default="32-true", help="Lightning Fabric's: 32-true, bf16-mixed, … (32-true)")
    group.add_argument("--accelerator", default="auto", help="Lightning Fabric's: cpu, cuda, … (auto)")
    group.add_argument("--devices", type=options.count, default=1, metavar="N", help="processes that share each batch (1)")
    group.add_argument(
        "--compile",
        nargs="?",
        const="inductor",
        default="off",
        metavar="BACKEND",
        help="compile the step of each configuration (off)",
    )
    group.add_argument(
        "--max-time", type=options.seconds, metavar="TIME", help="stop with a checkpoint after this time, such as 2h"
    )
    return parser


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Trains, and says how well the configurations do on the validation split."""
    with extra("train"):
        from accordion.data import name_of, pinned
        from accordion.elastic import OrderTable
        from accordion.training import TrainingConfig, train
        from accordion.training.report import report_table

    config = TrainingConfig(
        dataset=pinned(arguments.dataset),
        network=arguments.network,
        width=arguments.width,
        order=OrderTable.from_file(Path(arguments.order)) if arguments.order.endswith(".json") else arguments.order,
        policy=arguments.policy,
        recipe=_recipe(arguments),
        seed=arguments.seed,
        precision=arguments.precision,
        heads=arguments.heads,
        initial=arguments.initial,
        devices=arguments.devices,
        compile=arguments.compile,
    )
    run = arguments.out or Path("runs") / f"{arguments.network}-{name_of(arguments.dataset)}"
    found = train(config, run, accelerator=arguments.accelerator, progress=context.console.progress, max_seconds=arguments.max_time)
    document = {"run": str(run), "validation_errors": list(found.errors), "seconds": found.seconds}
    if found.report is not None:
        document["report"] = found.report
    next_command = f"accordion order {run} -o ORDER.json" if config.explores else f"accordion profile {run}"
    lines = [
        f"trained {found.trained} configurations in {run}",
        f"validation error: smallest {found.errors[0]:.2%}, complete {found.errors[-1]:.2%}",
        *([] if found.report is None else report_table(found.report)),
        f"next: {next_command}",
    ]
    context.console.result(document, lines)
    return 0


def _recipe(arguments: argparse.Namespace) -> Recipe:
    from accordion.errors import UsageError
    from accordion.training import RECIPES, Recipe

    if arguments.recipe.endswith(".json"):
        recipe = Recipe.from_file(Path(arguments.recipe))
    elif arguments.recipe in RECIPES:
        recipe = RECIPES[arguments.recipe]
    else:
        raise UsageError(f"unknown recipe {arguments.recipe!r}: choose {', '.join(RECIPES)} or a JSON file")
    if arguments.full_size or arguments.sizes:
        recipe = recipe.with_changes(sizes=_sizes("1:1" if arguments.full_size else arguments.sizes))
    return recipe.with_changes(
        epochs=arguments.epochs,
        batch=arguments.batch,
        learning_rate=arguments.learning_rate,
        schedule=arguments.schedule,
        warm_up=arguments.warm_up,
        weight_decay=arguments.weight_decay,
        label_smoothing=arguments.label_smoothing,
        smooth_all=arguments.smooth_all,
        zero_init_last_norm=arguments.zero_init,
        # A guarantee adapts by what one drawn configuration tells.
        objective=arguments.objective or ("sampled" if arguments.policy.startswith("guarantee:") else None),
        draws=arguments.draws,
        balance=arguments.balance,
        distill=arguments.distill,
        average=arguments.average,
        norms="configuration" if arguments.norms == "per-configuration" else arguments.norms,
        norm_pictures=arguments.norm_pictures,
    )


def _sizes(text: str) -> tuple[tuple[float, float], ...]:
    from accordion.errors import UsageError

    try:
        return tuple((float(share), float(scale)) for share, scale in (pair.split(":") for pair in text.split(",")))
    except ValueError:
        raise UsageError(f"--sizes {text} is not a list of SHARE:SCALE, such as 0.4:0.75,1:1") from None
