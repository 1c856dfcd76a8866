"""What a training is asked to do, and the network that follows from it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accordion.data import Dataset
from accordion.elastic import CifarResNet, ElasticNetwork, by_name
from accordion.errors import FormatError, UsageError
from accordion.training import policies
from accordion.training.finishing import Finishing
from accordion.training.policies import Policy
from accordion.training.recipes import MODERN, Recipe

__all__ = ["TrainingConfig", "build_network"]


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Everything that the trained weights depend on.

    `network` is `resnet<depth>` (depth 6n+2); `width` the channels of its first stage (16 in the paper); `order` is
    `right-to-left` or `blockwise`; `policy` a name from `policies.POLICY_NAMES` or explicit probabilities.
    `heads` is `shared`, or `stage`: configurations that end in an earlier stage get a linear layer of their own. `initial` is a
    finished run whose weights the training begins with, `finishing` what they are made fit for.
    """

    dataset: str = "cifar10"
    network: str = "resnet56"
    width: int = 16
    order: str = "right-to-left"
    policy: str | Policy = "CoML-05"
    recipe: Recipe = field(default=MODERN)
    seed: int = 0
    precision: str = "32-true"
    heads: str = "shared"
    initial: str | None = None
    finishing: Finishing | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values, as `from_json` reads them."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrainingConfig:
        """FormatError if `data` is not what `to_json` writes."""
        try:
            fields = dict(data)
            recipe = dict(fields.pop("recipe"))
            recipe["milestones"] = tuple(recipe["milestones"])
            recipe["sizes"] = tuple((float(until), float(scale)) for until, scale in recipe["sizes"])
            policy = fields.pop("policy")
            if isinstance(policy, dict):
                policy = Policy(policy["name"], tuple(policy["probabilities"]))
            if fields.get("finishing"):
                finishing = dict(fields["finishing"])
                fields["finishing"] = Finishing(**{**finishing, "quantize": tuple(finishing["quantize"])})
            return cls(**fields, recipe=Recipe(**recipe), policy=policy)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"these are not the settings of a training: {error}") from error

    def policy_for(self, k: int) -> Policy:
        """The policy over `k` configurations."""
        if isinstance(self.policy, Policy):
            if len(self.policy) != k:
                raise UsageError(f"policy {self.policy.name!r} is for {len(self.policy)} configurations, the network has {k}")
            return self.policy
        if self.policy.endswith(".json"):
            return policies.from_file(Path(self.policy), k)
        return policies.named(self.policy, k)


def build_network(config: TrainingConfig, dataset: Dataset) -> ElasticNetwork:
    """The untrained network that `config` names, for the pictures of `dataset`."""
    match = re.fullmatch(r"resnet(\d{1,4})", config.network)
    if not match:
        raise UsageError(f"unknown network {config.network!r}: choose resnet<depth>, such as resnet20, resnet56 or resnet110")
    if config.width < 1:
        raise UsageError(f"the width of the first stage is {config.width}, not at least 1")
    if config.heads not in ("shared", "stage"):
        raise UsageError(f"heads can be shared or stage, not {config.heads!r}")
    module = CifarResNet(
        int(match[1]),
        len(dataset.classes),
        widths=(config.width, 2 * config.width, 4 * config.width),
        in_channels=dataset.train.x.shape[1],
        mean=dataset.mean,
        std=dataset.std,
        zero_init_last_norm=config.recipe.zero_init_last_norm,
        stage_heads=config.heads == "stage",
    )
    order = by_name(config.order, module.stages)
    return ElasticNetwork(module, order, swaps=module.swaps(order), alternates=module.alternates)
