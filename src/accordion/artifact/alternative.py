"""Another graph of the same configuration: the same files of weights, run in another way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from accordion.artifact.paths import check_path
from accordion.artifact.quality import Quality
from accordion.artifact.strict_json import Fields
from accordion.errors import FormatError

__all__ = ["FLOAT_KERNELS", "INTEGER_KERNELS", "Alternative"]

FLOAT_KERNELS, INTEGER_KERNELS = "float", "integer"
MOST_ALTERNATIVES = 16


@dataclass(frozen=True, slots=True)
class Alternative:
    """`kernels` says how it computes, `integer` so far; `quality` was measured with this graph.

    `layers` is how many of the manifest's layers must be there for its graph to be, where that is more than the configuration
    itself needs; 0 otherwise.
    """

    kernels: str
    graph: str
    quality: Quality
    layers: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As it stands in the ladder."""
        late = {"layers": self.layers} if self.layers else {}
        return {"kernels": self.kernels, "graph": self.graph, "quality": self.quality.to_json(), **late, **self.extra}

    @classmethod
    def from_json(cls, data: object, where: str) -> Alternative:
        """FormatError naming `where` if a field is missing or makes no sense."""
        fields = Fields(data, where)
        kernels = fields.text("kernels")
        if kernels == FLOAT_KERNELS:
            raise FormatError(f"{where}: {kernels!r} is what the configuration's own graph is")
        graph = check_path(fields.get("graph"), f"{where}: graph")
        quality = Quality.from_json(fields.get("quality"), f"{where}: quality")
        layers = fields.whole("layers", least=1) if fields.has("layers") else 0
        return cls(kernels, graph, quality, layers, fields.rest())

    @classmethod
    def from_list(cls, fields: Fields, name: str, where: str) -> tuple[Alternative, ...]:
        """All of them; FormatError if two are of one kind."""
        rows = fields.items(name, most=MOST_ALTERNATIVES)
        made = tuple(cls.from_json(row, f"{where}: alternative {index}") for index, row in enumerate(rows))
        if len({one.kernels for one in made}) != len(made):
            raise FormatError(f"{where}: two alternatives have the same kernels")
        return made
