"""What is compared: which links, which deadlines, how large the packages are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from accordion.planning.links import Trace, TraceLink, parse_link_file
from accordion.training.policy_file import Input, read_input
from experiments.catalogue import SEPARATE
from experiments.outcome import Outcome
from experiments.series import Group

__all__ = [
    "DEADLINES_S",
    "GROUP",
    "MATCHED",
    "NAME",
    "PARTS",
    "RTT_FILE",
    "SCALES",
    "SETS",
    "TRACES",
    "compared",
    "is_whole",
    "link",
    "part",
    "traces",
]

GROUP = Group("cifar10", "resnet20", "brief")
"""The network that everything is compared on."""

NAME = f"{GROUP.network}-{GROUP.dataset}"
"""What it is called in data files and pictures."""

TRACES = Path(__file__).parents[3] / "shared" / "data" / "traces"
RTT_FILE = "tmobile-5g-rtt.jsonl"

SETS: dict[str, str] = {
    "mahimahi-lte-100ms": "LTE, driving",
    "lumos5g-4g": "4G, walking and driving",
    "irish-5g-download": "5G, Ireland",
    "tmobile-5g-100ms": "5G, T-Mobile",
    "tmobile-5g-crosscountry-500ms": "5G, cross-country",
    "lumos5g-mmwave-5g": "5G, millimetre wave",
}
"""Files of measured traces, slowest first, and what they are called in pictures."""

DEADLINES_S = (0.15, 0.3, 0.5, 1.0, 2.0, 5.0)

SCALES = (1, 10)
"""Bytes as they are, and as if each network were ten times as large at the same accuracy: small networks are trained here, and a
link must bind to tell policies apart."""

PARTS = ("fitted", "held back")
"""The traces of a set by turns: the first, third, … are what choices are made on, the others tell what these are worth."""

MATCHED = ("lumos5g-4g", 10)
"""The set and the scale that the demand-matched policy is made for."""


def compared(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The runs that take part: those of `catalogue.DELIVERED` on `GROUP`'s network, and the separate networks beside them."""
    found = []
    for one in outcomes:
        if (one.config.dataset, one.config.recipe.name) != (GROUP.dataset, GROUP.recipe):
            continue
        elastic = one.experiment in ("delivered", "figure4") and one.config.network == GROUP.network
        if elastic or (one.experiment == "reference" and one.config.network in SEPARATE):
            found.append(one)
    return found


def is_whole(outcome: Outcome) -> bool:
    """Whether nothing in it is elastic, so that it can be sent as a network of its own."""
    return outcome.experiment == "reference" or outcome.scheme == "ResNet"


def traces(name: str, folder: Path = TRACES) -> tuple[tuple[Trace, ...], Input]:
    """A set's traces, and the file that they came from. UsageError without it."""
    found = read_input(folder / f"{name}.jsonl")
    return parse_link_file(found.content, found.name).traces, found


def part(found: Sequence[Trace], which: str) -> tuple[Trace, ...]:
    """One of `PARTS`."""
    return tuple(found[PARTS.index(which) :: 2])


def link(found: Sequence[Trace], folder: Path = TRACES) -> TraceLink:
    """These traces with the measured round trips."""
    rtts = parse_link_file(read_input(folder / RTT_FILE).content, RTT_FILE).rtts_s
    return TraceLink(tuple(found), tuple(float(rtt) for rtt in np.sort(np.asarray(rtts))))
