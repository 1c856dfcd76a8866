"""A student first, then parts of its teacher in place of its own, until the whole teacher is there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accordion.elastic import CifarResNet
from accordion.profiling import count_macs, count_parameters
from experiments.comparisons.bases import plain, plain_run
from experiments.comparisons.context import Context, Made, Method
from experiments.comparisons.files import FLOAT32, Piece, encoded, folded, ship, without_unused
from experiments.comparisons.fit import Moment, Task, at_full_size, fit
from experiments.comparisons.methods.common import (
    ROUNDING,
    better_rounding,
    channels,
    example,
    folder_of,
    fresh,
    measured,
    moments_of,
)
from experiments.comparisons.outcome import Row

__all__ = ["METHOD", "StudentFirst", "units"]

TEMPERATURE, HARD, CROSS = 2.0, 0.4, 2.0
"""As in the newest of the authors' published code (5yearsKim/ProgressiveWeightLoading): softening, the share of the labels, the
weight of mixed networks."""

RATES = (("student", 1e-3), ("to_", 1e-3))
"""Of Adam: distances of features are too steep for the recipe's own rate."""

NEEDS = "a new session with each part"
Mix = tuple[bool, ...]
"""For each part, from the input on: whether it is the teacher's."""

WAYS: dict[str, tuple[Mix, ...]] = {
    "from the input": ((False, False, False), (True, False, False), (True, True, False), (True, True, True)),
    "from the output": ((False, False, False), (False, False, True), (False, True, True), (True, True, True)),
}
MIXED = [mix for mix in product((False, True), repeat=3) if len(set(mix)) > 1]


def units(network: CifarResNet) -> list[nn.Sequential]:
    """A network in three parts, one for each stage."""
    return [
        nn.Sequential(network.normalise, network.stem, network.stage1),
        nn.Sequential(network.join1, network.stage2),
        nn.Sequential(network.join2, network.stage3, network.head),
    ]


class StudentFirst(nn.Module):
    """A student and what turns its features into the teacher's and back, between the parts. The teacher is not among the modules:
    it does not learn."""

    def __init__(self, student: CifarResNet, teacher: CifarResNet) -> None:
        super().__init__()
        self.student = student
        self._teacher = [teacher.eval().requires_grad_(False)]
        narrow, wide = (channels(network)[1] for network in (student, teacher))
        self.to_student = nn.ModuleList(_turned(wide << n, narrow << n) for n in range(2))
        self.to_teacher = nn.ModuleList(_turned(narrow << n, wide << n) for n in range(2))

    def teacher(self) -> CifarResNet:
        """Where the student is."""
        return self._teacher[0].to(next(self.student.parameters()).device)

    def steps(self, mix: Mix) -> list[nn.Module]:
        """The parts of a mixed network with what is needed between them."""
        parts = (units(self.student), units(self.teacher()))
        found: list[nn.Module] = []
        for number, of_teacher in enumerate(mix):
            if number and of_teacher != mix[number - 1]:
                found.append((self.to_teacher if of_teacher else self.to_student)[number - 1])
            found.append(parts[of_teacher][number])
        return found

    def loss(self, x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        """Labels and the teacher's answers for the student, its features beside the teacher's both ways and there and back, and the
        teacher's answers for a network mixed at random."""
        features, pupil = _features(units(self.student), x)
        with torch.no_grad():
            wanted, answer = _features(units(self.teacher()), x)
        total = HARD * F.cross_entropy(pupil.float(), y) + (1 - HARD) * _soft(pupil, answer)
        for own, other, down, up in zip(features, wanted, self.to_student, self.to_teacher, strict=True):
            below, above = down(other), up(own)
            near = _distance(own, below) + _distance(other, above)
            back = _distance(other, up(below)) + _distance(own, down(above))
            total = total + (near + back) / len(features)
        mixed: Tensor = nn.Sequential(*self.steps(MIXED[int(moment.rng.integers(len(MIXED)))]))(x)
        return total + CROSS * _soft(mixed, answer)


def _turned(channels_in: int, channels_out: int) -> nn.Module:
    """From one network's features to the other's; where they have equally many channels, nothing, as in the authors' code."""
    return nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)


