"""Policies: with what probability training picks each configuration. Values, no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accordion.errors import UsageError

__all__ = ["POLICY_NAMES", "Policy", "from_file", "full_with_probability", "named", "uniform"]

TOLERANCE = 1e-6  # of the sum of the probabilities; files carry rounded decimals


@dataclass(frozen=True, slots=True)
class Policy:
    """`probabilities[k]` for configuration k; they sum to one."""

    name: str
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.probabilities:
            raise UsageError(f"policy {self.name!r} has no probabilities")
        for k, p in enumerate(self.probabilities):
            if isinstance(p, bool) or not isinstance(p, int | float) or not math.isfinite(p) or not 0 <= p <= 1:
                raise UsageError(f"policy {self.name!r}: the probability of configuration {k} is {p!r}, not within 0 to 1")
        total = math.fsum(self.probabilities)
        if abs(total - 1) > TOLERANCE:
            raise UsageError(f"policy {self.name!r}: the probabilities sum to {total:.6g}, not to 1")

    def __len__(self) -> int:
        return len(self.probabilities)

    def draw(self, rng: np.random.Generator) -> int:
        """One configuration."""
        weights = np.asarray(self.probabilities)
        return int(rng.choice(len(weights), p=weights / weights.sum()))

    def to_json(self) -> dict[str, Any]:
        """As `from_file` reads it."""
        return {"name": self.name, "probabilities": list(self.probabilities)}


def uniform(k: int) -> Policy:
    """All `k` configurations equally often."""
    return Policy("uniform", (1 / k,) * k)


def full_with_probability(k: int, p: float, name: str | None = None) -> Policy:
    """The complete network with probability `p`, otherwise one of the `k` - 1 others, uniformly (CoML-05 is p = 0.5)."""
    if not 0 <= p <= 1:
        raise UsageError(f"the probability of the complete network is {p!r}, not within 0 to 1")
    if k == 1:
        return Policy(name or "full", (1.0,))
    return Policy(name or f"full-{p:g}", ((1 - p) / (k - 1),) * (k - 1) + (float(p),))


# The paper's names; CoML or BlockCoML says the order, the number the probability of the complete network in tenths.
_PAPER = {"CoML-05": 0.5, "CoML-03": 0.3, "BlockCoML-05": 0.5, "BlockCoML-03": 0.3}
POLICY_NAMES = ("uniform", "full", *_PAPER)


def named(name: str, k: int) -> Policy:
    """`uniform`; `full` (only the complete network: plain training); the paper's CoML-05, CoML-03, BlockCoML-05, BlockCoML-03."""
    if name == "uniform":
        return uniform(k)
    if name == "full":
        return full_with_probability(k, 1.0, "full")
    for known, p in _PAPER.items():
        if name.lower() == known.lower():
            return full_with_probability(k, p, known)
    raise UsageError(f"unknown policy {name!r}: choose {', '.join(POLICY_NAMES)}, or a JSON file")


def from_file(path: Path, k: int) -> Policy:
    """A policy from JSON `{"name", "probabilities"}`; UsageError if it is for another number of configurations than `k`."""
    try:
        data = json.loads(path.read_text())
        probabilities: Sequence[float] = data["probabilities"]
        policy = Policy(str(data.get("name", path.stem)), tuple(probabilities))
    except OSError as error:
        raise UsageError(f"can't read the policy {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f'{path} is not a policy: it needs {{"name": …, "probabilities": […]}}') from error
    if len(policy) != k:
        raise UsageError(f"{path} is for {len(policy)} configurations, the network has {k}")
    return policy
