"""The plain network, trained as long again as pruned and factored ones are: what of their error is the further training's alone."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from experiments.comparisons.bases import plain
from experiments.comparisons.context import Context, Made, Method
from experiments.comparisons.fit import Moment, Task, fit, further
from experiments.comparisons.methods.common import forms_of

__all__ = ["METHOD"]


def execute(context: Context) -> Made:
    base, steps = plain(context), further(context.comparison.steps)
    module = base.module

    def loss(x: Tensor, y: Tensor, moment: Moment) -> Tensor:
        return F.cross_entropy(module(x).float(), y, label_smoothing=steps.label_smoothing)

    own = fit(Task(module, loss), steps, context)
    rows, chosen = forms_of(context, module, family="trained further", label=context.comparison.network)
    return Made(base.under(own), tuple(rows), chosen, steps)


METHOD = Method(
    "further",
    "plain network, trained further",
    "the control for the two above, from no paper",
    "as pruned and factored networks are trained on, but nothing is taken away",
    "",
    "nothing",
    execute,
)
