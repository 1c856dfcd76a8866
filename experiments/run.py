"""One run of the list, as a value: which training, for what, and whether this code can do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from accordion import elastic
from accordion.errors import UsageError
from accordion.training import Recipe, TrainingConfig, policies
from accordion.training.guarantee import PREFIX
from experiments.recipes import KNOWN

__all__ = ["Run", "run_name"]


@dataclass(frozen=True, slots=True)
class Run:
    """A training with one seed. `order` is a name, or the path of a JSON file that holds one; so is `policy`,
    or `guarantee:` and a path.

    `experiment` is what it is evidence for and `scheme` what tells it apart within that: `CoML-05`, a shape, a change. `changes`
    are fields of the recipe, `settings` fields of the training's settings, that differ from what `recipe` and the other fields say.
    `against` names the scheme that a change is measured against. `files` must be there before it can start.
    """

    experiment: str
    scheme: str
    dataset: str
    network: str
    order: str
    policy: str
    recipe: str
    seed: int
    changes: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "bf16-mixed"
    against: str | None = None
    files: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """What its files are called."""
        return run_name(self.experiment, self.network, self.dataset, self.recipe, self.scheme, self.seed)

    def at(self, precision: str | None) -> Run:
        """The same run, trained in another precision; None: in its own."""
        return self if precision is None else replace(self, precision=precision)

    def missing(self) -> list[str]:
        """What this code or this folder lacks for it, in words; empty if it can start."""
        recipe, settings = ({f.name for f in fields(kind)} for kind in (Recipe, TrainingConfig))
        lacks = [f"the recipe's option {name}" for name in self.changes if name not in recipe]
        lacks += [f"the training's option {name}" for name in self.settings if name not in settings]
        lacks += [f"{path.parent.name}/{path.name}" for path in self.files if not path.is_file()]
        if self.order.endswith(".json") and not hasattr(elastic, "OrderTable"):
            lacks.append("orders as data")
        if not lacks:
            try:
                self._config()
            except UsageError as error:  # an option that is known, with a value that is not
                lacks.append(str(error))
        return lacks

    def config(self) -> TrainingConfig:
        """The training's settings. UsageError if something is `missing`."""
        if lacks := self.missing():
            raise UsageError(f"{self.name} needs {', '.join(lacks)}")
        return self._config()

    def _config(self) -> TrainingConfig:
        return TrainingConfig(
            dataset=self.dataset,
            network=self.network,
            order=self._order(),
            policy=self._policy(),
            recipe=KNOWN[self.recipe].with_changes(**self.changes),
            seed=self.seed,
            precision=self.precision,
            **self.settings,
        )

    def _policy(self) -> str | policies.Policy:
        if not self.policy.endswith(".json") or self.policy.startswith(PREFIX):
            return self.policy
        path = Path(__file__).parents[1] / self.policy
        return policies.parse(path.read_bytes(), str(path), path.stem)

    def _order(self) -> Any:
        return vars(elastic)["OrderTable"].from_file(Path(self.order)) if self.order.endswith(".json") else self.order


def run_name(experiment: str, network: str, dataset: str, recipe: str, scheme: str, seed: int) -> str:
    """Letters, digits and hyphens, so that it can name a file anywhere."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in scheme.lower()).strip("-")
    while "--" in plain:
        plain = plain.replace("--", "-")
    return f"{experiment}-{network}-{dataset}-{recipe}-{plain}-s{seed}"
