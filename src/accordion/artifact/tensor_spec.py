"""What goes into a graph and what comes out of it, so that a caller can prepare pictures and read answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from accordion.artifact.strict_json import Fields
from accordion.errors import FormatError

__all__ = ["TensorSpec"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: `shape` holds sizes and, for those that vary, names; `labels` names the classes, where there are any."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    layout: str = ""
    range: tuple[float, float] | None = None
    labels: tuple[str, ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        """As it stands in the ladder."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "layout": self.layout,
            "range": None if self.range is None else list(self.range),
            "labels": None if self.labels is None else list(self.labels),
            **self.extra,
        }

    @classmethod
    def from_json(cls, data: object, where: str = "a tensor") -> TensorSpec:
        """FormatError naming `where` if a field is missing or makes no sense."""
        fields = Fields(data, where)
        shape = fields.items("shape", most=16)
        if not all(_is_size(size) for size in shape):
            raise FormatError(f'{where}: "shape" is not a list of sizes and names')
        return cls(
            name=fields.text("name"),
            dtype=fields.text("dtype"),
            shape=tuple(shape),
            layout=fields.text("layout") if fields.has("layout") else "",
            range=fields.pair("range") if fields.has("range") else None,
            labels=fields.texts("labels") if fields.has("labels") else None,
            extra=fields.rest(),
        )

    @classmethod
    def from_list(cls, fields: Fields, name: str) -> tuple[TensorSpec, ...]:
        """The tensors in the field `name`, at least one, no two of one name; FormatError otherwise."""
        rows = fields.items(name, most=1000)
        specs = tuple(cls.from_json(row, f"{fields.where}: {name}[{index}]") for index, row in enumerate(rows))
        if not specs or len({spec.name for spec in specs}) != len(specs):
            raise FormatError(f"{fields.where}: {name!r} is empty, or two of its tensors have one name")
        return specs


def _is_size(size: object) -> bool:
    if isinstance(size, bool):
        return False
    return (isinstance(size, int) and size >= 0) or (isinstance(size, str) and 0 < len(size) <= 100)
