"""`state.json`: what a model folder holds, as it was checked when it arrived."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from accordion.artifact.digest import check_digest
from accordion.artifact.paths import check_path
from accordion.artifact.strict_json import Fields, dump, parse_object
from accordion.errors import FormatError

__all__ = ["STATE_LIMIT", "FileEntry", "State", "check_own_path", "packed_path"]

SCHEMA_VERSION = 1
STATE_LIMIT = 64 * 2**20
# Layers that arrive packed are kept as they came where signatures count: their digests are what was signed.
_PACKED = re.compile(r"\.packed/[0-9a-f]{64}")


def packed_path(digest: str) -> str:
    """Where a model folder keeps the layer with this digest as it came. No path of a package begins with a dot."""
    return ".packed/" + check_digest(digest, "a layer").removeprefix("sha256:")


def check_own_path(path: object, where: str) -> str:
    """`path`, if a model folder may have such a file: one of the package, or a packed layer. FormatError otherwise."""
    return str(path) if isinstance(path, str) and _PACKED.fullmatch(path) else check_path(path, where)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of the folder: its size and SHA-256, and the digest of the layer that brought it."""

    size: int
    sha256: str
    layer: str

    def to_json(self) -> dict[str, Any]:
        return {"size": self.size, "sha256": self.sha256, "layer": self.layer}


@dataclass(frozen=True, slots=True)
class State:
    """`configuration` is the largest complete one, None before the first; the first `layers_complete` layers are there."""

    name: str
    url: str
    reference: str | None
    manifest: str
    configuration: int | None
    layers_complete: int
    files: Mapping[str, FileEntry] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        return dump(
            {
                "schema_version": SCHEMA_VERSION,
                "name": self.name,
                "url": self.url,
                "reference": self.reference,
                "manifest": self.manifest,
                "configuration": self.configuration,
                "layers_complete": self.layers_complete,
                "files": {path: entry.to_json() for path, entry in self.files.items()},
            }
        )

    @classmethod
    def parse(cls, data: bytes, where: str) -> State:
        """FormatError naming `where` if a field is missing or makes no sense."""
        fields = Fields(parse_object(data, where, STATE_LIMIT), where)
        if fields.get("schema_version") != SCHEMA_VERSION:
            raise FormatError(f"{where} is of another version of this program")
        rows = fields.get("files")
        if not isinstance(rows, dict):
            raise FormatError(f"{where}: 'files' is not an object")
        files = {}
        for path, row in rows.items():
            entry = Fields(row, f"{where}: {path!r:.80}")
            layer = check_digest(entry.get("layer"), where)
            files[check_own_path(path, where)] = FileEntry(entry.whole("size"), check_digest(entry.get("sha256"), where), layer)
        return cls(
            name=fields.text("name"),
            url=fields.text("url"),
            reference=fields.text("reference") if fields.has("reference") else None,
            manifest=check_digest(fields.get("manifest"), where),
            configuration=fields.whole("configuration") if fields.has("configuration") else None,
            layers_complete=fields.whole("layers_complete"),
            files=files,
        )
