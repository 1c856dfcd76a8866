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

DRAWS = {"stratified": 2, "sandwich": 1}
"""How many configurations a step draws where the recipe doesn't say. With two, in-place distillation has two pupils, as in Yu and
Huang, who draw two in a sandwich as well; the sandwich's one is what a third configuration a step costs at least."""


def configurations(recipe: Recipe, policy: Policy, rng: np.random.Generator) -> dict[int, float]:
    """Which configurations a step runs, and with what weight each one's loss counts. The weights sum to one.

    - `sampled`, the paper's rule: one configuration, drawn from the policy. Only its blocks run and are updated.
    - `joint`: every configuration that the policy can draw, weighted by its probability. It is the same objective as `sampled`,
      Σ p(k)·L(k), without the noise of the draw. In the right-to-left order all configurations share the complete network's
      forward and backward pass but for their heads, so a step costs about one step of the complete network (`sampled` costs the
      policy's mean); in other orders it costs more.
    - `stratified`: the complete network in every step, weighted by its probability, and `draws` others drawn from the policy, which
      share the rest. Its expectation is again Σ p(k)·L(k); a step costs the complete network and little more in the
      right-to-left order, where the others are prefixes of its pass.
    - `sandwich`: the largest, the smallest and `draws` drawn from the policy, each counting the same (Yu and Huang, Universally
      Slimmable Networks, 2019).
    """
    draws = recipe.draws or DRAWS.get(recipe.objective, 1)
    if recipe.objective == "sampled":
        return {policy.draw(rng): 1.0}
    if recipe.objective == "joint":
        return {k: p for k, p in enumerate(policy.probabilities) if p > 0}
    weights: dict[int, float] = {}
    if recipe.objective == "stratified":
        complete, others = len(policy) - 1, np.asarray(policy.probabilities[:-1])
        weights[complete] = policy.probabilities[complete]
        if rest := float(others.sum()):
            for k in rng.choice(complete, size=draws, p=others / rest):
                weights[int(k)] = weights.get(int(k), 0.0) + rest / draws
        return weights
    for k in (0, len(policy) - 1, *(policy.draw(rng) for _ in range(draws))):
        weights[k] = weights.get(k, 0.0) + 1 / (2 + draws)
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
    they are (softened too with the recipe's `smooth_all`) and, by the recipe's `distill` share, from the complete network's
    detached output of the same step (in-place distillation, Yu and Huang, 2019).
    """
    complete = len(network) - 1
    teacher = F.softmax(outputs[complete].detach().float(), dim=1) if complete in outputs and recipe.distill else None
    total = torch.zeros((), device=y.device)
    for k, weight in balanced(network, weights, recipe).items():
        logits = outputs[k].float()
        smoothing = recipe.label_smoothing if k == complete or recipe.smooth_all else 0.0
        part = F.cross_entropy(logits, y, label_smoothing=smoothing)
        if k != complete and teacher is not None:
            # Soft-target cross-entropy has the gradient of the Kullback-Leibler divergence: they differ by the teacher's entropy.
            part = (1 - recipe.distill) * part + recipe.distill * F.cross_entropy(logits, teacher)
        total = total + weight * part
    return total
