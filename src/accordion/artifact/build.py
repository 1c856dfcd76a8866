"""Ladder, graphs and segments become one version of a package. Knows files and sizes, and no kind of network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from accordion.artifact.archive import compress, diff_id, pack
from accordion.artifact.bounds import Declared
from accordion.artifact.digest import sha256_digest
from accordion.artifact.graph import check_graph
from accordion.artifact.grouping import LAYER, Division, divide_graphs
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
from accordion.artifact.replaced import unread_bytes
from accordion.artifact.strict_json import Fields, dump
from accordion.artifact.tensor_spec import TensorSpec
from accordion.artifact.weights import SegmentFile, Weights, check_segment_bytes
from accordion.errors import FormatError

__all__ = ["ConfigurationParts", "build_version", "prefix_bytes"]

BASE = 700  # bytes of manifest and config beside what they say of each layer but the ladder
REACH, SPACES = 12, 100  # sizes of the ladder's layer, around the likely one, and paddings that are tried


@dataclass(frozen=True, slots=True)
class ConfigurationParts:
    """What one configuration adds: its graph, and segments by path. A graph that serves several is given with each of them.

    `alternatives` are further graphs of this configuration, by path; they travel with its own, or later where a prefix would else
    be too much beside its weights. `compress` lets a segment travel as tar+zstd where that is smaller.
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
    says it, and an alternative may come later than its configuration. The same values give the same bytes.

    Raises:
        FormatError: the parts break a rule of the specification; nothing is named.
        StorageError: the disk failed.
    """
    rows = ladder_fields["configurations"]
    if len(rows) != len(configurations) or not rows:
        raise FormatError(f"the ladder has {len(rows)} configurations, the parts are for {len(configurations)}")
    _check_parts(configurations, ladder_fields, documents or {})
    arranged = _arrange(ladder_fields, configurations, archives)
    ladder = _ladder_layer(ladder_fields, configurations, arranged)
    everything = [ladder, *arranged.layers]
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
    arranged = _arrange(ladder_fields, configurations)
    ladder = _ladder_layer(ladder_fields, configurations, arranged)
    ends = list(accumulate(len(layer.data) for layer in (ladder, *arranged.layers)))
    return [ends[count - 1] for count in arranged.needed]


_STATED = frozenset({"parameters", "macs", "macs_per"})


def _check_parts(configurations: Sequence[ConfigurationParts], fields: Mapping[str, Any], documents: Mapping[str, bytes]) -> None:
    graphs: dict[str, bytes] = {}
    weights = Weights()
    for parts, row in zip(configurations, fields["configurations"], strict=True):
        for path, data in parts.segments.items():
            if path in weights.files:
                raise FormatError(f"the segment {path!r} occurs twice")
            weights.files[path] = SegmentFile.of(data, check_segment_bytes(data, path))
        declared = _declared(fields, row) if row.keys() >= _STATED else None
        for path, data in parts.graphs.items():
            if graphs.setdefault(path, data) != data:
                raise FormatError(f"two configurations have different graphs at {path!r}")
            check_graph(data, weights, path, declared)
    paths = [LADDER_PATH, *graphs, *weights.files, *documents]
    for path in paths:
        check_path(path)
    check_unique(paths)


def _declared(fields: Mapping[str, Any], row: Mapping[str, Any]) -> Declared:
    specs = {
        name: TensorSpec.from_list(Fields(row if row.get(name) is not None else fields, "the ladder"), name)
        for name in ("inputs", "outputs")
    }
    return Declared(row["parameters"], row["macs"], row["macs_per"], specs["inputs"], specs["outputs"])


@dataclass(frozen=True, slots=True)
class _Arranged:
    """The layers after the ladder; how many of all layers each configuration needs; with how many each graph is there, by path."""

    layers: list[_Layer]
    needed: list[int]
    graphs: dict[str, int]


def _arrange(
    fields: Mapping[str, Any], configurations: Sequence[ConfigurationParts], counts: Sequence[int] | None = None
) -> _Arranged:
    serving: dict[str, list[int]] = {}
    for k, parts in enumerate(configurations):
        serving.setdefault(parts.graph_path, []).append(k)
    if counts is not None and sum(counts) != len(serving):
        raise FormatError(f"archives of {sum(counts)} graphs are asked for, there are {len(serving)}")
    brought = [[_segment(path, data, compressed=one.compress) for path, data in one.segments.items()] for one in configurations]
    headers = [sum(_header_size(data, compressed=one.compress) for data in one.segments.values()) for one in configurations]
    weights = [sum(len(layer.data) for layer in own) - size for own, size in zip(brought, headers, strict=True)]
    beside = [len(compress(dump(dict(fields)))) + BASE + LAYER * sum(map(len, brought)) + headers[0], *headers[1:]]
    gone = _replaced(configurations, brought)
    graphs = [{path: configurations[ks[0]].graph} for path, ks in serving.items()]
    alternatives = [{p: data for k in ks for p, data in configurations[k].alternatives.items()} for ks in serving.values()]
    division = divide_graphs(
        graphs,
        alternatives,
        [[weights[k] for k in ks] for ks in serving.values()],
        [[beside[k] for k in ks] for ks in serving.values()],
        counts,
        replaced=[[gone[k] for k in ks] for ks in serving.values()],
    )
    archives = iter(_archives(division, graphs, alternatives))
    layers: list[_Layer] = []
    needed: list[int] = []
    there: dict[str, int] = {}
    for parts, own_layers in zip(configurations, brought, strict=True):
        if parts.graph_path not in there:
            files = next(archives)
            data = pack(files)
            layers.append(_Layer(GRAPHS_TAR_ZSTD, data, diff_id(data)))
            there |= dict.fromkeys(files, 1 + len(layers))
        layers += own_layers
        needed.append(1 + len(layers))
    return _Arranged(layers, needed, there)


def _replaced(configurations: Sequence[ConfigurationParts], brought: Sequence[Sequence[_Layer]]) -> list[int]:
    """For each configuration the bytes of its prefix that it does not read, as they travel: of a packed segment, their share."""
    segments: dict[str, bytes] = {}
    shares: dict[str, float] = {}
    found = []
    for parts, layers in zip(configurations, brought, strict=True):
        segments |= parts.segments
        shares |= {path: len(one.data) / len(parts.segments[path]) for path, one in zip(parts.segments, layers, strict=True)}
        unread = unread_bytes(segments, {parts.graph_path: parts.graph})
        found.append(round(sum(count * shares[path] for path, count in unread.items())))
    return found


def _archives(
    division: Division, graphs: Sequence[Mapping[str, bytes]], alternatives: Sequence[Mapping[str, bytes]]
) -> list[dict[str, bytes]]:
    """The files of each archive."""
    found: list[dict[str, bytes]] = []
    for number, own in enumerate(division.archives):
        files: dict[str, bytes] = {}
        # What waited goes first: it is like the graphs of its own configurations, which are like the first ones here.
        for i in range(0 if number == division.late else own.start, own.stop):
            files |= graphs[i] if i in own else {}
            files |= alternatives[i] if number >= division.late else {}
        found.append(files)
    return found


def _header_size(data: bytes, *, compressed: bool) -> int:
    """How many bytes of a segment are its header, as it travels."""
    header = data[: 8 + int.from_bytes(data[:8], "little")]
    return len(compress(header)) if compressed else len(header)


def _segment(path: str, data: bytes, *, compressed: bool) -> _Layer:
    raw = _Layer(WEIGHT_RAW, data, sha256_digest(data), path)
    if not compressed:
        return raw
    packed = pack({path: data})
    smaller = len(packed) < len(data) + len(FILEPATH) + len(path)  # a raw layer's path stands in the manifest
    return _Layer(WEIGHT_TAR_ZSTD, packed, diff_id(packed)) if smaller else raw


def _ladder_layer(fields: Mapping[str, Any], configurations: Sequence[ConfigurationParts], arranged: _Arranged) -> _Layer:
    """The ladder states byte counts that hold its own layer's size, so a size is sought at which it says the truth."""
    ends = [0, *accumulate(len(layer.data) for layer in arranged.layers)]

    def stating(size: int) -> bytes:
        rows = []
        for row, parts, count in zip(fields["configurations"], configurations, arranged.needed, strict=True):
            stated = {**row, "layers": count, "graph": parts.graph_path, "bytes": size + ends[count - 1]}
            if "alternatives" in row:
                stated["alternatives"] = [_placed(one, count, arranged.graphs) for one in row["alternatives"]]
            rows.append(stated)
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


def _placed(alternative: Mapping[str, Any], needed: int, there: Mapping[str, int]) -> dict[str, Any]:
    """A row of the ladder's `alternatives`, which says when its graph comes if that is later than its configuration."""
    row = {key: value for key, value in alternative.items() if key != "layers"}
    layers = there.get(row["graph"], needed)
    return {**row, "layers": layers} if layers > needed else row


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
