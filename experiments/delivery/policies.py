"""The policies of the list that are made from data: what links let arrive, and what other runs reached.

The files are committed, since the runs that train by them are named in the list. Made again from the same outcomes and traces they
are the same, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accordion.artifact.atomic import write_file
from accordion.errors import UsageError
from accordion.training.matched import ROUND_TRIPS, communication
from accordion.training.policies import Policy
from accordion.training.policy_file import policy_bytes, read_input, write_policy
from experiments.data_files import compact
from experiments.delivery.cases import DEADLINES_S, GROUP, MATCHED, PARTS, RTT_FILE, TRACES, compared, link, part, traces
from experiments.outcome import Outcome

__all__ = ["FIXED", "FOLDER", "REGRET_POINTS", "demand_matched", "guarantee", "write_policies"]

FOLDER = Path(__file__).parents[1] / "policies"
FIXED = ("CoML-05", "CoML-03", "uniform")
"""Right-to-left schemes whose best is what the guarantee is measured against."""

REGRET_POINTS = 3.0


def demand_matched(outcome: Outcome, folder: Path = TRACES) -> bytes:
    """How often each configuration is the largest to arrive, over the fitted traces of `MATCHED` and all deadlines alike.

    `outcome` is a run of the same network and order: its package's bytes count.
    """
    name, scale = MATCHED
    found, source = traces(name, folder)
    needed = [scale * row.package_bytes for row in outcome.configurations]
    deadlines = [(seconds, 1.0) for seconds in DEADLINES_S]
    matched = communication(needed, link(part(found, PARTS[0]), folder), deadlines)
    options: dict[str, Any] = {
        "traces": f"of {name} every other one, from the first",
        "deadlines": [{"seconds": seconds, "weight": weight} for seconds, weight in deadlines],
        "round_trips": ROUND_TRIPS,
        "bytes": f"of the package of {outcome.name}, times {scale}",
    }
    inputs = [{"run": outcome.name}, source.to_json(), read_input(folder / RTT_FILE).to_json()]
    policy = Policy("demand-matched", matched.policy.probabilities)
    return policy_bytes(policy, kind="communication", options=options, inputs=inputs, nothing=matched.nothing)


def guarantee(outcomes: Sequence[Outcome]) -> bytes:
    """At most `REGRET_POINTS` more than the lowest validation error that a fixed policy gave each configuration."""
    rows = zip(*(outcome.configurations for outcome in outcomes), strict=True)
    references = [round(min(one.validation.error for one in same), 4) for same in rows]
    return compact({"regret_points": REGRET_POINTS, "references": references, "certify": "test"})


def write_policies(outcomes: Sequence[Outcome], folder: Path = FOLDER, traces_folder: Path = TRACES) -> list[Path]:
    """Writes what there are outcomes for (those of the first seed). UsageError if there are none."""
    first = {one.scheme: one for one in compared(outcomes) if one.config.seed == 0}
    written = []
    if "ResNet" in first:
        folder.mkdir(parents=True, exist_ok=True)
        write_policy(folder / "demand-matched.json", demand_matched(first["ResNet"], traces_folder))
        written.append(folder / "demand-matched.json")
    if all(name in first for name in FIXED):
        write_file(folder / "guarantee.json", guarantee([first[name] for name in FIXED]))
        written.append(folder / "guarantee.json")
    if not written:
        raise UsageError(f"no run of {GROUP.title} has finished: python -m experiments run next --only {GROUP.stem}")
    return written
