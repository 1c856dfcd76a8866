"""Versions written layer by layer, in ways in which this project's own packager writes none, though the contract allows or forbids them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "golden"))

import make  # type: ignore[import-not-found]
import numpy as np
from numpy.typing import NDArray

from accordion.artifact.archive import diff_id
from accordion.artifact.digest import sha256_digest
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import (
    ARTIFACT_TYPE,
    CONFIG_MEDIA_TYPE,
    FILEPATH,
    GRAPH_RAW,
    LADDER_JSON,
    MANIFEST_MEDIA_TYPE,
    WEIGHT_RAW,
)
from accordion.artifact.segment import encode_segment, parse_header
from accordion.artifact.strict_json import dump

__all__ = ["GRAPH_RAW", "WEIGHT_RAW", "X", "Y", "adding", "write"]

X, Y = [("x", "float32", ["n", 4])], [("y", "float32", ["n", 4])]
Row = tuple[str, bytes, str | None]


def adding(path: str, places: Sequence[str], seeds: Sequence[int]) -> tuple[list[bytes], bytes, NDArray[Any]]:
    """Segments of one matrix each, at `places` as the graph names them, the graph that multiplies by all of them, and their product."""
    files, nodes, product = make.Files(), [], np.eye(4, dtype=np.float32)
    segments, before = [], "x"
    for number, (place, seed) in enumerate(zip(places, seeds, strict=True)):
        matrix = make.numbers((4, 4), seed)
        data = encode_segment({"w": matrix})  # one name in all, so that the same matrix is the same bytes
        files.places[f"w{number}"] = (place, parse_header(data, len(data), place)["w"].start, matrix)
        segments.append(data)
        after = "y" if number == len(places) - 1 else f"h{number}"
        nodes.append(make.node("MatMul", f"{before} w{number}", after))
        product, before = product @ matrix, after
    return segments, files.graph(nodes, X, Y), product


def write(
    layout: Layout,
    tag: str,
    layers: Sequence[Row],
    rungs: Sequence[tuple[int, str]],
    *,
    quality: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    name: str | None = None,
    late: dict[int, tuple[str, int]] | None = None,
    task: str | None = None,
) -> None:
    """`layers` after the ladder as (media type, bytes, path or None); `rungs` as (n(k), graph). `name` instead of `tag` in the index.

    `late` gives configurations another graph, for integer kernels, that comes with so many layers.
    """
    size = 0
    while True:  # the ladder states byte counts that hold its own
        rows = []
        for k, (count, graph) in enumerate(rungs):
            row = make.rung(k, 16 * (k + 1), 16 * (k + 1), 0.5 + 0.1 * k)
            row |= {"layers": count, "graph": graph, "bytes": size + sum(len(data) for _, data, _ in layers[: count - 1])}
            row["quality"] |= quality or {}
            if k in (late or {}):
                path, layers_then = (late or {})[k]
                row["alternatives"] = [{"kernels": "integer", "graph": path, "quality": row["quality"], "layers": layers_then}]
            rows.append(row)
        ladder = make.ladder(rows, X, Y)
        data = dump(ladder if task is None else {**ladder, "task": task})
        if len(data) == size:
            break
        size = len(data)
    described, diffs = [], []
    for kind, content, path in [(LADDER_JSON, data, None), *layers]:
        layout.write_blob(content)
        notes = {"annotations": {FILEPATH: path}} if path else {}
        described.append({"mediaType": kind, "digest": sha256_digest(content), "size": len(content), **notes})
        diffs.append(diff_id(content) if kind.endswith("+zstd") else sha256_digest(content))
    fields = {"descriptor": {}, "modelfs": {"type": "layers", "diffIds": diffs}, "config": {}} if config is None else config
    digest, length = layout.write_blob(dump(fields))
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": {"mediaType": CONFIG_MEDIA_TYPE, "digest": digest, "size": length},
        "layers": described,
    }
    layout.add_manifest(tag, dump(document), artifact_type=ARTIFACT_TYPE)
    if name is not None:
        index = layout.path / "index.json"
        index.write_text(index.read_text().replace(f'"{tag}"', f'"{name}"'))
