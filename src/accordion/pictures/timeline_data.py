"""What happened during a fetch or an upgrade, as data that a command writes and a picture reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accordion.artifact.strict_json import EXACT, parse_object
from accordion.errors import FormatError, StorageError, UsageError

__all__ = ["Prediction", "Timeline", "read_timeline"]

MOST_BYTES = 64 * 2**20
LONGEST_S = 1e9  # thirty years


@dataclass(frozen=True, slots=True)
class Prediction:
    """What configuration `configuration` said at `seconds` about each of the pictures: label, and confidence in 0..1."""

    seconds: float
    configuration: int
    labels: tuple[str, ...]
    confidence: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Seconds count from the call; `received` are (seconds, bytes so far), `ready` (configuration, seconds).

    `truth` are the right labels of the pictures in `predictions`, `deadline_s` when the answer was due, both None if unknown.
    """

    received: tuple[tuple[float, int], ...]
    ready: tuple[tuple[int, float], ...]
    predictions: tuple[Prediction, ...]
    truth: tuple[str, ...] | None = None
    deadline_s: float | None = None

    @classmethod
    def from_json(cls, data: Any) -> Timeline:
        """`{events: [{seconds, bytes}], ready: [{configuration, seconds}], predictions: [{seconds, configuration, labels,
        confidence}]}`, and if wanted `truth: [label]` and `deadline_s`. FormatError if it is anything else."""
        try:
            received = tuple((float(row["seconds"]), int(row["bytes"])) for row in data["events"])
            ready = tuple((int(row["configuration"]), float(row["seconds"])) for row in data["ready"])
            predictions = tuple(
                Prediction(
                    float(row["seconds"]),
                    int(row["configuration"]),
                    tuple(str(label) for label in row["labels"]),
                    tuple(float(value) for value in row["confidence"]),
                )
                for row in data.get("predictions", [])
            )
            truth = None if data.get("truth") is None else tuple(str(label) for label in data["truth"])
            deadline = None if data.get("deadline_s") is None else float(data["deadline_s"])
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise FormatError(f"this is no timeline: {type(error).__name__} {error}") from error
        timeline = cls(received, ready, predictions, truth, deadline)
        timeline._check()
        return timeline

    def _check(self) -> None:
        if not self.received or not self.ready:
            raise FormatError("a timeline needs events and at least one configuration that became ready")
        for name, times in (
            ("events", [seconds for seconds, _ in self.received]),
            ("ready", [seconds for _, seconds in self.ready]),
            ("predictions", [row.seconds for row in self.predictions]),
        ):
            if not all(0 <= seconds <= LONGEST_S for seconds in times):
                raise FormatError(f"the timeline's {name} are not all at moments from 0 to {LONGEST_S:g} seconds")
            if times != sorted(times):
                raise FormatError(f"the timeline's {name} are not in the order of time")
        numbers = (
            [count for _, count in self.received] + [k for k, _ in self.ready] + [row.configuration for row in self.predictions]
        )
        if not all(0 <= number <= EXACT for number in numbers):
            raise FormatError(f"the timeline's bytes and configurations are not all whole numbers from 0 to {EXACT}")
        if self.deadline_s is not None and not 0 <= self.deadline_s <= LONGEST_S:
            raise FormatError(f"the timeline's deadline is {self.deadline_s:g}, not a moment from 0 to {LONGEST_S:g} seconds")
        counts = {len(row.labels) for row in self.predictions} | {len(row.confidence) for row in self.predictions}
        counts |= {len(self.truth)} if self.truth is not None and self.predictions else set()
        if len(counts) > 1:
            raise FormatError("the timeline's predictions are not all about the same pictures")


def read_timeline(path: Path) -> Timeline:
    """The timeline in a JSON file. UsageError without the file, FormatError if it holds something else."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(f"there is no timeline at {path}") from error
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror}") from error
    return Timeline.from_json(parse_object(raw, str(path), MOST_BYTES))
