"""An elastic network as files: for each configuration a graph, and a segment with what it adds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from accordion.artifact.segment import encode_segment, parse_header
from accordion.elastic import ElasticNetwork
from accordion.packaging.constants import fold_constants
from accordion.packaging.graph import Graph, Pool, parse
from accordion.packaging.norms import fold_norms
from accordion.packaging.render import Place, render
from accordion.packaging.segments import divide
from accordion.profiling import export_onnx

__all__ = ["Part", "make_parts"]


@dataclass(frozen=True, slots=True)
class Part:
    """Files of one configuration. `segment` is None where it needs no tensor that earlier ones lack."""

    graph_path: str
    graph: bytes
    segment_path: str
    segment: bytes | None


def make_parts(network: ElasticNetwork, example: Tensor, progress: Callable[[str], None] = lambda line: None) -> list[Part]:
    """The files of every configuration; the same network gives the same bytes. `example` [n ≥ 2, …] is a batch of inputs.

    Nothing here knows what the network is made of: each configuration is exported, batch norms are folded where all configurations
    agree, and each tensor content goes into the segment of the first configuration that reads it. A value that changes with the
    configuration is a content of its own, so it travels with the configuration that changes it.
    """
    pool = Pool()
    graphs: list[Graph] = []
    for k in range(len(network)):
        graph = parse(export_onnx(network.at(k), example), pool)
        fold_constants(graph, pool)
        graphs.append(graph)
        progress(f"configuration {k} of {len(network) - 1} exported")
    fold_norms(graphs, pool)
    segments = divide(graphs)
    paths = [f"{k:03d}.safetensors" for k in range(len(graphs))]
    files = [encode_segment(tensors) if tensors else None for tensors in segments.tensors]
    places: dict[tuple[int, str], Place] = {}
    for k, data in enumerate(files):
        if data is not None:
            for name, info in parse_header(data, len(data), paths[k]).items():
                places[k, name] = Place(paths[k], info.start, info.end - info.start)
    return [
        Part(f"{k:03d}.onnx", render(graph, segments, lambda segment, name: places[segment, name]), paths[k], files[k])
        for k, graph in enumerate(graphs)
    ]
