"""Every rule of the specification, held against a package directory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from accordion.artifact.alternative import Alternative
from accordion.artifact.archive import diff_id_of, gzip_diff_id, unpack, unpacked_limit
from accordion.artifact.bounds import Declared
from accordion.artifact.config import CONFIG_LIMIT, read_diff_ids
from accordion.artifact.digest import file_digest, sha256_digest
from accordion.artifact.graph import GRAPH_LIMIT, check_graph
from accordion.artifact.ladder import LADDER_LIMIT, Configuration, Ladder, ladder_file
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import (
    ARTIFACT_TYPE,
    CONFIG_MEDIA_TYPE,
    DOC_RAW,
    GRAPH_RAW,
    GRAPHS_TAR_ZSTD,
    MANIFEST_LIMIT,
    WEIGHT_RAW,
    WEIGHT_TAR_ZSTD,
    Descriptor,
    Manifest,
)
from accordion.artifact.paths import check_unique
from accordion.artifact.strict_json import parse_object
from accordion.artifact.weights import SegmentFile, Weights, check_segment, check_segment_bytes, finite_of
from accordion.errors import AccordionError, ContentError, FormatError, StorageError

__all__ = ["Contents", "verify_package"]


class Contents:
    """The files of a version's layers, taken in one layer after the other, with what must be known of them."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.files: dict[str, list[tuple[str, str, int]]] = {}  # of weights: path, digest and size of each, by their layer's digest
        self.weights = Weights()
        self.graphs: dict[str, bytes] = {}
        self.layers_of_graphs: dict[int, set[str]] = {}  # not asked about yet
        self.read: set[str] = set()  # files that the graphs checked so far read

    def add(self, index: int, layer: Descriptor, path: Path) -> None:
        """Takes in layer `index`, whose bytes lie at `path`. FormatError if they break a rule."""
        what = f"layer {index}"
        if layer.media_type == WEIGHT_RAW:
            self.weights.files[str(layer.path)] = SegmentFile.at(path)
            with path.open("rb") as stream:
                tensors = check_segment(stream, layer.size, what)
            self.weights.files[str(layer.path)] = SegmentFile.at(path, tensors)
            self.files[layer.digest] = [(str(layer.path), layer.digest, layer.size)]
        if layer.media_type == GRAPH_RAW and str(layer.path).endswith(".onnx"):
            if layer.size > GRAPH_LIMIT:
                raise FormatError(f"{what} has {layer.size} bytes, more than the {GRAPH_LIMIT} that a graph may have")
            self.graphs[str(layer.path)] = path.read_bytes()
            self.layers_of_graphs[index] = {str(layer.path)}
        if layer.path is not None:
            self._take(layer.path, layer.size)
        elif layer.media_type in (GRAPHS_TAR_ZSTD, WEIGHT_TAR_ZSTD):
            with path.open("rb") as stream:
                for name, data in unpack(stream, limit=unpacked_limit(layer.size), what=what):
                    self._take(name, len(data))
                    if layer.media_type == WEIGHT_TAR_ZSTD:
                        self.files.setdefault(layer.digest, []).append((name, sha256_digest(data), len(data)))
                        self.weights.files[name] = SegmentFile(len(data), _member(path, layer.size, name))
                        tensors = check_segment_bytes(data, f"{what}: {name!r}")
                        self.weights.files[name] = replace(self.weights.files[name], floats=finite_of(tensors))
                    elif name.endswith(".onnx"):
                        self.graphs[name] = data
                        self.layers_of_graphs.setdefault(index, set()).add(name)
            count = len(self.files.get(layer.digest, ()))
            if layer.media_type == WEIGHT_TAR_ZSTD and count != 1:
                raise FormatError(f"{what} holds {count} files: a layer of weights is one segment")

    def check_graph(self, path: str, declared: Declared | None = None, segments: Collection[str] | None = None) -> None:
        """FormatError unless the graph at `path` is there, needs nothing that is not, and keeps to what its ladder declares.

        With `segments` it may read these files only, though others are there.
        """
        if path not in self.graphs:
            raise FormatError(f"the graph {path!r} is not among the layers that its configuration needs")
        read = check_graph(self.graphs[path], self.weights, path, declared)
        if segments is not None and (beyond := sorted(set(read).difference(segments))):
            raise FormatError(f"the graph {path!r} reads {beyond[0]!r}, which its configuration does not have")
        self.read |= read

    def unread(self) -> list[str]:
        """Segments that no graph so far reads."""
        return [path for path in self.weights.files if path not in self.read]

    def early(self, k: int, first: Mapping[str, int]) -> list[int]:
        """Layers since the last call that hold graphs, none of which is run by a configuration up to `k`, as `first` has them."""
        new, self.layers_of_graphs = self.layers_of_graphs, {}
        return [index for index, paths in new.items() if all(first.get(path, k + 1) > k for path in paths)]

    def _take(self, path: str, size: int) -> None:
        self.sizes[path] = size if path not in self.sizes else -1
        if self.sizes[path] < 0:
            raise FormatError(f"the path {path!r} occurs twice in the package")


