"""Packages on disk, made by hand: small, with known bytes, two versions that share blobs, and a signature."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accordion.artifact.digest import sha256_digest
from accordion.artifact.layout import Layout, signature_tag
from accordion.artifact.manifest import Descriptor, Manifest

LADDER = "application/vnd.accordion.ladder.v1+json"
RAW = "application/vnd.cncf.model.weight.v1.raw"
DOC = "application/vnd.cncf.model.doc.v1.raw"
CONFIG = "application/vnd.cncf.model.config.v1+json"
PATH = "org.cncf.model.filepath"


@dataclass(frozen=True)
class Built:
    """A package directory with the versions that are in it, by tag."""

    path: Path
    manifests: dict[str, Manifest]

    @property
    def manifest(self) -> Manifest:
        return next(iter(self.manifests.values()))

    def blob(self, digest: str) -> bytes:
        return Layout(self.path).blob_path(digest).read_bytes()

    def stream(self, tag: str = "latest") -> bytes:
        return b"".join(self.blob(layer.digest) for layer in self.manifests[tag].layers)


def rung(index: int, layers: int, size: int) -> dict[str, Any]:
    value = round(0.6 + 0.1 * index, 3)
    return {
        "index": index,
        "blocks": {"total": index, "by_stage": [index]},
        "precision": "float32",
        "layers": layers,
        "graph": f"{index:03}.onnx",
        "bytes": size,
        "parameters": 100 * (index + 1),
        "macs": 1000 * (index + 1),
        "macs_per": "input",
        "quality": {
            "metric": "accuracy",
            "direction": "higher",
            "unit": "1",
            "value": value,
            "interval": [value - 0.02, value + 0.02],
            "confidence": 0.95,
            "interval_method": "clopper-pearson",
            "samples": 1000,
            "dataset": "digits",
            "split": "test",
        },
    }


def ladder_bytes(segments: list[bytes]) -> bytes:
    """A ladder over these segments; its own length stands in it, so it is padded to a round one."""
    size = 8192

    def made() -> bytes:
        rungs = [rung(k, k + 2, size + sum(map(len, segments[: k + 1]))) for k in range(len(segments))]
        return json.dumps(
            {
                "schema_version": 1,
                "task": "image-classification",
                "order": "right-to-left",
                "inputs": [{"name": "image", "dtype": "float32", "shape": ["n", 3, 32, 32]}],
                "outputs": [{"name": "logits", "dtype": "float32", "shape": ["n", 10]}],
                "configurations": rungs,
            }
        ).encode()

    return made().ljust(size)


def add_version(layout: Layout, tag: str, segments: list[bytes], document: bytes = b"# A network\n") -> Manifest:
    def stored(media_type: str, data: bytes, path: str | None = None) -> Descriptor:
        digest, size = layout.write_blob(data)
        return Descriptor(media_type, digest, size, {PATH: path} if path else {})

    layers = [stored(LADDER, ladder_bytes(segments))]
    layers += [stored(RAW, data, f"{index:03}.safetensors") for index, data in enumerate(segments)]
    layers.append(stored(DOC, document, "README.md"))
    manifest = Manifest.build(stored(CONFIG, b'{"modelfs":{}}'), layers, {})
    layout.add_version(tag, manifest)
    return manifest


def add_signature(layout: Layout, manifest: Manifest, *, subject: bool = False) -> str:
    """A signature as cosign writes it, under its tag; returns its manifest's digest."""
    payload = b'{"critical":{}}'
    config = b"{}"
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": layout.write_blob(config)[0],
            "size": len(config),
        },
        "layers": [
            {
                "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
                "digest": layout.write_blob(payload)[0],
                "size": len(payload),
            }
        ],
    }
    if subject:
        fields["subject"] = {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": manifest.digest,
            "size": len(manifest.raw),
        }
    raw = json.dumps(fields).encode()
    layout.add_manifest(signature_tag(manifest.digest), raw)
    return sha256_digest(raw)


def segment(index: int, version: int = 0, size: int = 1000) -> bytes:
    return bytes((index * 31 + version * 7 + position) % 251 for position in range(size + index))
