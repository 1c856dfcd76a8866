"""A measured quality with its interval, so that nobody has to guess how sure a number is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from accordion.artifact.strict_json import Fields
from accordion.errors import FormatError

__all__ = ["Quality"]


@dataclass(frozen=True, slots=True)
class Quality:
    """How good a configuration was measured to be.

    `interval` encloses the true `value` with probability `confidence`, by `interval_method`, over `samples` examples of `split` of
    `dataset`, on which nothing was chosen.
    """

    metric: str
    direction: str
    unit: str
    value: float
    interval: tuple[float, float]
    confidence: float
    interval_method: str
    samples: int
    dataset: str
    split: str
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Fields that this version does not know."""

    def comparable(self, other: Quality) -> bool:
        """Whether both say the same thing in the same unit, the same way up."""
        return (self.metric, self.direction, self.unit) == (other.metric, other.direction, other.unit)

    def better_than(self, other: Quality) -> bool:
        """Whether this value beats the other's."""
        return self.value > other.value if self.direction == "higher" else self.value < other.value

    def meets(self, bound: float, *, cautious: bool = False) -> bool:
        """Whether the value is as good as `bound`; `cautious` takes the worse end of the interval instead."""
        if self.direction == "higher":
            return (self.interval[0] if cautious else self.value) >= bound
        return (self.interval[1] if cautious else self.value) <= bound

    def to_json(self) -> dict[str, Any]:
        """As it stands in the ladder."""
        return {
            "metric": self.metric,
            "direction": self.direction,
            "unit": self.unit,
            "value": self.value,
            "interval": list(self.interval),
            "confidence": self.confidence,
            "interval_method": self.interval_method,
            "samples": self.samples,
            "dataset": self.dataset,
            "split": self.split,
            **self.extra,
        }

    @classmethod
    def from_json(cls, data: object, where: str = "quality") -> Quality:
        """FormatError naming `where` if a field is missing or makes no sense."""
        fields = Fields(data, where)
        direction = fields.text("direction")
        if direction not in ("higher", "lower"):
            raise FormatError(f'{where}: "direction" is {direction[:40]!r}, neither "higher" nor "lower"')
        value, confidence = fields.number("value"), fields.number("confidence")
        low, high = fields.pair("interval")
        if not low <= value <= high:
            raise FormatError(f"{where}: the value {value} lies outside of its interval [{low}, {high}]")
        if not 0 < confidence < 1:
            raise FormatError(f'{where}: "confidence" is {confidence}, not between 0 and 1')
        return cls(
            metric=fields.text("metric"),
            direction=direction,
            unit=fields.text("unit"),
            value=value,
            interval=(low, high),
            confidence=confidence,
            interval_method=fields.text("interval_method"),
            samples=fields.whole("samples"),
            dataset=fields.text("dataset"),
            split=fields.text("split"),
            extra=fields.rest(),
        )
