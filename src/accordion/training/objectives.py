"""What one training step minimises."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from accordion.elastic import ElasticNetwork
from accordion.training.policies import Policy
from accordion.training.recipes import Recipe

__all__ = ["balanced", "configurations", "loss"]

DRAWS = 2  # smaller configurations in a `stratified` step: in-place distillation then has two pupils, as in Yu and Huang


def configurations(recipe: Recipe, policy: Policy, rng: np.random.Generator) -> dict[int, float]:
    """Which configurations a step runs, and with what weight each one's loss counts. The weights sum to one.

    - `sampled`, the paper's rule: one configuration, drawn from the policy. Only its blocks run and are updated.
    - `joint`: every configuration that the policy can draw, weighted by its probability. It is the same objective as `sampled`,
      Σ p(k)·L(k), without the noise of the draw. In the right-to-left order all configurations share the complete network's
      forward and backward pass but for their heads, so a step costs about one step of the complete network (`sampled` costs the
      policy's mean); in other orders it costs more.
    - `stratified`: the complete network in every step, weighted by its probability, and `DRAWS` others drawn from the policy, which
      share the rest. Its expectation is again Σ p(k)·L(k); a step costs the complete network and little more in the
      right-to-left order, where the others are prefixes of its pass.
    - `sandwich`: the largest, the smallest and one drawn from the policy, a third each (Yu and Huang, Universally Slimmable
      Networks, 2019, with one random configuration instead of two).
    """
    if recipe.objective == "sampled":
        return {policy.draw(rng): 1.0}
    if recipe.objective == "joint":
        return {k: p for k, p in enumerate(policy.probabilities) if p > 0}
    weights: dict[int, float] = {}
    if recipe.objective == "stratified":
        complete, others = len(policy) - 1, np.asarray(policy.probabilities[:-1])
        weights[complete] = policy.probabilities[complete]
        if rest := float(others.sum()):
            for k in rng.choice(complete, size=DRAWS, p=others / rest):
                weights[int(k)] = weights.get(int(k), 0.0) + rest / DRAWS
        return weights
    for k in (0, len(policy) - 1, policy.draw(rng)):
        weights[k] = weights.get(k, 0.0) + 1 / 3
    return weights


def balanced(network: ElasticNetwork, weights: dict[int, float], recipe: Recipe) -> dict[int, float]:
    """The weights of a step after the recipe's `balance`; their sum stays."""
    if not recipe.balance or len(weights) == 1:
        return weights
    most = sum(network.order.by_stage(len(network) - 1))
    scaled = {k: weight * (sum(network.order.by_stage(k)) / most) ** recipe.balance for k, weight in weights.items()}
    factor = sum(weights.values()) / sum(scaled.values())
    return {k: weight * factor for k, weight in scaled.items()}


def loss(network: ElasticNetwork, outputs: dict[int, Tensor], y: Tensor, weights: dict[int, float], recipe: Recipe) -> Tensor:
    """The weighted loss of a step. `outputs`: configuration → logits [b, classes]; `y`: labels [b].

    The complete network learns from the labels, softened by label smoothing. A smaller configuration learns from the labels as
    they are and, by the recipe's `distill` share, from the complete network's detached output of the same step (in-place
    distillation, Yu and Huang, 2019).
    """
    complete = len(network) - 1
    teacher = F.softmax(outputs[complete].detach().float(), dim=1) if complete in outputs and recipe.distill else None
    total = torch.zeros((), device=y.device)
    for k, weight in balanced(network, weights, recipe).items():
        logits = outputs[k].float()
        if k == complete:
            part = F.cross_entropy(logits, y, label_smoothing=recipe.label_smoothing)
        elif teacher is None:
            part = F.cross_entropy(logits, y)
        else:
            # Soft-target cross-entropy has the gradient of the Kullback-Leibler divergence: they differ by the teacher's entropy.
            part = (1 - recipe.distill) * F.cross_entropy(logits, y) + recipe.distill * F.cross_entropy(logits, teacher)
        total = total + weight * part
    return total
