"""A network as folded graphs: one for each configuration, and one that gives the answers of all at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from accordion.artifact.tensor_spec import TensorSpec
from accordion.elastic import ElasticNetwork
from accordion.packaging.constants import fold_constants
from accordion.packaging.graph import Graph, Pool, parse
from accordion.packaging.norms import fold_norms
from accordion.profiling import export_onnx

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """`graphs[k]` is configuration k; `joint`, if asked for, computes what they share once and has an output for each.

    All tensors are interned in `pool`: where two graphs read the same content, they hold the same array.
    """

    pool: Pool
    graphs: list[Graph]
    joint: Graph | None = None


def prepare(
    network: ElasticNetwork,
    example: Tensor,
    progress: Callable[[str], None] = lambda line: None,
    *,
    joint: bool = False,
    takes: TensorSpec | None = None,
    gives: TensorSpec | None = None,
) -> Prepared:
    """Exports every configuration and folds constants and norms; `example` [n ≥ 2, …] is a batch of inputs.

    `takes` and `gives` are the input and the output as the ladder has them (those of a classifier, if left out).
    """
    pool = Pool()
    graphs: list[Graph] = []
    for k in range(len(network)):
        graph = parse(export_onnx(network.at(k), example, **_names(takes, gives)), pool)
        fold_constants(graph, pool)
        graphs.append(graph)
        progress(f"configuration {k} of {len(network) - 1} exported")
    everything = list(graphs)
    if joint:
        names = [f"logits{k}" for k in range(len(network))]
        graph = parse(export_onnx(_All(network), example, output_names=names), pool)
        fold_constants(graph, pool)
        everything.append(graph)
    fold_norms(everything, pool)
    return Prepared(pool, graphs, everything[-1] if joint else None)


def _names(takes: TensorSpec | None, gives: TensorSpec | None) -> dict[str, Any]:
    """What `export_onnx` is told of names and open axes."""
    specs = [spec for spec in (takes, gives) if spec is not None]
    found: dict[str, Any] = {}
    if takes is not None:
        found["input_name"] = takes.name
    if gives is not None:
        found["output_names"] = [gives.name]
    if specs:
        found["axes"] = {spec.name: {i: size for i, size in enumerate(spec.shape) if isinstance(size, str)} for spec in specs}
    return found


class _All(nn.Module):
    """The answers of all configurations, in their order."""

    def __init__(self, network: ElasticNetwork) -> None:
        super().__init__()
        self.network = network
        self.views = nn.ModuleList(network.at(k) for k in range(len(network)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network.outputs(x, range(len(self.network))).values())
