"""Smaller networks, each trained alone by the same recipe: one has to be chosen before the download."""

from __future__ import annotations

from experiments.comparisons.bases import plain
from experiments.comparisons.context import Context, Made, Method
from experiments.comparisons.methods.common import forms_of

__all__ = ["METHOD"]


def execute(context: Context) -> Made:
    shape = context.comparison.variant
    base = plain(context, shape)
    rows, chosen = forms_of(context, base.module, family="smaller networks alone", label=shape)
    return Made(base.training, tuple(rows), chosen)


METHOD = Method(
    "alone",
    "smaller networks, each trained alone",
    "He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, 2015 (CVPR 2016, arXiv 1512.03385)",
    "as the plain network; `/2` has half of its channels",
    "",
    "nothing",
    execute,
    version=2,  # int4 too
)
