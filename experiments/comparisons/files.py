"""From networks to the files that a device receives, and from these files to answers.

Every method is shipped in the same way, the project's own: ONNX graphs without weights, safetensors files that they point into,
each file as it is or through zstd, whichever is smaller. What is counted are the sizes of these files on disk, and what is
measured is what plain ONNX Runtime answers from them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accordion.artifact.archive import compress, pack
from accordion.artifact.atomic import write_file
from accordion.data import Split
from accordion.errors import AccordionError, StorageError
from accordion.packaging.codecs import Precision, by_name, encode_planes
from accordion.packaging.constants import fold_constants
from accordion.packaging.encode import Encodings, Group, Point, encode_graphs, weights_of
from accordion.packaging.graph import Graph, Pool, parse
from accordion.packaging.norms import fold_norms
from accordion.packaging.parts import parts_of
from accordion.packaging.schemes import SMALLEST_VECTOR, scheme
from accordion.packaging.segments import is_inline
from accordion.profiling import export_onnx
from experiments.comparisons.outcome import File
from experiments.outcome import Count

__all__ = [
    "FLOAT32",
    "Folded",
    "Piece",
    "Session",
    "Shipped",
    "batches",
    "count",
    "encoded",
    "folded",
    "run",
    "run_pieces",
    "ship",
    "ship_bytes",
    "ship_one",
    "ship_pieces",
    "without_unused",
]

Array = NDArray[Any]

BATCH = 250
LITTLE = 64  # values that are no reason to receive a file
FLOAT32 = "float32"


@dataclass(frozen=True, slots=True)
class Piece:
    """A module to export, an example [n ≥ 2, …] of its input, and what its outputs are called."""

    module: nn.Module
    example: Tensor
    outputs: tuple[str, ...] = ("logits",)


@dataclass(frozen=True, slots=True)
class Shipped:
    """What has to be received to run `graphs`, which lie unpacked on this machine."""

    files: tuple[File, ...]
    graphs: tuple[Path, ...]

    @property
    def graph(self) -> Path:
        """The only or the last graph."""
        return self.graphs[-1]


@dataclass(frozen=True, slots=True)
class Folded:
    """Graphs with constants and norms folded; tensors of equal content are the same array, kept in `pool`."""

    graphs: list[Graph]
    pool: Pool = field(repr=False)


def folded(pieces: Sequence[Piece]) -> Folded:
    """Exports the pieces. UsageError if one can't be exported."""
    pool = Pool()
    graphs = []
    for piece in pieces:
        graph = parse(export_onnx(piece.module.cpu(), piece.example, output_names=piece.outputs), pool)
        fold_constants(graph, pool)
        graphs.append(graph)
    fold_norms(graphs, pool)
    return Folded(graphs, pool)


def encoded(
    made: Folded,
    codec: str,
    *,
    hessians: Mapping[int, NDArray[np.float64]] | None = None,
    blocks: Precision | None = None,
) -> list[Graph]:
    """The graphs with their weights encoded as `accordion package --codec` does it: those of the stages by the codec, the first and
    the last layer by what goes with it, vectors as float16. `blocks` is another precision for the weights of the stages.
    """
    if codec == FLOAT32 and blocks is None:
        return made.graphs
    chosen = None if codec == FLOAT32 else scheme(codec)
    inner = Group("blocks", blocks or (chosen.blocks if chosen else by_name(FLOAT32)))
    outside = Group("outside", chosen.outside if chosen else by_name(FLOAT32))
    vectors = Group("vectors", chosen.vectors if chosen else by_name(FLOAT32))
    groups: dict[int, Group] = {}
    for graph in made.graphs:
        weights = weights_of(graph)
        for name, array in graph.tensors.items():
            if id(array) in groups or is_inline(array) or array.dtype != np.float32:
                continue
            if name in weights:
                groups[id(array)] = inner if _in_block(name) else outside
            elif array.size >= SMALLEST_VECTOR:
                groups[id(array)] = vectors
    known = hessians or {}
    encodings = Encodings(groups, lambda array, precision: encode_planes(precision, array, known.get(id(array))))
    return encode_graphs(made.graphs, [Point(k) for k in range(len(made.graphs))], encodings, made.pool)


def _in_block(name: str) -> bool:
    """Whether a weight is of a residual block, also of one that was exported as a piece of its own, or the convolution of an extra
    exit, which is neither the first nor the last layer."""
    return name.startswith("stage") or bool({"conv1", "conv2"} & set(name.split("."))) or name.endswith("branch.conv.weight")


def ship(graphs: Sequence[Graph], folder: Path) -> list[Shipped]:
    """Forms of one network that build on each other: form k needs its own graph and all tensors that forms 0 to k brought."""
    shipped: list[Shipped] = []
    tensors: list[File] = []
    for part in parts_of(graphs):
        if part.segment is not None:
            tensors.append(_write(folder, part.segment_path, part.segment))
        graph = _write(folder, part.graph_path, part.graph)
        shipped.append(Shipped((graph, *tensors), (folder / part.graph_path,)))
    return shipped


