"""Policies: with what probability training picks each configuration. Values, no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accordion.artifact.strict_json import parse_object
from accordion.errors import FormatError, UsageError
from accordion.units import whole_number

__all__ = ["POLICY_NAMES", "Policy", "from_file", "full_with_probability", "named", "parse", "uniform"]

FILE_LIMIT = 16 * 2**20
TOLERANCE = 1e-6  # of the sum of the probabilities; files carry rounded decimals


@dataclass(frozen=True, slots=True)
class Policy:
    """`probabilities[k]` for configuration k; they sum to one."""

    name: str
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        if isinstance(self.probabilities, list | np.ndarray):
            rows = self.probabilities if isinstance(self.probabilities, list) else self.probabilities.tolist()
            object.__setattr__(self, "probabilities", tuple(rows))
        if not self.probabilities:
            raise UsageError(f"policy {self.name!r} has no probabilities")
        for k, p in enumerate(self.probabilities):
            if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
                raise UsageError(f"policy {self.name!r}: the probability of configuration {k} is {p!r:.60}, not within 0 to 1")
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
    k = whole_number(k, "the number of configurations", least=1)
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


def from_file(path: Path | str, k: int) -> Policy:
    """A policy from JSON `{"name", "probabilities"}`; UsageError if it is for another number of configurations than `k`."""
    path = Path(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(FILE_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"can't read the policy {path}: {error.strerror}") from error
    policy = parse(content, str(path), path.stem)
    if len(policy) != k:
        raise UsageError(f"{path} is for {len(policy)} configurations, the network has {k}")
    return policy


def parse(content: bytes, where: str, name: str = "policy") -> Policy:
    """The policy in the bytes of a file that people know as `where`; `name` if it has none of its own. UsageError if it is none."""
    try:
        data = parse_object(content, where, FILE_LIMIT)
        probabilities: Sequence[float] = data["probabilities"]
        if not isinstance(probabilities, list):
            raise TypeError
        return Policy(str(data.get("name", name))[:200], tuple(probabilities))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    except FormatError as error:
        raise UsageError(str(error)) from error
    except (KeyError, TypeError) as error:
        raise UsageError(f'{where} is not a policy: it needs {{"name": …, "probabilities": […]}}') from error
