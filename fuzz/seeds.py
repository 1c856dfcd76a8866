"""Inputs to begin with, out of the golden packages."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from accordion.artifact.archive import unpack, unpacked_limit
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import GRAPHS_TAR_ZSTD, LADDER_JSON_ZSTD, WEIGHT_RAW, Manifest
from accordion.artifact.strict_json import dump

__all__ = ["PACKAGES", "archives", "graphs", "indices", "ladders", "manifests", "segment_files", "segments", "states"]

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
PACKAGES = ("precision", "trees", "cache")


@cache
def _version(name: str) -> tuple[Manifest, tuple[bytes, ...]]:
    """A golden package's manifest and its layers' bytes."""
    layout = Layout.open(GOLDEN / name)
    manifest = layout.manifest()
    return manifest, tuple(layout.read_blob(layer, limit=2**20) for layer in manifest.layers)


def manifests() -> list[bytes]:
    """One of each package."""
    return [_version(name)[0].raw for name in PACKAGES]


def indices() -> list[bytes]:
    """`index.json`, with one version and with several."""
    return [(GOLDEN / name / "index.json").read_bytes() for name in ("precision", "versions")]


def ladders() -> list[bytes]:
    """The layers as they travel, one of them compressed, and one as plain JSON."""
    from accordion.artifact.ladder import ladder_file

    made = []
    for name in PACKAGES:
        manifest, layers = _version(name)
        made.append(ladder_file(manifest.layers[0], layers[0]))
        if manifest.layers[0].media_type == LADDER_JSON_ZSTD:
            made.append(layers[0])
    return made


def segments() -> list[bytes]:
    """Raw segments."""
    return [
        data for name in PACKAGES for layer, data in zip(*_parts(name), strict=True) if layer == WEIGHT_RAW and len(data) < 3000
    ]


def archives() -> list[bytes]:
    """Layers of graphs."""
    return [data for name in PACKAGES for layer, data in zip(*_parts(name), strict=True) if layer == GRAPHS_TAR_ZSTD]


@cache
def graphs(name: str) -> dict[str, bytes]:
    """Path → graph of a package."""
    import io

    made: dict[str, bytes] = {}
    for kind, data in zip(*_parts(name), strict=True):
        if kind == GRAPHS_TAR_ZSTD:
            made.update(unpack(io.BytesIO(data), limit=unpacked_limit(len(data)), what=name))
    return made


@cache
def segment_files(name: str) -> dict[str, bytes]:
    """Path → segment of a package."""
    manifest, layers = _version(name)
    return {str(layer.path): data for layer, data in zip(manifest.layers, layers, strict=True) if layer.media_type == WEIGHT_RAW}


def states() -> list[bytes]:
    """A model folder's `state.json`, of an empty folder and of a full one."""
    made = []
    for name in ("precision", "trees"):
        manifest, layers = _version(name)
        files = {
            str(layer.path): {"size": len(data), "sha256": layer.digest, "layer": layer.digest}
            for layer, data in zip(manifest.layers, layers, strict=True)
            if layer.path is not None
        }
        whole = {"name": name, "url": "http://127.0.0.1:1", "reference": "latest", "manifest": manifest.digest}
        made.append(dump({"schema_version": 1, **whole, "configuration": 1, "layers_complete": len(layers), "files": files}))
        made.append(dump({"schema_version": 1, **whole, "configuration": None, "layers_complete": 0, "files": {}}))
    return made


def _parts(name: str) -> tuple[list[str], list[bytes]]:
    manifest, layers = _version(name)
    return [layer.media_type for layer in manifest.layers], list(layers)
