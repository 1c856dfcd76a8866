"""Policies that are made from what is known: what the link lets arrive, what devices ask for, or other policies. Values, no torch.

With fixed probabilities p, training on one drawn configuration a step is stochastic gradient descent on Σ p(k)·L(k). So if p(k) is
how often configuration k is what a device ends up with, training minimises the loss that devices expect to meet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accordion.artifact.ladder import Ladder
from accordion.artifact.manifest import Manifest
from accordion.errors import UnmeetableError, UsageError
from accordion.planning import PlanTable
from accordion.planning.links import LinkModel
from accordion.training.policies import TOLERANCE, Policy
from accordion.training.requests import Ask

__all__ = ["ROUND_TRIPS", "Matched", "arrival_shares", "communication", "demand", "mixed", "with_floor"]

ROUND_TRIPS = 3.0  # before the first byte of the stream: the connection, the plan, the stream (as a plan counts them)


@dataclass(frozen=True, slots=True)
class Matched:
    """`policy`, and the share of cases that it stands for without: nothing arrives, or nothing that is asked for can be had.

    The policy's probabilities are those of the other cases, which sum to one.
    """

    policy: Policy
    nothing: float


def arrival_shares(
    bytes_needed: Sequence[float], link: LinkModel, deadline_s: float, round_trips: float = ROUND_TRIPS
) -> tuple[NDArray[np.float64], float]:
    """How often each configuration is the largest that `link` brings within `deadline_s`, [K], and how often none is.

    `bytes_needed` [K] are what each takes from nothing, ascending. Of what the link doesn't know, nothing is said: the shares are
    those of the moments that were measured, and sum to one with the second value.

    Raises:
        UsageError: nothing is known of so long a time, or the byte counts descend.
    """
    needed = np.asarray(bytes_needed, dtype=np.float64)
    if np.any(np.diff(needed) < 0):
        raise UsageError("a larger configuration takes fewer bytes than a smaller one: the ladder is not nested")
    arrived, weights = link.arrived([deadline_s], round_trips)
    largest = np.searchsorted(needed, arrived[:, 0], side="right")  # 0: not even the smallest
    shares = np.zeros(len(needed) + 1)
    np.add.at(shares, largest, weights / weights.sum())
    return shares[1:], float(shares[0])


def communication(
    bytes_needed: Sequence[float], link: LinkModel, deadlines: Sequence[tuple[float, float]], *, round_trips: float = ROUND_TRIPS
) -> Matched:
    """The communication criterion (Ayed et al., criterion 1): each configuration as often as it is the largest to arrive in time.

    `deadlines` are (seconds, weight): how long the application waits, and how often it waits that long.

    Raises:
        UsageError: no deadline, weights that are none, or nothing ever arrives.
    """
    weights = [weight for _, weight in deadlines]
    if not weights or min(weights) < 0 or not 0 < math.fsum(weights) < math.inf:
        raise UsageError("a policy for deadlines needs at least one deadline with a weight above 0")
    total, nothing = np.zeros(len(bytes_needed)), 0.0
    for seconds, weight in deadlines:
        shares, none = arrival_shares(bytes_needed, link, seconds, round_trips)
        total += shares * (weight / math.fsum(weights))
        nothing += none * (weight / math.fsum(weights))
    if total.sum() <= 0:
        raise UsageError(
            f"not even the smallest configuration ({bytes_needed[0]:.0f} bytes) ever arrives in time: "
            f"there is nothing to train for such deadlines"
        )
    return Matched(Policy("communication", _normalised(total)), nothing)


def demand(asks: Sequence[Ask], count: int, version: tuple[Manifest, Ladder] | None = None, *, replan: bool = False) -> Matched:
    """The performance criterion (Ayed et al., criterion 2): each configuration as often as it is what was asked for.

    An ask that names its configuration counts for that one. One that states limits counts for what is planned for them over
    `version`; so do those that a log says were planned over another version, and with `replan` all that it says.

    Raises:
        UsageError: no asks, a configuration that the network of `count` lacks, or limits without a version to plan over.
    """
    table = None if version is None else PlanTable(*version)
    total, nothing = np.zeros(count), 0.0
    for ask in asks:
        k = ask.configuration
        foreign = version is not None and ask.manifest not in (None, version[0].digest)
        if ask.request is not None and (replan or foreign or not ask.planned):
            if table is None:
                raise UsageError(f"{ask.where} states limits: name the package whose ladder they are to be planned over")
            try:
                k = table.plan("", ask.request).configuration
            except UnmeetableError:
                k = None
        if k is None:
            nothing += ask.count
        elif k >= count:
            raise UsageError(f"{ask.where} asks for configuration {k}; the network has 0 to {count - 1}")
        else:
            total[k] += ask.count
    if total.sum() <= 0:
        raise UsageError("nobody asked for anything that can be had: there is nothing to make a policy from")
    return Matched(Policy("demand", _normalised(total)), nothing / (nothing + float(total.sum())))


def mixed(parts: Sequence[tuple[float, Policy]], name: str = "mix") -> Policy:
    """Σ weight·policy. UsageError unless the weights sum to one and all policies are for one network."""
    if not parts:
        raise UsageError("a mixture needs at least one policy")
    weights = [weight for weight, _ in parts]
    if min(weights) < 0 or abs(math.fsum(weights) - 1) > TOLERANCE:
        raise UsageError(f"the weights of a mixture sum to {math.fsum(weights):.6g}, not to 1, or one is negative")
    for _, policy in parts:
        if len(policy) != len(parts[0][1]):
            raise UsageError(
                f"policy {policy.name!r} is for {len(policy)} configurations, {parts[0][1].name!r} for {len(parts[0][1])}"
            )
    sums = np.sum([weight * np.asarray(policy.probabilities) for weight, policy in parts], axis=0)
    return Policy(name, _normalised(sums))


def with_floor(policy: Policy, floor: float) -> Policy:
    """The same policy with at least `floor` for the complete network; the others keep their proportions."""
    if not 0 <= floor <= 1:
        raise UsageError(f"the floor of the complete network is {floor!r}, not within 0 to 1")
    *others, complete = policy.probabilities
    if complete >= floor:
        return policy
    rest = math.fsum(others)
    return Policy(policy.name, (*(p * (1 - floor) / rest for p in others), float(floor)))


def _normalised(shares: NDArray[np.float64]) -> tuple[float, ...]:
    """Shares that sum to one, with digits enough to make the same policy of them again."""
    return tuple(float(f"{share:.12g}") for share in shares / shares.sum())
