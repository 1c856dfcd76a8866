"""What methods share: real inputs, and from a plain module to measured rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accordion.elastic import CifarResNet
from accordion.packaging.calibrate import calibration_pictures, hessians
from accordion.profiling import count_macs, count_parameters
from accordion.training import TrainingConfig, build_network
from experiments.comparisons.context import Context
from experiments.comparisons.files import FLOAT32, Folded, Piece, Shipped, count, encoded, folded, run, ship_one
from experiments.comparisons.outcome import Row

__all__ = [
    "ROUNDING",
    "better_rounding",
    "channels",
    "encodings_of",
    "example",
    "forms_of",
    "fresh",
    "int4_of",
    "measured",
    "moments_of",
    "share_of",
]

ROUNDING = "rounding of int4, chosen on the validation split"


def example(context: Context) -> Tensor:
    """Two real pictures [2, c, h, w] in 0..1: what is exported is traced with them."""
    return torch.from_numpy(context.dataset.train.x[:2]).float() / 255


def fresh(config: TrainingConfig, context: Context) -> nn.Module:
    """The untrained network that `config` names; the same for the same seed."""
    torch.manual_seed(config.seed)
    return build_network(config, context.dataset).module


def measured(context: Context, shipped: Shipped, *, family: str, label: str, parameters: int, macs: float, needs: str = "") -> Row:
    """A row for files that end in one graph from pictures to logits."""
    _, validation = context.splits
    test = context.dataset.test
    row = Row(
        family=family,
        label=label,
        files=shipped.files,
        parameters=parameters,
        macs=macs,
        test=count(run(shipped, test), test),
        validation=count(run(shipped, validation), validation),
        needs=needs,
    )
    context.progress(f"{family}, {label}: {row.bytes:,} bytes, test error {row.test.error:.2%}")
    return row


def encodings_of(
    context: Context, module: nn.Module, *, family: str, label: str, codecs: Sequence[str] = (FLOAT32, "int8"), needs: str = ""
) -> list[Row]:
    """One row for each codec of the same network."""
    made = folded([Piece(module, example(context))])
    macs, parameters = count_macs(module, example(context)[:1]), count_parameters(module)
    return [
        measured(
            context,
            ship_one(encoded(made, codec), folder_of(context, f"{label}-{codec}")),
            family=family,
            label=f"{label}, {codec}",
            parameters=parameters,
            macs=macs,
            needs=needs,
        )
        for codec in codecs
    ]


def int4_of(
    context: Context, made: Folded, *, family: str, label: str, codec: str = "int4", parameters: int, macs: float, needs: str = ""
) -> tuple[str, Row]:
    """A row for weights of four bits, rounded to nearest or compensated as in GPTQ, whichever gets more validation pictures right;
    and which that was."""
    known = {"nearest": {}, "compensated": hessians(made.graphs[0], calibration_pictures(context.splits[0]))}
    rows = {
        rounding: measured(
            context,
            ship_one(encoded(made, codec, hessians=moments), folder_of(context, f"{label}-{codec}-{rounding}")),
            family=family,
            label=f"{label}, int4",
            parameters=parameters,
            macs=macs,
            needs=needs,
        )
        for rounding, moments in known.items()
    }
    best = min(rows, key=lambda rounding: rows[rounding].validation.wrong)
    return best, rows[best]


def moments_of(context: Context, pieces: Sequence[Piece], whole: nn.Module) -> tuple[Folded, Mapping[int, NDArray[np.float64]]]:
    """`pieces`, folded, with what GPTQ needs of the inputs of their weights on real pictures: `whole` [b, c, h, w] → a tuple of
    logits runs all that has such weights."""
    with torch.no_grad():
        count = len(whole(example(context)))
    joint = Piece(whole, example(context), tuple(f"logits{index}" for index in range(count)))
    made = folded([*pieces, joint])  # equal tensors of all graphs are one array, and so have the same moments
    return Folded(made.graphs[:-1], made.pool), hessians(made.graphs[-1], calibration_pictures(context.splits[0]))


def better_rounding(rows: Mapping[str, Sequence[Row]]) -> str:
    """Of the roundings of one method's rows, the one with fewer wrong answers on the validation split over all of them."""
    return min(rows, key=lambda rounding: sum(row.validation.wrong for row in rows[rounding]))


def forms_of(context: Context, module: nn.Module, *, family: str, label: str) -> tuple[list[Row], dict[str, str]]:
    """Rows for one network in float32, int8 and int4, and what was chosen on the way."""
    rows = encodings_of(context, module, family=family, label=label)
    made = folded([Piece(module, example(context))])
    facts = {"parameters": rows[0].parameters, "macs": rows[0].macs}
    rounding, small = int4_of(context, made, family=family, label=label, **facts)  # type: ignore[arg-type]
    return [*rows, small], {ROUNDING: rounding}


def folder_of(context: Context, label: str) -> Path:
    """Where the files of one form lie."""
    return context.folder / "files" / "".join(letter if letter.isalnum() else "-" for letter in label)


def channels(network: CifarResNet) -> tuple[int, int]:
    """Of the pictures, and of the first stage."""
    first = network.stem[0]
    assert isinstance(first, nn.Conv2d)
    return first.in_channels, first.out_channels


def share_of(text: str) -> float:
    """`75` → 0.75."""
    return int(text) / 100
