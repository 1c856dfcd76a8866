"""Ladder, graphs and segments become one version of a package. Knows files and sizes, and no kind of network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import Any

from accordion.artifact.archive import compress, diff_id, pack
from accordion.artifact.bounds import Declared
from accordion.artifact.digest import sha256_digest
from accordion.artifact.graph import check_graph
from accordion.artifact.grouping import group_graphs
from accordion.artifact.ladder import Ladder
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import (
    CONFIG_MEDIA_TYPE,
    DOC_RAW,
    FILEPATH,
    GRAPHS_TAR_ZSTD,
    LADDER_JSON,
    LADDER_JSON_ZSTD,
    LADDER_PATH,
    WEIGHT_RAW,
    WEIGHT_TAR_ZSTD,
    Descriptor,
    Manifest,
)
from accordion.artifact.paths import check_path, check_unique
from accordion.artifact.strict_json import dump
from accordion.artifact.weights import SegmentFile, Weights, check_segment_bytes
from accordion.errors import FormatError

__all__ = ["ConfigurationParts", "build_version", "prefix_bytes"]

REACH, SPACES = 12, 100  # sizes of the ladder's layer, around the likely one, and paddings that are tried


@dataclass(frozen=True, slots=True)
class ConfigurationParts:
    """What one configuration adds: its graph, and segments by path. A graph that serves several is given with each of them.

    `alternatives` are further graphs of this configuration, by path; they travel with its own. `compress` lets a segment travel
    as tar+zstd where that is smaller.
    """

    graph_path: str
    graph: bytes
    segments: Mapping[str, bytes] = field(default_factory=dict)
    alternatives: Mapping[str, bytes] = field(default_factory=dict)
    compress: bool = False

    @property
    def graphs(self) -> dict[str, bytes]:
        """Its own graph and the alternatives."""
        return {self.graph_path: self.graph, **self.alternatives}


@dataclass(frozen=True, slots=True)
class _Layer:
    media_type: str
    data: bytes
    diff_id: str
    path: str | None = None

    def descriptor(self) -> Descriptor:
        annotations = {FILEPATH: self.path} if self.path is not None else {}
        return Descriptor(self.media_type, sha256_digest(self.data), len(self.data), annotations)


def build_version(
    layout: Layout,
    tag: str,
    *,
    ladder_fields: Mapping[str, Any],
    configurations: Sequence[ConfigurationParts],
    documents: Mapping[str, bytes] | None = None,
    name: str | None = None,
    created: str | None = None,
    archives: Sequence[int] | None = None,
) -> Manifest:
    """Writes one version into `layout` and lets `tag` name it.

    `ladder_fields` is the ladder as JSON values without `layers`, `graph` and `bytes`, which follow from here. Graphs travel in
    archives of several, each just before the first configuration that needs it; how many in each is searched for, or `archives`
    says it. The same values give the same bytes.

    Raises:
        FormatError: the parts break a rule of the specification; nothing is named.
        StorageError: the disk failed.
    """
    rows = ladder_fields["configurations"]
    if len(rows) != len(configurations) or not rows:
        raise FormatError(f"the ladder has {len(rows)} configurations, the parts are for {len(configurations)}")
    _check_parts(configurations, rows, documents or {})
    layers, needed = _arrange(configurations, archives)
    ladder = _ladder_layer(ladder_fields, configurations, layers, needed)
    everything = [ladder, *layers]
    for path, data in (documents or {}).items():
        everything.append(_Layer(DOC_RAW, data, sha256_digest(data), path))
    for layer in everything:
        layout.write_blob(layer.data)
    raw = dump(_config(name, created, rows[-1], everything))
    digest, size = layout.write_blob(raw)
    manifest = Manifest.build(Descriptor(CONFIG_MEDIA_TYPE, digest, size), [layer.descriptor() for layer in everything], {})
    layout.add_version(tag, manifest)
    return manifest


def prefix_bytes(ladder_fields: Mapping[str, Any], configurations: Sequence[ConfigurationParts]) -> list[int]:
    """The bytes that each configuration of such a version would take, as its ladder would state them; nothing is written."""
    layers, needed = _arrange(configurations)
    ladder = _ladder_layer(ladder_fields, configurations, layers, needed)
    ends = list(accumulate(len(layer.data) for layer in (ladder, *layers)))
    return [ends[count - 1] for count in needed]


_STATED = frozenset({"parameters", "macs", "macs_per"})


def _check_parts(
    configurations: Sequence[ConfigurationParts], rows: Sequence[Mapping[str, Any]], documents: Mapping[str, bytes]
) -> None:
    graphs: dict[str, bytes] = {}
    weights = Weights()
    for parts, row in zip(configurations, rows, strict=True):
        for path, data in parts.segments.items():
            if path in weights.files:
                raise FormatError(f"the segment {path!r} occurs twice")
            weights.files[path] = SegmentFile.of(data, check_segment_bytes(data, path))
        declared = Declared(row["parameters"], row["macs"], row["macs_per"]) if row.keys() >= _STATED else None
        for path, data in parts.graphs.items():
            if graphs.setdefault(path, data) != data:
                raise FormatError(f"two configurations have different graphs at {path!r}")
            check_graph(data, weights, path, declared)
    paths = [LADDER_PATH, *graphs, *weights.files, *documents]
    for path in paths:
        check_path(path)
    check_unique(paths)


def _arrange(configurations: Sequence[ConfigurationParts], archives: Sequence[int] | None = None) -> tuple[list[_Layer], list[int]]:
    """The layers after the ladder, and for each configuration how many of all layers it needs."""
    serving: dict[str, list[ConfigurationParts]] = {}
    for parts in configurations:
        serving.setdefault(parts.graph_path, []).append(parts)
    brought = [
        [_segment(path, data, compressed=parts.compress) for path, data in parts.segments.items()] for parts in configurations
    ]
    sizes = {id(parts): sum(len(layer.data) for layer in own) for parts, own in zip(configurations, brought, strict=True)}
    graphs = [served[0].graphs for served in serving.values()]
    counts = iter(archives or group_graphs(graphs, [[sizes[id(parts)] for parts in served] for served in serving.values()]))
    if archives is not None and sum(archives) != len(graphs):
        raise FormatError(f"archives of {sum(archives)} graphs are asked for, there are {len(graphs)}")
    waiting = iter(graphs)
    layers: list[_Layer] = []
    needed: list[int] = []
    packed: set[str] = set()
    for parts, own in zip(configurations, brought, strict=True):
        if parts.graph_path not in packed:
            group = {path: data for files in islice(waiting, next(counts)) for path, data in files.items()}
            packed |= set(group)
            data = pack(group)
            layers.append(_Layer(GRAPHS_TAR_ZSTD, data, diff_id(data)))
        layers += own
        needed.append(1 + len(layers))
    return layers, needed


def _segment(path: str, data: bytes, *, compressed: bool) -> _Layer:
    raw = _Layer(WEIGHT_RAW, data, sha256_digest(data), path)
    if not compressed:
        return raw
    packed = pack({path: data})
    smaller = len(packed) < len(data) + len(FILEPATH) + len(path)  # a raw layer's path stands in the manifest
    return _Layer(WEIGHT_TAR_ZSTD, packed, diff_id(packed)) if smaller else raw


def _ladder_layer(
    fields: Mapping[str, Any], configurations: Sequence[ConfigurationParts], layers: Sequence[_Layer], needed: Sequence[int]
) -> _Layer:
    """The ladder states byte counts that hold its own layer's size, so a size is sought at which it says the truth."""
    ends = [0]
    for layer in layers:
        ends.append(ends[-1] + len(layer.data))

    def stating(size: int) -> bytes:
        rows = []
        for row, parts, count in zip(fields["configurations"], configurations, needed, strict=True):
            rows.append({**row, "layers": count, "graph": parts.graph_path, "bytes": size + ends[count - 1]})
        return Ladder.parse(dump({**fields, "configurations": rows})).to_bytes()

    size = len(compress(stating(len(compress(stating(0))))))
    near = sorted(range(max(1, size - REACH), size + REACH + 1), key=lambda candidate: abs(candidate - size))
    for spaces in range(SPACES):  # behind the JSON, where they mean nothing, but turn the size a little
        for candidate in near:
            plain = stating(candidate) + b" " * spaces
            packed = compress(plain)
            if len(packed) == candidate and len(packed) < len(plain):
                return _Layer(LADDER_JSON_ZSTD, packed, sha256_digest(plain))
    size = len(stating(0))
    while len(plain := stating(size)) != size:  # grows with its own digits, so it settles
        size = max(size + 1, len(plain))
        if len(stating(size)) < size:
            plain = stating(size)
            return _Layer(LADDER_JSON, plain + b" " * (size - len(plain)), sha256_digest(plain + b" " * (size - len(plain))))
    return _Layer(LADDER_JSON, plain, sha256_digest(plain))


def _config(name: str | None, created: str | None, complete: Mapping[str, Any], layers: Sequence[_Layer]) -> dict[str, Any]:
    """The config blob after the ModelPack specification."""
    descriptor = {key: value for key, value in (("createdAt", created), ("name", name)) if value is not None}
    return {
        "descriptor": descriptor,
        "modelfs": {"type": "layers", "diffIds": [layer.diff_id for layer in layers]},
        "config": {
            "architecture": "elastic",
            "format": "onnx",
            "paramSize": str(complete["parameters"]),
            "precision": str(complete["precision"]),
        },
    }
