"""The plain network as it comes from training: what every method begins with or is measured against."""

from __future__ import annotations

from experiments.comparisons.bases import plain
from experiments.comparisons.context import Context, Made, Method
from experiments.comparisons.files import FLOAT32
from experiments.comparisons.methods.common import encodings_of

__all__ = ["METHOD"]


def execute(context: Context) -> Made:
    base = plain(context)
    rows = encodings_of(context, base.module, family="plain", label=context.comparison.network, codecs=(FLOAT32,))
    return Made(base.training, tuple(rows))


METHOD = Method(
    "plain",
    "plain network, float32",
    "He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, 2015 (CVPR 2016, arXiv 1512.03385)",
    "stages are joined by average pooling and zero-padded channels, as in Ayed et al.",
    "",
    "there is nothing more",
    execute,
)
