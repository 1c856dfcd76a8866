"""Training towards a target for every configuration: which one a step trains is chosen by who misses its target.

The game: the network lowers the loss of the configuration that is drawn, the chooser raises the probability of those whose excess
(error less target) is large. It is group distributionally robust optimisation with a configuration as a group, of which one is seen
in each step, so the chooser is an adversarial bandit: Soma, Gatmiry, Gupta, Jegelka, Near-Optimal Algorithms for Group
Distributionally Robust Optimization and Beyond (arXiv 2212.13669), algorithm GDRO-EXP3P; before them Sagawa et al. (ICLR 2020) with
another update. docs/policies.md says what is proved, and for what.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accordion.artifact.strict_json import parse_object
from accordion.errors import FormatError, UsageError
from accordion.training.policies import FILE_LIMIT, Policy

__all__ = ["PREFIX", "Chooser", "Guarantee", "from_guarantee_file", "parse_guarantee"]

PREFIX = "guarantee:"  # of a policy that is a guarantee's file
FIELDS = ("target_error", "regret_points", "references", "confidence", "exploration", "speed", "bound", "certify")
MOST_EXPLORATION = 0.5
FEWEST_DRAWS = 4  # of a configuration in an epoch, from which its training error says something


@dataclass(frozen=True, slots=True)
class Guarantee:
    """`targets[k]`: the error that configuration k is to reach; `references[k]` what it was measured against, if anything.

    `confidence` of the report, for all configurations together. `exploration`: the share of the steps that is spread evenly over
    all of them, at least. `bound`: an excess beyond this counts as this. `speed`: how quickly probabilities move; 1 is the
    theory's. `certify`: the data of the report, `validation` (the half of it that is used for nothing else) or `test`.
    """

    targets: tuple[float, ...]
    references: tuple[float, ...] | None = None
    confidence: float = 0.95
    exploration: float = 0.1
    speed: float = 1.0
    bound: float = 0.25
    certify: str = "validation"

    def __post_init__(self) -> None:
        for name, values in (("target", self.targets), ("reference", self.references or ())):
            for k, value in enumerate(values):
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                    raise UsageError(f"guarantee: the {name} of configuration {k} is {str(value)[:40]}, not an error within 0 to 1")
        fine = {
            "confidence": 0 < self.confidence < 1,
            "exploration": 0 <= self.exploration <= MOST_EXPLORATION,
            "speed": 0 < self.speed <= 100,
            "bound": 0 < self.bound <= 1,
            "certify": self.certify in ("validation", "test"),
        }
        for name, good in fine.items():
            if not good:
                raise UsageError(f"guarantee: {name} can't be {getattr(self, name)!r}")

    def to_json(self) -> dict[str, Any]:
        """What the training depends on, as `run.json` keeps it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def from_guarantee_file(path: Path, k: int) -> Guarantee:
    """The guarantee for `k` configurations in a JSON file; UsageError if it is none, or for another network."""
    try:
        with path.open("rb") as stream:
            content = stream.read(FILE_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"can't read the guarantee {path}: {error.strerror}") from error
    return parse_guarantee(content, str(path), k)


