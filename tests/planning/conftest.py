"""A version as values: a manifest of layers of given sizes, and a ladder over it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from accordion.artifact.digest import sha256_digest
from accordion.artifact.ladder import Ladder
from accordion.artifact.manifest import Manifest

Version = tuple[Manifest, Ladder]
Maker = Callable[..., Version]


def descriptor(media_type: str, content: str, size: int, path: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"mediaType": media_type, "digest": sha256_digest(content.encode()), "size": size}
    if path:
        made["annotations"] = {"org.cncf.model.filepath": path}
    return made


def rung(index: int, layers: int, size: int, value: float, direction: str, extra: dict[str, Any]) -> dict[str, Any]:
    return {
        "index": index,
        "blocks": {"total": index, "by_stage": [index]},
        "precision": "float32",
        "layers": layers,
        "graph": f"{index:03}.onnx",
        "bytes": size,
        "parameters": 10 * (index + 1),
        "macs": 1000 * (index + 1),
        "macs_per": "input",
        "quality": {
            "metric": "accuracy" if direction == "higher" else "perplexity",
            "direction": direction,
            "unit": "1",
            "value": value,
            "interval": [value - 0.02, value + 0.02],
            "confidence": 0.95,
            "interval_method": "clopper-pearson",
            "samples": 1000,
            "dataset": "digits",
            "split": "test",
        },
        **extra,
    }


@pytest.fixture
def version() -> Maker:
    """version(sizes, qualities, ...): layer 0 is the ladder, layer k+1 what configuration k adds, then a document.

    `contents` names each layer's content, so that versions share those of equal names.
    """

    def make(
        sizes: Sequence[int],
        qualities: Sequence[float],
        *,
        contents: Sequence[str] | None = None,
        direction: str = "higher",
        extras: Sequence[dict[str, Any]] | None = None,
    ) -> Version:
        contents = contents or [f"layer {index}" for index in range(len(sizes))]
        layers = [descriptor("application/vnd.accordion.ladder.v1+json", contents[0], sizes[0], None)]
        for index, size in enumerate(sizes[1:], 1):
            layers.append(descriptor("application/vnd.cncf.model.weight.v1.raw", contents[index], size, f"{index:03}.safetensors"))
        layers.append(descriptor("application/vnd.cncf.model.doc.v1.raw", "document", 77, "README.md"))
        manifest = Manifest.parse(
            json.dumps(
                {
                    "schemaVersion": 2,
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "artifactType": "application/vnd.cncf.model.manifest.v1+json",
                    "config": descriptor("application/vnd.cncf.model.config.v1+json", "config", 99),
                    "layers": layers,
                }
            ).encode()
        )
        rungs = [
            rung(k, k + 2, sum(sizes[: k + 2]), value, direction, (extras or [{}] * len(qualities))[k])
            for k, value in enumerate(qualities)
        ]
        ladder = Ladder.parse(
            json.dumps(
                {
                    "schema_version": 1,
                    "task": "image-classification",
                    "order": "right-to-left",
                    "inputs": [{"name": "image", "dtype": "float32", "shape": ["n", 3, 32, 32]}],
                    "outputs": [{"name": "logits", "dtype": "float32", "shape": ["n", 10]}],
                    "configurations": rungs,
                }
            ).encode()
        )
        return manifest, ladder

    return make
