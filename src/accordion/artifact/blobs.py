"""What any OCI manifest stands on, a signature's too."""

from __future__ import annotations

from accordion.artifact.manifest import MANIFEST_LIMIT, Descriptor
from accordion.artifact.strict_json import parse_object
from accordion.errors import FormatError

__all__ = ["blobs_of"]


def blobs_of(raw: bytes) -> list[Descriptor]:
    """Config and layers of a manifest, in its order; FormatError if these bytes are none."""
    data = parse_object(raw, "a manifest", MANIFEST_LIMIT)
    layers = data.get("layers")
    if not isinstance(layers, list):
        raise FormatError("a manifest names no layers")
    return [Descriptor.from_json(row, "a blob of a manifest") for row in (data.get("config"), *layers)]