def parse_guarantee(content: bytes, where: str, k: int) -> Guarantee:
    """`{"target_error": e}` or `{"regret_points": r, "references": [errors]}`, and any of the other fields of `Guarantee`.

    `target_error` and `regret_points` are one number for all, or one for each configuration. Points are hundredths: a regret of 2
    allows a reference of 0.08 to become 0.10.

    Raises:
        UsageError: it is something else, or for another number of configurations than `k`.
    """
    try:
        data = parse_object(content, where, FILE_LIMIT)
    except FormatError as error:
        raise UsageError(str(error)) from error
    if unknown := [name for name in data if name not in FIELDS]:
        raise UsageError(f"{where}: a guarantee has no {unknown[0][:60]!r}; there are {', '.join(FIELDS)}")
    if ("target_error" in data) == ("regret_points" in data):
        raise UsageError(f"{where} is no guarantee: it needs either 'target_error' or 'regret_points'")
    references = None
    if "target_error" in data:
        targets = _each(data, "target_error", where, k)
        if "references" in data:
            raise UsageError(f"{where}: 'references' belong to 'regret_points'")
    else:
        if "references" not in data:
            raise UsageError(f"{where}: 'regret_points' needs 'references', the errors of what it is measured against")
        references = _each(data, "references", where, k)
        points = _each(data, "regret_points", where, k)
        targets = tuple(min(1.0, reference + point / 100) for reference, point in zip(references, points, strict=True))
    rest = {name: data[name] for name in ("confidence", "exploration", "speed", "bound", "certify") if name in data}
    try:
        return Guarantee(targets, references, **rest)
    except TypeError as error:
        raise UsageError(f"{where}: a field of the guarantee is no number") from error
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _each(data: Mapping[str, Any], name: str, where: str, k: int) -> tuple[float, ...]:
    value = data[name]
    values = value if isinstance(value, list) else [value] * k
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in values):
        raise UsageError(f"{where}: {name!r} is neither a number nor a list of numbers")
    if len(values) != k:
        raise UsageError(f"{where}: {name!r} is for {len(values)} configurations, the network has {k}")
    return tuple(float(one) for one in values)


class Chooser:
    """The bandit: EXP3.P (Bubeck and Cesa-Bianchi, 2012, section 3.1) over configurations, in `steps` steps in all.

    Its gain from drawing k is k's excess over its target, by `bound`, within -1 to 1. The estimate for each configuration is
    (gain if it was drawn + β) / probability: unbiased, but for an optimism β that keeps seldom drawn ones from being forgotten.
    """

    def __init__(self, guarantee: Guarantee, steps: int) -> None:
        k = len(guarantee.targets)
        self.guarantee = guarantee
        self.optimism = math.sqrt(math.log(max(k, 2)) / (k * max(steps, 1)))
        self.rate = guarantee.speed * self.optimism
        # With this much spread evenly, no estimate times the rate exceeds one, which the analysis needs.
        self.exploration = min(MOST_EXPLORATION, max(guarantee.exploration, k * (self.rate + self.optimism)))
        self.gains = np.zeros(k)
        self.draws: NDArray[np.int64] = np.zeros(k, dtype=np.int64)
        self.gaps = np.zeros(k)  # by how much the error on the adapting half exceeds that in training
        self._seen = np.zeros((2, k))  # of this epoch: draws, and the sum of their errors

    def policy(self) -> Policy:
        """The probabilities of the next step."""
        weights = np.exp(self.rate * (self.gains - self.gains.max()))
        shares = (1 - self.exploration) * weights / weights.sum() + self.exploration / len(weights)
        return Policy("guarantee", tuple(float(share) for share in shares / shares.sum()))

    def observe(self, k: int, error: float, policy: Policy | None = None) -> None:
        """Configuration `k`, drawn from `policy` (the current one if left out), had this error on the step's pictures."""
        probabilities = np.asarray((policy or self.policy()).probabilities)
        excess = error + self.gaps[k] - self.guarantee.targets[k]
        self.gains += self.optimism / probabilities
        self.gains[k] += float(np.clip(excess / self.guarantee.bound, -1, 1)) / probabilities[k]
        self.draws[k] += 1
        self._seen[:, k] += (1, error)

    def compare(self, errors: Mapping[int, float]) -> None:
        """After an epoch: errors of configurations on the adapting half, from which their gaps to the training errors follow."""
        for k, error in errors.items():
            count, total = self._seen[:, k]
            if count >= FEWEST_DRAWS:
                self.gaps[k] = error - total / count
        self._seen[:] = 0

    def state(self) -> dict[str, Any]:
        """All that changes, as plain values for a checkpoint."""
        return {"gains": self.gains.tolist(), "draws": self.draws.tolist(), "gaps": self.gaps.tolist(), "seen": self._seen.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` gave."""
        self.gains, self.gaps = np.array(state["gains"]), np.array(state["gaps"])
        self.draws, self._seen = np.array(state["draws"], dtype=np.int64), np.array(state["seen"])