def _features(parts: Sequence[nn.Module], x: Tensor) -> tuple[list[Tensor], Tensor]:
    found = []
    for part in parts:
        x = part(x)
        found.append(x)
    return found[:-1], found[-1]


def _soft(logits: Tensor, teacher: Tensor) -> Tensor:
    soft = F.softmax(teacher.float() / TEMPERATURE, 1)
    return TEMPERATURE**2 * F.kl_div(F.log_softmax(logits.float() / TEMPERATURE, 1), soft, reduction="batchmean")


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared error, and how far the directions are apart."""
    a, b = a.float(), b.float()
    return F.mse_loss(a, b) + (1 - F.cosine_similarity(a.flatten(1), b.flatten(1))).mean()


def execute(context: Context) -> Made:
    base = plain(context)
    student = fresh(plain_run(context.comparison, context.comparison.variant).config(), context)
    assert isinstance(student, CifarResNet)
    torch.manual_seed(context.comparison.seed)
    network = StudentFirst(student, base.module)
    steps = at_full_size(context.comparison.steps)  # features are compared, so both see the same pictures
    own = fit(Task(network, network.loss, adam=RATES, beside=(network.teacher(),)), steps, context)
    found = {way: _rows(context, network.eval(), way, FLOAT32) for way in WAYS}
    way = min(found, key=lambda one: sum(row.validation.wrong for row in found[one]))
    small = {rounding: _rows(context, network, way, "int4", rounding) for rounding in ("nearest", "compensated")}
    rounding = better_rounding(small)
    rows = [*found[way], *_rows(context, network, way, "int8"), *small[rounding]]
    return Made(
        base.under(own), tuple(rows), {"where replacement begins, chosen on the validation split": way, ROUNDING: rounding}, steps
    )


class _All(nn.Module):
    """The answers of all mixtures of one way, as a tuple."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.mixtures = nn.ModuleList(modules)

    def forward(self, x_bchw: Tensor) -> tuple[Tensor, ...]:
        return tuple(one(x_bchw) for one in self.mixtures)


def _rows(context: Context, network: StudentFirst, way: str, codec: str, rounding: str = "nearest") -> list[Row]:
    """The student, then one part more of the teacher each time; and the teacher for a device that wants it at once."""
    modules = [nn.Sequential(*network.steps(mix)).eval() for mix in WAYS[way]]
    x = example(context)
    folder = folder_of(context, f"{way}-{codec}-{rounding}")
    pieces = [Piece(module, x) for module in modules]
    made, known = moments_of(context, pieces, _All(modules)) if rounding == "compensated" else (folded(pieces), None)
    shipped = ship(encoded(made, codec, hessians=known), folder)
    labels = [f"{number} of {len(modules) - 1} parts are the teacher's" for number in range(len(modules))]
    forms = list(zip(labels, modules, shipped, strict=True))
    forms.append(("the teacher at once", modules[-1], without_unused(shipped[-1], folder)))
    return [
        measured(
            context,
            one,
            family=f"student first, {codec}",
            label=label,
            parameters=count_parameters(module),
            macs=count_macs(module, x[:1]),
            needs=NEEDS,
        )
        for label, module, one in forms
    ]


METHOD = Method(
    "student-first",
    "student first, replaced by its teacher",
    "Kim, Lee, Choi, Lee, Cho: Progressive Weight Loading: Accelerating Initial Inference and Gradually Boosting Performance on "
    "Resource-Constrained Environments, 2025 (arXiv 2509.22319)",
    "three parts, one for each stage; mixed networks are drawn uniformly; Adam without weight decay in place of SGD with it, one "
    "rate for the student and what joins it to its teacher; the teacher was trained with the recipe's label smoothing; pictures of "
    "full size alone, in as many epochs as cost the same; the end at which replacement begins is chosen on the validation split; "
    "what several mixtures share is compensated in int4 for one of them. `distilled` with the same student is what says how much "
    "of its error is the optimiser's",
    NEEDS,
    "what of the student has not been replaced",
    execute,
    version=2,  # int4 compensated, where that is better
)
