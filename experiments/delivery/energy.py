"""Joules end to end: training once, receiving over measured links, inferences; for every way of sending that was compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accordion.errors import FormatError
from accordion.planning.energy import Joules, inference_j, radio, training_j, transfer_j
from accordion.training.matched import ROUND_TRIPS
from experiments.computation import training_macs
from experiments.data_files import read_object, write_object
from experiments.delivery.cases import TRACES, is_whole, link, traces
from experiments.delivery.encodings import Encoding
from experiments.delivery.ways import Way, ways_of
from experiments.outcome import DATA, Outcome

__all__ = ["FILE", "INFERENCES", "WAIT_S", "Bill", "bills", "read_bills", "write_bills"]

FILE = DATA / "delivered" / "energy.json"
SET, RADIO = "lumos5g-4g", "lte"
WAIT_S = 5.0  # the device receives until all is there, or so long
INFERENCES = 1000  # with what has arrived then
MOMENTS = 100  # at which a transfer is looked at
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Bill:
    """`training` joules once, for all devices (a guarantee's as if its draws were even); `receiving` and `inference` (of
    `INFERENCES`) for each device, with the ends of their ranges; `accuracy` after the transfer."""

    way: str
    seed: int
    training: Joules
    receiving: Joules
    inference: Joules
    bytes: float
    accuracy: float

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        kinds = {"training_j": self.training, "receiving_j": self.receiving, "inference_j": self.inference}
        return {
            "way": self.way,
            "seed": self.seed,
            **{name: one.to_json() for name, one in kinds.items()},
            "bytes": round(self.bytes),
            "accuracy": round(self.accuracy, 6),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Bill:
        """KeyError, TypeError or ValueError if it is something else."""

        def joules(name: str) -> Joules:
            return Joules(*(float(row[name][end]) for end in ("value", "low", "high")))

        spent = joules("training_j"), joules("receiving_j"), joules("inference_j")
        return cls(str(row["way"]), int(row["seed"]), *spent, float(row["bytes"]), float(row["accuracy"]))


def bills(
    outcomes: Sequence[Outcome], encodings: Mapping[str, Encoding], folder: Path = TRACES, more: Sequence[Way] = ()
) -> list[Bill]:
    """For one seed. A way of several networks pays for the training of each; what runs at the end is what inferences cost. `more`
    are further forms of networks that are among the outcomes."""
    times = np.linspace(WAIT_S / MOMENTS, WAIT_S, MOMENTS)
    arrived, weights = link(traces(SET, folder)[0], folder).arrived(times, ROUND_TRIPS)
    weights = weights / weights.sum()
    made = []
    for way in ways_of(outcomes, encodings, more):
        of = _trained(way, outcomes)
        if not of:
            continue
        there = arrived >= way.bytes[-1]
        seconds = np.where(there[:, -1], times[there.argmax(axis=1)], WAIT_S)
        received = np.minimum(arrived[:, -1], way.bytes[-1])
        configurations = max(of, key=lambda one: one.complete.macs).configurations
        largest = np.searchsorted(way.bytes, received, side="right") - 1
        each = [_inference(way, rung, configurations, of) for rung in range(len(way.bytes))]
        runs = largest >= 0
        ends = INFERENCES * (weights[runs] @ np.array([each[k] for k in largest[runs]])) if runs.any() else np.zeros(3)
        made.append(
            Bill(
                way.name,
                of[0].config.seed,
                training_j(sum(training_macs(one.config) for one in of), 1),
                transfer_j(radio(RADIO), float(weights @ received), float(weights @ seconds)),
                Joules(*map(float, ends)),
                float(weights @ received),
                float(weights @ way.delivered(received)),
            )
        )
    return made


def _trained(way: Way, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The runs whose weights a way sends; none for the oracle, which nobody can be."""
    whole = [one for one in outcomes if is_whole(one)]
    if way.name.startswith("alone in turn"):
        return whole
    name = way.name.removesuffix(", compact").split(" alone, ")[0]
    titles = {one.config.network.replace("resnet", "ResNet-"): one for one in whole}
    if name in titles:
        return [titles[name]]
    scheme = "ResNet" if name.startswith("ResNet,") else name
    return [one for one in outcomes if one.experiment != "reference" and one.scheme == scheme]


def _inference(way: Way, rung: int, configurations: Sequence[Any], of: Sequence[Outcome]) -> tuple[float, float, float]:
    """Value, low and high joules of one inference of what runs at this step of the staircase."""
    if len(of) > 1:
        found = sorted((one.complete for one in of), key=lambda row: row.macs)[rung]
    else:
        shape = way.shapes[rung] if way.shapes else configurations[-1].blocks_by_stage
        found = next((row for row in configurations if row.blocks_by_stage == shape), configurations[-1])
    joules = inference_j(found.macs, found.parameters)
    return joules.value, joules.low, joules.high


def write_bills(found: Sequence[Bill], path: Path = FILE) -> Path:
    """Whole or not at all."""
    rows = [one.to_json() for one in found]
    about = {"traces": SET, "radio": RADIO, "wait_s": WAIT_S, "inferences": INFERENCES}
    return write_object(path, {"schema_version": SCHEMA_VERSION, **about, "rows": rows})


def read_bills(path: Path = FILE) -> list[Bill]:
    """Empty if there is no such file. FormatError if it is something else."""
    if not path.exists():
        return []
    data = read_object(path, "what energy was spent")
    try:
        if data["schema_version"] != SCHEMA_VERSION:
            raise ValueError("another version")
        return [Bill.from_json(row) for row in data["rows"]]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} does not say what energy was spent: {error}") from error