def without_unused(shipped: Shipped, folder: Path) -> Shipped:
    """The last form, in `folder`, for a device that never had the others: without the tensors that its graph does not read.

    Of a file that it reads nothing but a few small tensors of (the normalisation of the pictures, which the first form brought),
    these go into a graph of its own instead.
    """
    model = onnx.load(shipped.graph, load_external_data=False)
    outside: dict[str, list[onnx.TensorProto]] = {}
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                outside.setdefault(entry.value, []).append(tensor)
    graph, *tensors = shipped.files
    little = [name for name, own in outside.items() if sum(math.prod(one.dims) for one in own) <= LITTLE]
    kept = tuple(file for file in tensors if file.name.removesuffix(".zst") in outside.keys() - set(little))
    if not little:
        return Shipped((graph, *kept), shipped.graphs)
    for name in little:
        for tensor in outside[name]:
            value = onnx.numpy_helper.to_array(tensor, str(shipped.graph.parent))
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    own_name = f"{shipped.graph.stem}-alone.onnx"
    return Shipped((_write(folder, own_name, model.SerializeToString()), *kept), (folder / own_name,))


def ship_one(graphs: Sequence[Graph], folder: Path) -> Shipped:
    """A single form."""
    (shipped,) = ship(graphs, folder)
    return shipped


def ship_pieces(graphs: Sequence[Graph], folder: Path, *, together: bool = False) -> list[Shipped]:
    """Pieces that run one after the other: to run up to piece k, all graphs and tensors up to it are needed.

    `together`: of no use one by one, they travel as one archive of graphs and one file of tensors for all.
    """
    parts = parts_of(graphs)
    if together:
        for part in parts:
            _put(folder / part.graph_path, part.graph)
            if part.segment is not None:
                _put(folder / part.segment_path, part.segment)
        graphs_file = _file(folder, "graphs.tar.zst", pack({part.graph_path: part.graph for part in parts}))
        weights = pack({part.segment_path: part.segment for part in parts if part.segment is not None})
        files = (graphs_file, _file(folder, "weights.tar.zst", weights))
        return [Shipped(files, tuple(folder / part.graph_path for part in parts))]
    shipped: list[Shipped] = []
    files_so_far: tuple[File, ...] = ()
    for part in parts:
        files_so_far += (_write(folder, part.graph_path, part.graph),)
        if part.segment is not None:
            files_so_far += (_write(folder, part.segment_path, part.segment),)
        paths = (*(shipped[-1].graphs if shipped else ()), folder / part.graph_path)
        shipped.append(Shipped(files_so_far, paths))
    return shipped


def ship_bytes(model: bytes, folder: Path, name: str = "model.onnx") -> Shipped:
    """One graph with its weights inside, as another tool wrote it."""
    return Shipped((_write(folder, name, model),), (folder / name,))


class Session:
    """A graph, loaded. AccordionError if it does not load or run."""

    def __init__(self, graph: Path) -> None:
        self.graph = graph
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise AccordionError(f"{graph} does not load: {str(error).splitlines()[0]}") from error
        self._input = self._session.get_inputs()[0].name

    def __call__(self, x: Array) -> list[Array]:
        """All outputs for a batch of float32 [n, …]."""
        try:
            found: list[Array] = self._session.run(None, {self._input: x})
        except Exception as error:
            raise AccordionError(f"{self.graph} does not run: {str(error).splitlines()[0]}") from error
        return found


def batches(split: Split) -> Iterator[Array]:
    """Pictures as networks take them, float32 [b, c, h, w] in 0..1."""
    for start in range(0, len(split), BATCH):
        yield split.x[start : start + BATCH].astype(np.float32) / np.float32(255)


def run(shipped: Shipped, split: Split) -> Array:
    """The logits [n, classes] of the last graph for the pictures of `split`."""
    session = Session(shipped.graph)
    return np.concatenate([session(x)[0] for x in batches(split)])


def run_pieces(shipped: Shipped, split: Split) -> list[Array]:
    """The last output [n, classes] of each piece, where each takes what the one before gives first."""
    sessions = [Session(graph) for graph in shipped.graphs]
    found: list[list[Array]] = [[] for _ in sessions]
    for x in batches(split):
        for session, parts in zip(sessions, found, strict=True):
            outputs = session(x)
            x = outputs[0]
            parts.append(outputs[-1])
    return [np.concatenate(parts) for parts in found]


def count(logits: Array, split: Split) -> Count:
    """How many pictures are not what the largest logit says."""
    return Count(int((logits.argmax(axis=1) != split.y).sum()), len(split))


def _write(folder: Path, name: str, data: bytes) -> File:
    """The file as it is for the runtime, and as it is sent: packed, if that is smaller."""
    packed = compress(data)
    _put(folder / name, data)
    return _file(folder, name, data) if len(data) <= len(packed) else _file(folder, f"{name}.zst", packed)


def _file(folder: Path, name: str, data: bytes) -> File:
    path = folder / name
    _put(path, data)
    return File(name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


def _put(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"can't make {path.parent}: {error.strerror}") from error
    write_file(path, data)