def _member(path: Path, size: int, name: str) -> Callable[[int, int], Iterator[bytes]]:
    """Reads of one file in an archive; it is unpacked anew, which only odd graphs make necessary."""

    def read(start: int, length: int) -> Iterator[bytes]:
        with path.open("rb") as stream:
            for member, data in unpack(stream, limit=unpacked_limit(size), what=name):
                if member == name:
                    yield data[start : start + length]
                    return

    return read


def verify_package(directory: Path) -> list[str]:
    """What is wrong with a package, a line each; empty if nothing is.

    UsageError if there is no such directory, StorageError if it can't be read.
    """
    try:
        layout = Layout.open(directory)
        references = layout.references()
        tags = [tag for tag, descriptor in layout.tags().items() if not _is_beside(layout, descriptor)]
    except ContentError as error:
        return [str(error)]
    problems = [] if tags else [f"{directory} holds no version"]
    sound: dict[str, bool] = {}
    for tag, descriptor in references.items():
        try:
            found = _version(layout, layout.manifest(tag), sound) if tag in tags else _other(layout, descriptor, sound)
        except StorageError:
            raise  # what can't be read is not known to be wrong
        except AccordionError as error:
            found = [str(error)]
        problems += [f"{tag}: {problem}" for problem in found]
    return problems


def _is_beside(layout: Layout, descriptor: Descriptor) -> bool:
    """Whether a manifest says itself, by its type and its config's, that it is no model but, say, a list of its parts."""
    try:
        value = parse_object(layout.read_blob(descriptor, limit=MANIFEST_LIMIT), "the manifest", MANIFEST_LIMIT)
    except ContentError:
        return False  # as a version it is told what is wrong
    kind, config = value.get("artifactType"), value.get("config")
    return (
        isinstance(kind, str)
        and kind != ARTIFACT_TYPE
        and isinstance(config, dict)
        and config.get("mediaType") != CONFIG_MEDIA_TYPE
    )


def _version(layout: Layout, manifest: Manifest, sound: dict[str, bool]) -> list[str]:
    """Problems of one version; `sound` remembers blobs that versions share."""
    problems = _blobs(layout, (manifest.config, *manifest.layers), sound)
    if problems:
        return problems
    ladder = layout.ladder(manifest)
    ladder.check_against(manifest)
    for index, layer in enumerate(manifest.layers[: ladder.configurations[-1].layers]):
        if layer.media_type == DOC_RAW:
            problems.append(f"layer {index} is a document, but stands before the end of what the configurations need")
    try:
        _config(layout, manifest)
    except ContentError as error:
        problems.append(str(error))
    return problems + _stated(layout, manifest, ladder) + _files(layout, manifest, ladder)


def _stated(layout: Layout, manifest: Manifest, ladder: Ladder) -> list[str]:
    """What a device can do without, but whoever prepares inputs and compares configurations can't."""
    first = manifest.layers[0]
    fields = parse_object(ladder_file(first, layout.read_blob(first, limit=LADDER_LIMIT)), "the ladder", LADDER_LIMIT)
    problems = []
    for name in ("inputs", "outputs"):
        for index, spec in enumerate(fields[name]):
            lacking = [field for field in ("layout", "range", "labels") if field not in spec]
            problems += [f"the ladder: {name}[{index}] has no {field!r} (null where there is none)" for field in lacking]
    for configuration in ladder.configurations:
        for quality in (configuration.quality, *(one.quality for one in configuration.alternatives)):
            if quality.unit == "fraction" and not 0 <= quality.value <= 1:
                problems.append(f"configuration {configuration.index}: a quality of {quality.value:g} is no fraction")
    return problems


