"""What a training is asked to do, and the network that follows from it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accordion.data import Dataset
from accordion.elastic import CifarResNet, ElasticNetwork, Order, OrderTable, by_name
from accordion.errors import FormatError, UsageError
from accordion.training import policies
from accordion.training.finishing import Finishing
from accordion.training.guarantee import PREFIX, Guarantee, from_guarantee_file
from accordion.training.policies import Policy
from accordion.training.recipes import MODERN, Recipe
from accordion.units import whole_number

__all__ = ["COMPILE", "HEADS", "INITIALISATION", "TrainingConfig", "build_network"]

COMPILE = ("off", "eager", "aot_eager", "inductor", "cudagraphs")
HEADS = ("shared", "stage", "configuration")

INITIALISATION = 2
"""How networks begin. In the first form, `zero_init_last_norm` left the channels that are new in the second and third stage without
a gradient for good: half and three quarters of them stayed zero."""

SEEDS = 2**63  # what PyTorch's generators take


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Everything that the trained weights depend on.

    `network` is `resnet<depth>` (depth 6n+2) or `resnet<n1>-<n2>-<n3>` (blocks by stage); `width` the channels of its first stage
    (16 in the paper); `order` is `right-to-left`, `blockwise`, an order given as data, or `grid` (see `accordion.elastic.grid`),
    which trains a network over all configurations to find an order with; `policy` a name from `policies.POLICY_NAMES`, a JSON
    file, explicit probabilities, or `guarantee:` and the file of one (see `accordion.training.guarantee`).
    `heads` is `shared`, `stage` (configurations that end in an earlier stage get a linear layer of their own) or `configuration`
    (each but the complete one gets its own). `initial` is a finished run or a package (PACKAGE or PACKAGE:TAG) whose weights the
    training begins with.

    `devices` are the processes that share each batch; batch norm sees each process's part of it, so the weights depend on their
    number. `compile` is "off" or the backend of `torch.compile` (see `accordion.training.compiled`). `finishing` says what the
    weights are made fit for (see `accordion.training.finishing`). `initialisation` tells trainings of earlier versions apart,
    which can be measured and packaged, but neither gone on with nor compared (see `INITIALISATION`).
    """

    dataset: str = "cifar10"
    network: str = "resnet56"
    width: int = 16
    order: str | OrderTable = "right-to-left"
    policy: str | Policy = "CoML-05"
    recipe: Recipe = field(default=MODERN)
    seed: int = 0
    precision: str = "32-true"
    heads: str = "shared"
    initial: str | None = None
    devices: int = 1
    compile: str = "off"
    finishing: Finishing | None = None
    initialisation: int = INITIALISATION

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", whole_number(self.seed, "a seed", least=0))
        if self.seed >= SEEDS:
            raise UsageError(f"a seed is a whole number from 0 to {SEEDS - 1}, not {self.seed}")
        object.__setattr__(self, "width", whole_number(self.width, "the width of the first stage", least=1))
        for what, value, kind in (("order", self.order, OrderTable), ("policy", self.policy, Policy)):
            if not isinstance(value, str | kind):
                raise UsageError(f"the {what} of a training is a name or one of class {kind.__name__}, not {type(value).__name__}")

    def to_json(self) -> dict[str, Any]:
        """JSON values, as `from_json` reads them."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrainingConfig:
        """From what this or an earlier version's `to_json` wrote (absent fields take their defaults). FormatError otherwise."""
        try:
            fields = dict(data)
            recipe = Recipe.from_json(fields.pop("recipe"))
            policy, order = fields.pop("policy"), fields.pop("order")
            if isinstance(policy, dict):
                policy = Policy(policy["name"], tuple(policy["probabilities"]))
            if isinstance(order, dict):
                order = OrderTable.from_json(order)
            if fields.get("finishing"):
                finishing = dict(fields["finishing"])
                fields["finishing"] = Finishing(**{**finishing, "quantize": tuple(finishing["quantize"])})
            # Only where the last scale begins at zero do the two forms differ.
            fields.setdefault("initialisation", 1 if recipe.zero_init_last_norm else INITIALISATION)
            return cls(**fields, recipe=recipe, policy=policy, order=order)
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise FormatError(f"these are not the settings of a training: {error}") from error

    @property
    def explores(self) -> bool:
        """Whether this trains over more than an order: to find one with, not to package."""
        return isinstance(self.order, str) and self.order.lower().partition(":")[0] == "grid"

    @property
    def order_name(self) -> str:
        """The order in a word."""
        return self.order.name if isinstance(self.order, OrderTable) else self.order

    def policy_for(self, k: int) -> Policy:
        """The policy over `k` configurations."""
        if isinstance(self.policy, Policy):
            if len(self.policy) != k:
                raise UsageError(f"policy {self.policy.name!r} is for {len(self.policy)} configurations, the network has {k}")
            return self.policy
        if self.policy.startswith(PREFIX):
            return policies.uniform(k)
        if self.policy.endswith(".json"):
            return policies.from_file(Path(self.policy), k)
        return policies.named(self.policy, k)

    def guarantee_for(self, k: int) -> Guarantee | None:
        """The guarantee that the policy `guarantee:FILE` asks for, over `k` configurations; None with any other policy."""
        if isinstance(self.policy, Policy) or not self.policy.startswith(PREFIX):
            return None
        if self.recipe.objective != "sampled":
            raise UsageError(
                f"a guarantee chooses one configuration a step: the objective must be sampled, not {self.recipe.objective}"
            )
        return from_guarantee_file(Path(self.policy.removeprefix(PREFIX)), k)


def build_network(config: TrainingConfig, dataset: Dataset) -> ElasticNetwork:
    """The untrained network that `config` names, for the pictures of `dataset`."""
    match = re.fullmatch(r"resnet(\d{1,4})(?:-(\d{1,3})-(\d{1,3}))?", config.network)
    if not match:
        raise UsageError(
            f"unknown network {config.network!r}: choose resnet<depth>, such as resnet20, resnet56 or resnet110, "
            "or resnet<n1>-<n2>-<n3> with the blocks of each stage"
        )
    if config.heads not in HEADS:
        raise UsageError(f"heads can be {' or '.join(HEADS)}, not {config.heads!r}")
    module = CifarResNet(
        int(match[1]),
        len(dataset.classes),
        widths=(config.width, 2 * config.width, 4 * config.width),
        in_channels=dataset.train.x.shape[1],
        mean=dataset.mean,
        std=dataset.std,
        zero_init_last_norm=config.recipe.zero_init_last_norm,
        stage_heads=config.heads == "stage",
        blocks_by_stage=None if match[2] is None else (int(match[1]), int(match[2]), int(match[3])),
    )
    if config.devices < 1 or config.recipe.batch % config.devices or config.recipe.batch // config.devices < 2:
        raise UsageError(
            f"batches of {config.recipe.batch} can't be shared by {config.devices} processes: equal parts from 2 up are needed"
        )
    if config.compile not in COMPILE:
        raise UsageError(f"unknown compile backend {config.compile!r}: choose {', '.join(COMPILE)}")
    order = config.order.order(module.stages) if isinstance(config.order, OrderTable) else by_name(config.order, module.stages)
    if config.recipe.objective == "joint" and not isinstance(order, Order):
        raise UsageError(f"joint would run all {len(order)} configurations of {order.name} in each step: choose another objective")
    if config.heads == "configuration":
        if not isinstance(order, Order):
            raise UsageError(f"{order.name} has {len(order)} configurations: give them heads by stage, or one for all")
        module.give_heads(len(order))
    return ElasticNetwork(module, order, swaps=module.swaps(order), alternates=module.alternates)
