"""The ladder: the ordered configurations of a network, each with its measured quality and its cost (the paper's look-up table).

Which files a layer holds is not written here: raw layers say it in the manifest, archives when they are unpacked, and a device
keeps its own books of what it has. Saying it once more would cost bytes at the very start of every delivery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from accordion.artifact.alternative import Alternative
from accordion.artifact.archive import decompress
from accordion.artifact.bounds import Declared
from accordion.artifact.manifest import LADDER_JSON_ZSTD, Descriptor, Manifest
from accordion.artifact.paths import check_path
from accordion.artifact.quality import Quality
from accordion.artifact.strict_json import Fields, dump, parse_object
from accordion.artifact.tensor_spec import TensorSpec
from accordion.errors import FormatError

__all__ = [
    "LADDER_LIMIT",
    "Alternative",
    "Blocks",
    "Configuration",
    "Ladder",
    "Quality",
    "TensorSpec",
    "decode_ladder",
    "ladder_file",
]

SCHEMA_VERSION = 1
LADDER_LIMIT = 16 * 2**20  # bytes of JSON; 200 configurations take about 0.1 MB
MOST_CONFIGURATIONS = 10_000


@dataclass(frozen=True, slots=True)
class Blocks:
    """How many blocks a configuration runs, in all and by stage."""

    total: int
    by_stage: tuple[int, ...]
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        """As it stands in the ladder."""
        return {"total": self.total, "by_stage": list(self.by_stage), **self.extra}

    @classmethod
    def from_json(cls, data: object, where: str) -> Blocks:
        """FormatError naming `where` if a field is missing or makes no sense."""
        fields = Fields(data, where)
        made = cls(fields.whole("total"), fields.wholes("by_stage"), fields.rest())
        if made.by_stage and sum(made.by_stage) != made.total:
            raise FormatError(f"{where}: the stages have {sum(made.by_stage)} blocks together, not {made.total}")
        return made


@dataclass(frozen=True, slots=True)
class Configuration:
    """One rung. `layers` is n(k); `bytes` the sum of the sizes of the first n(k) layers; `macs` counts for one `macs_per`."""

    index: int
    blocks: Blocks
    precision: str
    layers: int
    graph: str
    bytes: int
    parameters: int
    macs: int
    macs_per: str
    quality: Quality
    inputs: tuple[TensorSpec, ...] | None = None
    outputs: tuple[TensorSpec, ...] | None = None
    alternatives: tuple[Alternative, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def alternatives_within(self, layers: int) -> tuple[Alternative, ...]:
        """Those whose graphs are among the first `layers` layers, at least n(k)."""
        return tuple(one for one in self.alternatives if one.layers <= layers)

    def late_alternatives(self) -> tuple[Alternative, ...]:
        """Those whose graphs come later than the configuration."""
        return tuple(one for one in self.alternatives if one.layers > self.layers)

    def to_json(self) -> dict[str, Any]:
        """As it stands in the ladder."""
        made: dict[str, Any] = {
            "index": self.index,
            "blocks": self.blocks.to_json(),
            "precision": self.precision,
            "layers": self.layers,
            "graph": self.graph,
            "bytes": self.bytes,
            "parameters": self.parameters,
            "macs": self.macs,
            "macs_per": self.macs_per,
            "quality": self.quality.to_json(),
        }
        for name, specs in (("inputs", self.inputs), ("outputs", self.outputs)):
            if specs is not None:
                made[name] = [spec.to_json() for spec in specs]
        if self.alternatives:
            made["alternatives"] = [one.to_json() for one in self.alternatives]
        return {**made, **self.extra}

    @classmethod
    def from_json(cls, data: object, where: str) -> Configuration:
        """FormatError naming `where` if a field is missing or makes no sense."""
        fields = Fields(data, where)
        return cls(
            index=fields.whole("index"),
            blocks=Blocks.from_json(fields.get("blocks"), f"{where}: blocks"),
            precision=fields.text("precision"),
            layers=fields.whole("layers", least=1),
            graph=check_path(fields.get("graph"), f"{where}: graph"),
            bytes=fields.whole("bytes"),
            parameters=fields.whole("parameters"),
            macs=fields.whole("macs"),
            macs_per=fields.text("macs_per"),
            quality=Quality.from_json(fields.get("quality"), f"{where}: quality"),
            inputs=TensorSpec.from_list(fields, "inputs") if fields.has("inputs") else None,
            outputs=TensorSpec.from_list(fields, "outputs") if fields.has("outputs") else None,
            alternatives=Alternative.from_list(fields, "alternatives", where) if fields.has("alternatives") else (),
            extra=fields.rest(),
        )


@dataclass(frozen=True, slots=True)
class Ladder:
    """The whole file. Fields that this version does not know are kept in `extra`."""

    task: str
    order: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    configurations: tuple[Configuration, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """K, the number of configurations."""
        return len(self.configurations)

    def inputs_of(self, k: int) -> tuple[TensorSpec, ...]:
        """What configuration `k` takes."""
        return self.configurations[k].inputs or self.inputs

    def outputs_of(self, k: int) -> tuple[TensorSpec, ...]:
        """What configuration `k` gives."""
        return self.configurations[k].outputs or self.outputs

    def declared(self, k: int) -> Declared:
        """What the graphs of configuration `k` are held against."""
        rung = self.configurations[k]
        return Declared(rung.parameters, rung.macs, rung.macs_per, self.inputs_of(k), self.outputs_of(k))

    def complete_within(self, layers: int) -> int | None:
        """The largest configuration that the first `layers` layers hold, or None."""
        return max((one.index for one in self.configurations if one.layers <= layers), default=None)

    def to_json(self) -> dict[str, Any]:
        """JSON values, as `parse` reads them."""
        return {
            "schema_version": SCHEMA_VERSION,
            "task": self.task,
            "order": self.order,
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "configurations": [configuration.to_json() for configuration in self.configurations],
            **self.extra,
        }

    def to_bytes(self) -> bytes:
        """Compact JSON."""
        return dump(self.to_json())

    @classmethod
    def parse(cls, data: bytes) -> Ladder:
        """Checks every field; FormatError says which is wrong."""
        fields = Fields(parse_object(data, "the ladder", LADDER_LIMIT), "the ladder")
        if isinstance(version := fields.get("schema_version"), bool) or version != SCHEMA_VERSION:
            raise FormatError(f"the ladder has schema version {version!r:.40}; this program reads {SCHEMA_VERSION}")
        rows = fields.items("configurations", most=MOST_CONFIGURATIONS)
        configurations = tuple(
            Configuration.from_json(row, f"the ladder's configuration {index}") for index, row in enumerate(rows)
        )
        _check_nested(configurations)
        task, order = fields.text("task"), fields.text("order")
        inputs, outputs = TensorSpec.from_list(fields, "inputs"), TensorSpec.from_list(fields, "outputs")
        return cls(task, order, inputs, outputs, configurations, fields.rest())

    def check_against(self, manifest: Manifest) -> None:
        """FormatError unless every n(k) and byte count is what the manifest's layers say and no alternate is needed."""
        for configuration in self.configurations:
            if configuration.layers > len(manifest.layers):
                raise FormatError(
                    f"configuration {configuration.index} needs {configuration.layers} layers, "
                    f"the manifest has {len(manifest.layers)}"
                )
            if configuration.bytes != (actual := manifest.offsets[configuration.layers]):
                raise FormatError(
                    f"configuration {configuration.index} says {configuration.bytes} bytes, "
                    f"its {configuration.layers} layers have {actual}"
                )
        last = self.configurations[-1].layers
        for configuration in self.configurations:
            if late := [one for one in configuration.alternatives if one.layers > last]:
                raise FormatError(
                    f"configuration {configuration.index}: the graph for {late[0].kernels} kernels comes with {late[0].layers} "
                    "layers, after all that any configuration needs"
                )
        if carried := [index for index, layer in enumerate(manifest.layers[:last]) if layer.only_carried]:
            raise FormatError(
                f"layer {carried[0]} is {manifest.layers[carried[0]].media_type}, which no configuration can need, but stands "
                "before the end of what the configurations need"
            )
        if needed := [index for index in manifest.alternates if index < last]:
            raise FormatError(f"layer {needed[0]} is an alternate, but stands before the end of what the configurations need")


