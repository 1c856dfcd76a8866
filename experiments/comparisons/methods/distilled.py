"""Distilled students: smaller networks that learn from the plain one's answers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from accordion.elastic import CifarResNet
from experiments.comparisons.bases import plain, plain_run
from experiments.comparisons.context import Context, Made, Method
from experiments.comparisons.fit import Moment, Task, fit
from experiments.comparisons.methods.common import forms_of, fresh

__all__ = ["METHOD", "distillation"]

TEMPERATURE = 4.0
SOFT = 0.9
"""The share of the loss that comes from the teacher."""


def distillation(student: Tensor, teacher: Tensor, y: Tensor) -> Tensor:
    """The loss of logits [b, classes] beside the teacher's and the labels [b]; the teacher's part is scaled as gradients need."""
    soft = F.kl_div(
        F.log_softmax(student.float() / TEMPERATURE, 1), F.softmax(teacher.float() / TEMPERATURE, 1), reduction="batchmean"
    )
    return SOFT * TEMPERATURE**2 * soft + (1 - SOFT) * F.cross_entropy(student.float(), y)


def execute(context: Context) -> Made:
    shape = context.comparison.variant
    base = plain(context)
    teacher = base.module
    student = fresh(plain_run(context.comparison, shape).config(), context)
    assert isinstance(student, CifarResNet)

    def loss(x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        with torch.no_grad():
            answer = teacher.to(x.device)(moment.whole)
        return distillation(student(x), answer, y)

    own = fit(Task(student, loss, beside=(teacher,)), context.comparison.steps, context)
    rows, chosen = forms_of(context, student, family="distilled students", label=shape)
    return Made(base.under(own), tuple(rows), chosen)


METHOD = Method(
    "distilled",
    "distilled students of three sizes",
    "Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015 (arXiv 1503.02531)",
    f"temperature {TEMPERATURE:g} and {SOFT:.0%} of the loss from the teacher, not tuned; the teacher sees every picture at full "
    "size, the student at the size that the recipe trains on; the teacher was trained with the recipe's label smoothing, which is "
    "known to make poorer teachers, and the labels' part of the student's loss has none",
    "",
    "nothing",
    execute,
)
