"""One optimizer step, and everything that a step changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from accordion.data import resize
from accordion.elastic import ElasticNetwork
from accordion.training.averaging import WeightAverage
from accordion.training.compiled import CompiledSteps
from accordion.training.config import TrainingConfig
from accordion.training.finishing import Finisher
from accordion.training.guarantee import Chooser
from accordion.training.objectives import balanced, configurations, loss
from accordion.training.parallel import Team
from accordion.training.policies import Policy
from accordion.training.recipes import Recipe, learning_rate, picture_size

__all__ = ["Stepper", "copied"]


class Stepper:
    """Weights, optimizer, weight average, chooser and finisher of one training, in one of its processes.

    Everything random in a step follows from the seed and the step's place, so the same steps after `restore` give the same weights.
    `side` is the edge of the pictures in pixels.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: TrainingConfig,
        network: ElasticNetwork,
        policy: Policy,
        *,
        steps_per_epoch: int,
        side: int,
        chooser: Chooser | None = None,
        finisher: Finisher | None = None,
    ) -> None:
        self.fabric, self.team = fabric, Team(fabric)
        self.config, self.recipe, self.policy = config, config.recipe, policy
        self.steps_per_epoch, self.side = steps_per_epoch, side
        self.chooser, self.finisher = chooser, finisher
        self.network: ElasticNetwork = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        stepping: torch.nn.Module = self.network
        if config.compile != "off":
            stepping = CompiledSteps(self.network, config.compile, cuda=fabric.device.type == "cuda")
        self.model, self.optimizer = fabric.setup(stepping, _optimizer(self.network, self.recipe))
        self.model.mark_forward_method("outputs")
        self.average = WeightAverage(self.network.module, self.recipe.average) if self.recipe.average else None

    def take(self, x: torch.Tensor, y: torch.Tensor, epoch: int, step: int) -> float:
        """Trains on the batch `x` (pictures, 3 or 1 channels), `y` (classes) as step `step` of epoch `epoch`; the loss of this
        process's part of it."""
        rng = np.random.default_rng([self.config.seed, epoch, step, 1])
        policy = self.policy if self.chooser is None else self.chooser.policy()
        weights = configurations(self.recipe, policy, rng)
        x = resize(self.team.part(x), picture_size(self.recipe, epoch, self.side))
        x = x.to(self.fabric.device).contiguous(memory_format=torch.channels_last)
        y = self.team.part(y).to(self.fabric.device)
        position = epoch * self.steps_per_epoch + step
        rate = learning_rate(self.recipe, position, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.finisher is not None:
            draws = np.random.default_rng([self.config.seed, epoch, step, 2])
            self.finisher.begin_step(position, self.recipe.epochs * self.steps_per_epoch, draws)
        outputs = self.model.outputs(x, weights)
        value = loss(self.network, outputs, y, weights, self.recipe)
        if self.finisher is not None:
            value = self.finisher.loss(x, outputs, balanced(self.network, weights, self.recipe), value)
        # None, not zero: the optimizer passes over what has no gradient, so momentum and decay leave skipped blocks alone.
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(value)
        self.team.average(self.network.module)
        self.optimizer.step()
        if self.finisher is not None:
            self.finisher.end_step()
        if self.average is not None:
            self.average.update(self.network.module, position)
        if self.chooser is not None:
            for k, logits in outputs.items():
                error, _ = self.team.agree(float((logits.detach().argmax(1) != y).float().mean()), False)
                self.chooser.observe(k, error, policy)
        return float(value.detach())

    def kept(self) -> ElasticNetwork:
        """The network that comes out: with averaged weights, if the recipe averages."""
        return self.network if self.average is None else self.network.over(self.average.module)

    def state(self) -> dict[str, Any]:
        """All that steps change, as a checkpoint holds it. Its tensors are the live ones: `copied` before the next step."""
        return {
            "module": self.network.module.state_dict(),
            **({} if self.average is None else {"average": self.average.module.state_dict()}),
            "optimizer": self.optimizer.state_dict(),
            **({} if self.chooser is None else {"chooser": self.chooser.state()}),
            **({} if self.finisher is None else {"finishing": self.finisher.state()}),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state` gave."""
        self.network.module.load_state_dict(state["module"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if not state["optimizer"]["state"]:  # of before the first step: loading nothing leaves what is there
            self.optimizer.optimizer.state.clear()
        if self.chooser is not None:
            self.chooser.restore(state["chooser"])
        if self.finisher is not None:
            self.finisher.restore(state["finishing"])


def copied(state: Any) -> Any:
    """`state` with tensors of its own."""
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, list):
        return [copied(value) for value in state]
    return state


def _optimizer(network: ElasticNetwork, recipe: Recipe) -> torch.optim.Optimizer:
    """Weight decay on weights, and on norms and biases only where the recipe says so."""
    decayed = [p for p in network.parameters() if p.ndim > 1 or recipe.decay_norms]
    others = [p for p in network.parameters() if not (p.ndim > 1 or recipe.decay_norms)]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}]
    if others:
        groups.append({"params": others, "weight_decay": 0.0})
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov)