def _check_nested(configurations: Sequence[Configuration]) -> None:
    if not configurations:
        raise FormatError("the ladder has no configurations")
    before: Configuration | None = None
    for index, configuration in enumerate(configurations):
        if configuration.index != index:
            raise FormatError(f"the ladder's configuration {index} has the index {configuration.index}")
        qualities = [configuration.quality, *(one.quality for one in configuration.alternatives)]
        if not all(quality.comparable(configurations[0].quality) for quality in qualities):
            raise FormatError(f"configuration {index} is measured by another metric than configuration 0")
        if before is not None and (configuration.layers < before.layers or configuration.bytes < before.bytes):
            raise FormatError(f"configuration {index} needs fewer layers or bytes than the one before: they must be nested")
        before = configuration


def decode_ladder(descriptor: Descriptor, data: bytes) -> Ladder:
    """The ladder in a layer's bytes, decompressed if its media type says so, never beyond `LADDER_LIMIT`."""
    return Ladder.parse(ladder_file(descriptor, data))


def ladder_file(descriptor: Descriptor, data: bytes) -> bytes:
    """The bytes of `ladder.json` out of its layer; FormatError as `decode_ladder`."""
    if descriptor.media_type == LADDER_JSON_ZSTD:
        return decompress(data, limit=LADDER_LIMIT, what="the ladder")
    return data
