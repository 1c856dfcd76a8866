"""The manifest of one model version: OCI image manifest, CNCF ModelPack form, layers in delivery order."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from accordion.artifact.alternates import Alternate, is_alternate, read_alternates
from accordion.artifact.digest import check_digest, sha256_digest
from accordion.artifact.paths import check_path, check_unique
from accordion.artifact.strict_json import parse_object
from accordion.errors import DigestError, FormatError

__all__ = [
    "ARTIFACT_TYPE",
    "CONFIG_MEDIA_TYPE",
    "DOC_RAW",
    "FILEPATH",
    "GRAPHS_TAR_ZSTD",
    "GRAPH_RAW",
    "LADDER_JSON",
    "LADDER_JSON_ZSTD",
    "LADDER_PATH",
    "MANIFEST_LIMIT",
    "MANIFEST_MEDIA_TYPE",
    "RAW",
    "WEIGHT_RAW",
    "WEIGHT_TAR_ZSTD",
    "Descriptor",
    "Manifest",
]

MANIFEST_MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_MEDIA_TYPE = "application/vnd.cncf.model.config.v1+json"
LADDER_JSON = "application/vnd.accordion.ladder.v1+json"
LADDER_JSON_ZSTD = LADDER_JSON + "+zstd"
WEIGHT_RAW = "application/vnd.cncf.model.weight.v1.raw"
WEIGHT_TAR_ZSTD = "application/vnd.cncf.model.weight.v1.tar+zstd"
GRAPHS_TAR_ZSTD = "application/vnd.cncf.model.weight.config.v1.tar+zstd"
GRAPH_RAW = "application/vnd.cncf.model.weight.config.v1.raw"
DOC_RAW = "application/vnd.cncf.model.doc.v1.raw"
RAW = frozenset({WEIGHT_RAW, GRAPH_RAW, DOC_RAW})
"""Layers that are one file each, as it is."""

LAYER_TYPES = frozenset({LADDER_JSON, LADDER_JSON_ZSTD, WEIGHT_TAR_ZSTD, GRAPHS_TAR_ZSTD, *RAW})
_FURTHER = re.compile(r"application/vnd\.cncf\.model\.(weight|weight\.config|doc|code|dataset)\.v1\.(raw|tar|tar\+gzip|tar\+zstd)")

FILEPATH = "org.cncf.model.filepath"
LADDER_PATH = "ladder.json"

MANIFEST_LIMIT = 4 * 2**20  # bytes; the distribution specification asks registries to take manifests of 4 MiB
LAYER_LIMIT = 2**40  # bytes; keeps sums of sizes far from overflow anywhere
MOST_LAYERS = 10_000


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says of one blob. `size` in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str | None:
        """Where a raw layer's file lies, or None for layers whose members carry their own paths."""
        if self.media_type in (LADDER_JSON, LADDER_JSON_ZSTD):
            return LADDER_PATH
        if self.media_type in RAW:
            return self.annotations.get(FILEPATH)
        return None

    @property
    def only_carried(self) -> bool:
        """Whether it is of a type that ModelPack knows and no configuration can need: it travels with a package, unread."""
        return self.media_type not in LAYER_TYPES and _FURTHER.fullmatch(self.media_type) is not None

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        made: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            made["annotations"] = dict(self.annotations)
        return made

    @classmethod
    def from_json(cls, data: object, what: str) -> Descriptor:
        """FormatError naming `what` if a field is missing or out of bounds."""
        if not isinstance(data, dict):
            raise FormatError(f"{what} is not an object")
        media_type, size, annotations = data.get("mediaType"), data.get("size"), data.get("annotations") or {}
        if not isinstance(media_type, str) or not media_type or len(media_type) > 255:
            raise FormatError(f"{what} has no media type")
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= LAYER_LIMIT:
            raise FormatError(f"{what} has the size {str(size)[:40]!r}, not a number of bytes from 0 to {LAYER_LIMIT}")
        if not isinstance(annotations, dict) or not all(isinstance(v, str) for v in annotations.values()):
            raise FormatError(f"{what} has annotations that are not texts")
        return cls(media_type, check_digest(data.get("digest"), what), size, annotations)


@dataclass(frozen=True)
class Manifest:
    """A checked manifest. `raw` are its exact bytes, `digest` theirs."""

    raw: bytes
    digest: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each layer begins in the stream, in bytes, and at last the stream's length."""
        ends = [0]
        for layer in self.layers:
            ends.append(ends[-1] + layer.size)
        return tuple(ends)

    @cached_property
    def alternates(self) -> Mapping[int, Alternate]:
        """The layers that stand for others, by index."""
        return read_alternates(self.layers)

    @property
    def size(self) -> int:
        """Bytes of the manifest itself."""
        return len(self.raw)

    @classmethod
    def build(cls, config: Descriptor, layers: Sequence[Descriptor], annotations: Mapping[str, str]) -> Manifest:
        """The manifest over these blobs; FormatError as `parse`."""
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_MEDIA_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
        if annotations:
            document["annotations"] = dict(annotations)
        return cls.parse(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode())

    @classmethod
    def parse(cls, raw: bytes, *, digest: str | None = None) -> Manifest:
        """Checks `raw` against `digest` and the specification. DigestError, FormatError."""
        if len(raw) > MANIFEST_LIMIT:
            raise FormatError(f"the manifest has {len(raw)} bytes, more than the {MANIFEST_LIMIT} allowed")
        actual = sha256_digest(raw)
        if digest is not None and actual != digest:
            raise DigestError(f"the manifest is corrupt: its digest is {actual}, promised is {digest}")
        data = parse_object(raw, "the manifest", MANIFEST_LIMIT)
        if data.get("schemaVersion") != 2 or data.get("mediaType", MANIFEST_MEDIA_TYPE) != MANIFEST_MEDIA_TYPE:
            raise FormatError("the manifest is not an OCI image manifest of schema version 2")
        if data.get("artifactType") != ARTIFACT_TYPE:
            raise FormatError(f"the manifest's artifactType is {str(data.get('artifactType'))[:80]!r}, not {ARTIFACT_TYPE}")
        config = Descriptor.from_json(data.get("config"), "the manifest's config")
        if config.media_type != CONFIG_MEDIA_TYPE:
            raise FormatError(f"the manifest's config is {config.media_type!r}, not {CONFIG_MEDIA_TYPE}")
        rows = data.get("layers")
        if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_LAYERS:
            raise FormatError(f"the manifest needs 1 to {MOST_LAYERS} layers")
        layers = tuple(Descriptor.from_json(row, f"layer {index}") for index, row in enumerate(rows))
        if layers[0].media_type not in (LADDER_JSON, LADDER_JSON_ZSTD):
            raise FormatError(f"the first layer is {layers[0].media_type!r}, not the ladder")
        paths = []
        for index, layer in enumerate(layers):
            if index and layer.media_type in (LADDER_JSON, LADDER_JSON_ZSTD):
                raise FormatError(f"layer {index} is a second ladder")
            if layer.media_type not in LAYER_TYPES and not layer.only_carried and not is_alternate(layer.media_type):
                raise FormatError(f"layer {index} has the unknown media type {layer.media_type!r}")
            if layer.media_type in RAW or layer.path is not None:
                paths.append(check_path(layer.path, f"layer {index}"))
        check_unique(paths)
        read_alternates(layers)
        annotations = data.get("annotations") or {}
        if not isinstance(annotations, dict) or not all(isinstance(v, str) for v in annotations.values()):
            raise FormatError("the manifest has annotations that are not texts")
        return cls(raw, actual, config, layers, annotations)
