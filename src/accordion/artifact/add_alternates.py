"""A version of a package gets alternates: layers behind all others, and the manifest and config that name them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from accordion.artifact.alternates import ALTERNATE, DIGEST, OF, SIZE
from accordion.artifact.archive import unpack, unpacked_limit
from accordion.artifact.digest import sha256_digest
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import FILEPATH, GRAPHS_TAR_ZSTD, WEIGHT_RAW, WEIGHT_TAR_ZSTD, Descriptor, Manifest
from accordion.artifact.strict_json import dump
from accordion.errors import FormatError

__all__ = ["add_alternates"]

ROW = 300  # bytes that an alternate adds to the manifest, which every device fetches: one that saves less is left out
CONFIG_LIMIT = 16 * 2**20


def add_alternates(layout: Layout, tag: str, encoding: str, encode: Callable[[bytes], bytes]) -> Manifest:
    """Writes the version `tag` with alternates, and lets `tag` name that; returns its manifest, the same one if nothing pays.

    `encode` makes an alternate's content of a segment. Layers of weights with several files get none. From the first alternate on,
    graphs stand once more between them, in the order of delivery. The blobs of the manifest and config before stay.

    Raises:
        UsageError: there is no such version.
        FormatError: it is not sound, or has alternates already.
        StorageError: the disk failed.
    """
    manifest = layout.manifest(tag)
    if manifest.alternates:
        raise FormatError(f"version {tag} of {layout.path} has alternates already")
    ladder = layout.ladder(manifest)
    ladder.check_against(manifest)
    fields = json.loads(layout.read_blob(manifest.config, limit=CONFIG_LIMIT))
    diff_ids = list(fields["modelfs"]["diffIds"])
    found: list[tuple[Descriptor, str]] = []  # each with its diffId
    for layer, diff_id in zip(manifest.layers[: ladder.configurations[-1].layers], tuple(diff_ids), strict=False):
        if layer.media_type == GRAPHS_TAR_ZSTD and found:
            found.append((layer, diff_id))
        elif layer.media_type in (WEIGHT_RAW, WEIGHT_TAR_ZSTD) and (made := _alternate(layout, layer, encoding, encode)):
            found.append((made, made.digest))
    while found and found[-1][0].media_type == GRAPHS_TAR_ZSTD:
        found.pop()
    if not found:
        return manifest
    fields["modelfs"]["diffIds"] = diff_ids + [diff_id for _, diff_id in found]
    digest, size = layout.write_blob(dump(fields))
    config = Descriptor(manifest.config.media_type, digest, size, manifest.config.annotations)
    made_manifest = Manifest.build(config, [*manifest.layers, *(layer for layer, _ in found)], manifest.annotations)
    layout.add_version(tag, made_manifest)
    return made_manifest


def _alternate(layout: Layout, layer: Descriptor, encoding: str, encode: Callable[[bytes], bytes]) -> Descriptor | None:
    """The blob that stands for `layer`, written; None where it would save nothing."""
    notes = {OF: layer.digest}
    with layout.blob_path(layer.digest).open("rb") as stream:
        if layer.media_type == WEIGHT_RAW:
            segment = stream.read()
        else:
            files: dict[str, Any] = dict(unpack(stream, limit=unpacked_limit(layer.size), what=f"the layer {layer.digest}"))
            if len(files) != 1:
                return None
            ((path, segment),) = files.items()
            notes |= {FILEPATH: path, DIGEST: sha256_digest(segment), SIZE: str(len(segment))}
    content = encode(segment)
    if len(content) + ROW >= layer.size:
        return None
    digest, size = layout.write_blob(content)
    return Descriptor(ALTERNATE + encoding, digest, size, notes)