def _files(layout: Layout, manifest: Manifest, ladder: Ladder) -> list[str]:
    contents = Contents()
    problems: list[str] = []
    waiting = list(ladder.configurations)
    late: list[tuple[Configuration, Alternative, set[str]]] = []  # with the segments that the configuration has
    again: set[str] = set()
    first = _first_use(ladder)
    for index, layer in enumerate(manifest.layers):
        if index >= ladder.configurations[-1].layers and layer.digest in again:
            continue  # graphs between the alternates, a second time
        if layer.media_type == GRAPHS_TAR_ZSTD:
            again.add(layer.digest)
        try:
            contents.add(index, layer, layout.blob_path(layer.digest))
        except ContentError as error:
            problems.append(str(error))
        while waiting and waiting[0].layers == index + 1:
            configuration = waiting.pop(0)
            now = configuration.alternatives_within(configuration.layers)
            for graph in (configuration.graph, *(one.graph for one in now)):
                try:
                    contents.check_graph(graph, ladder.declared(configuration.index))
                except ContentError as error:
                    problems.append(f"configuration {configuration.index}: {error}")
            late += [(configuration, one, set(contents.weights.files)) for one in configuration.late_alternatives()]
            if not problems and (idle := contents.unread()):
                problems.append(
                    f"configuration {configuration.index}: no graph up to here reads {idle[0]!r}, which stands among its layers"
                )
            if (early := contents.early(configuration.index, first)) and not problems:
                problems.append(
                    f"configuration {configuration.index}: layer {early[0]} stands among its layers, but none of its graphs is "
                    "needed that soon"
                )
        arrived = [one for one in late if one[1].layers == index + 1]
        late = [one for one in late if one not in arrived]
        for configuration, alternative, segments in arrived:
            try:
                contents.check_graph(alternative.graph, ladder.declared(configuration.index), segments)
            except ContentError as error:
                problems.append(f"configuration {configuration.index}: {error}")
    for index, alternate in manifest.alternates.items():
        if contents.files.get(alternate.of) != [(alternate.path, alternate.digest, alternate.size)]:
            problems.append(f"layer {index}: the layer that it stands for is not the file which it says")
    try:
        check_unique(list(contents.sizes))
    except ContentError as error:
        problems.append(str(error))
    return problems


def _first_use(ladder: Ladder) -> dict[str, int]:
    """Each graph of the ladder with the first configuration among whose layers it may be, because something runs it by then."""
    found: dict[str, int] = {}
    needed = [rung.layers for rung in ladder.configurations]
    for rung in ladder.configurations:
        found.setdefault(rung.graph, rung.index)
        for one in rung.alternatives:
            found[one.graph] = min(found.get(one.graph, len(ladder)), max(rung.index, bisect_left(needed, one.layers)))
    return found


def _config(layout: Layout, manifest: Manifest) -> None:
    stated = read_diff_ids(layout.read_blob(manifest.config, limit=CONFIG_LIMIT))
    if len(stated) != len(manifest.layers):
        raise FormatError(f"the config has {len(stated)} diffIds, the manifest {len(manifest.layers)} layers")
    for index, (layer, promised) in enumerate(zip(manifest.layers, stated, strict=True)):
        if _diff_id(layout, layer) != promised:
            raise FormatError(f"the config's diffId {index} is not the digest of layer {index} uncompressed")


def _diff_id(layout: Layout, layer: Descriptor) -> str:
    if layer.media_type.endswith("+zstd"):
        with layout.blob_path(layer.digest).open("rb") as stream:
            return diff_id_of(stream, limit=unpacked_limit(layer.size), what="a layer")
    if layer.media_type.endswith("+gzip"):
        return gzip_diff_id(layout.blob_path(layer.digest), limit=unpacked_limit(layer.size))
    return layer.digest


def _blobs(layout: Layout, descriptors: tuple[Descriptor, ...], sound: dict[str, bool]) -> list[str]:
    problems = []
    for descriptor in descriptors:
        path, digest = layout.blob_path(descriptor.digest), descriptor.digest
        if not path.is_file():
            problems.append(f"the blob {digest} is missing")
        elif path.stat().st_size != descriptor.size:
            problems.append(f"the blob {digest} has {path.stat().st_size} bytes, promised are {descriptor.size}")
        else:
            if digest not in sound:
                sound[digest] = file_digest(path) == digest
            if not sound[digest]:
                problems.append(f"the blob {digest} is corrupt: its content has another digest")
    return problems


def _other(layout: Layout, descriptor: Descriptor, sound: dict[str, bool]) -> list[str]:
    """A signature, or another artifact beside the versions: what it stands on must be there and whole."""
    value = parse_object(layout.read_blob(descriptor, limit=MANIFEST_LIMIT), "its manifest", MANIFEST_LIMIT)
    rows = value.get("layers")
    rows = [value.get("config"), *(rows if isinstance(rows, list) else [])]
    return _blobs(layout, tuple(Descriptor.from_json(row, "a blob of its manifest") for row in rows), sound)
