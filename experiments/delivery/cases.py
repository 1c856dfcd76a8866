"""What is compared: which links, which deadlines, how large the packages are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from accordion.planning.links import Trace, TraceLink, parse_link_file
from accordion.training.policy_file import Input, read_input

__all__ = ["DEADLINES_S", "MATCHED", "PARTS", "RTT_FILE", "SCALES", "SETS", "TRACES", "link", "part", "traces"]

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
