"""The config blob, which ModelPack requires beside a manifest: what a model is called, and what its layers are uncompressed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from accordion.artifact.digest import check_digest
from accordion.artifact.strict_json import Fields, parse_object
from accordion.errors import FormatError

__all__ = ["CONFIG_LIMIT", "read_diff_ids"]

CONFIG_LIMIT = 16 * 2**20  # bytes

# Fields of ModelPack's schema by their kind. Later versions of it add some, so what is unknown in these two objects passes.
_DESCRIPTOR_TEXTS = ("family", "name", "docURL", "sourceURL", "version", "revision", "vendor", "title", "description")
_DESCRIPTOR_LISTS = ("authors", "licenses", "datasetsURL")
_CONFIG_TEXTS = ("architecture", "format", "paramSize", "precision", "quantization")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")  # RFC 3339, section 5.6


def read_diff_ids(raw: bytes) -> Sequence[str]:
    """The digests of all layers uncompressed, out of a config; FormatError unless it keeps ModelPack's schema."""
    fields = Fields(parse_object(raw, "the config", CONFIG_LIMIT), "the config")
    for name in ("descriptor", "config"):
        if not isinstance(fields.get(name), dict):
            raise FormatError(f"the config has no object {name!r}, which ModelPack requires")
    _check_kinds(Fields(fields.get("descriptor"), "the config's descriptor"), _DESCRIPTOR_TEXTS, _DESCRIPTOR_LISTS)
    _check_kinds(Fields(fields.get("config"), "the config's config"), _CONFIG_TEXTS, ())
    files = Fields(fields.get("modelfs"), "the config's modelfs")
    found = files.texts("diffIds")
    if files.text("type") != "layers":
        raise FormatError("the config's modelfs is not of the type 'layers'")
    for index, digest in enumerate(found):
        check_digest(digest, f"the config's diffId {index}")
    for part in (fields, files):
        if unknown := list(part.rest()):
            raise FormatError(f"{part.where} has the field {unknown[0]!r:.60}, which ModelPack does not know")
    return found


def _check_kinds(fields: Fields, texts: Sequence[str], lists: Sequence[str]) -> None:
    for name in texts:
        if name in fields.data and not isinstance(fields.get(name), str):
            raise FormatError(f"{fields.where}: {name!r} is not a text")
    for name in lists:
        if name in fields.data:
            fields.texts(name)
    if fields.data.get("name") == "":
        raise FormatError(f"{fields.where}: 'name' is empty")
    created = fields.data.get("createdAt")
    if "createdAt" in fields.data and not (isinstance(created, str) and _TIME.fullmatch(created)):
        raise FormatError(f"{fields.where}: 'createdAt' is not a date and time as RFC 3339 has them")
