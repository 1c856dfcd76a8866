"""An elastic network as files: for each configuration a graph, and a segment with what it adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from accordion.artifact.segment import encode_segment, parse_header
from accordion.artifact.tensor_spec import TensorSpec
from accordion.elastic import ElasticNetwork
from accordion.packaging.graph import Graph
from accordion.packaging.naming import Naming
from accordion.packaging.prepare import prepare
from accordion.packaging.render import Place, home_name, render
from accordion.packaging.segments import divide

__all__ = ["Part", "make_parts", "parts_of"]


@dataclass(frozen=True, slots=True)
class Part:
    """Files of one configuration. `segment` is None where it needs no tensor that earlier ones lack."""

    graph_path: str
    graph: bytes
    segment_path: str
    segment: bytes | None
    alternatives: Mapping[str, bytes] = field(default_factory=dict)


def make_parts(
    network: ElasticNetwork,
    example: Tensor,
    progress: Callable[[str], None] = lambda line: None,
    *,
    takes: TensorSpec | None = None,
    gives: TensorSpec | None = None,
) -> list[Part]:
    """The files of every configuration; the same network gives the same bytes. `example` [n ≥ 2, …] is a batch of inputs.

    Nothing here knows what the network is made of: each configuration is exported, batch norms are folded where all configurations
    agree, and each tensor content goes into the segment of the first configuration that reads it. A value that changes with the
    configuration is a content of its own, so it travels with the configuration that changes it. `takes` and `gives` are the input
    and the output as the ladder has them (those of a classifier, if left out).
    """
    return parts_of(prepare(network, example, progress, takes=takes, gives=gives).graphs)


def parts_of(graphs: Sequence[Graph], alternatives: Mapping[str, Sequence[Graph]] | None = None) -> list[Part]:
    """The files for `graphs`, one for each configuration, and for further graphs of each, by the ending of their names.

    Alternatives bring no tensors but those small enough to stay inside.
    """
    segments = divide(graphs)
    paths = [f"{k:03d}.safetensors" for k in range(len(graphs))]
    files = [encode_segment(tensors) if tensors else None for tensors in segments.tensors]
    places: dict[tuple[int, str], Place] = {}
    for k, data in enumerate(files):
        if data is not None:
            for name, info in parse_header(data, len(data), paths[k]).items():
                places[k, name] = Place(paths[k], info.start, info.end - info.start)

    further = dict(alternatives or {})
    together = [graph for k, own in enumerate(graphs) for graph in (own, *(others[k] for others in further.values()))]
    naming = Naming(together, lambda array: home_name(segments, array))

    def rendered(graph: Graph) -> bytes:
        return render(graph, segments, lambda segment, name: places[segment, name], naming)

    return [
        Part(
            f"{k:03d}.onnx",
            rendered(graph),
            paths[k],
            files[k],
            {f"{k:03d}{ending}.onnx": rendered(others[k]) for ending, others in further.items()},
        )
        for k, graph in enumerate(graphs)
    ]
