"""A package's weights as arrays: what its graphs multiply with, whatever encoding it travels in."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from accordion.artifact.ladder import Ladder
from accordion.artifact.layout import Layout
from accordion.artifact.verify import verify_package
from accordion.elastic import CifarResNet
from accordion.errors import FormatError, UsageError

__all__ = ["Convolution", "GraphWeights", "laid_out", "layers_of", "path_and_tag", "read_graph"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Convolution:
    """A weight [out, in, h, w] and what is added by channel. `factor` [out] stands apart where a norm was not folded."""

    weight: Array
    shift: Array
    factor: Array | None = None

    @property
    def folded(self) -> Array:
        """The weight with the factor in it."""
        return self.weight if self.factor is None else self.weight * self.factor[:, None, None, None]


@dataclass(frozen=True, slots=True)
class GraphWeights:
    """A graph's convolutions, in the order of the data flow, and its last linear layer: weight and bias."""

    convolutions: list[Convolution]
    linear: tuple[Array, Array]


def path_and_tag(text: str) -> tuple[Path, str | None]:
    """PACKAGE or PACKAGE:TAG."""
    path = Path(text)
    if not path.exists() and ":" in text:
        start, _, tag = text.rpartition(":")
        return Path(start), tag
    return path, None


@contextmanager
def laid_out(path: Path, tag: str | None) -> Iterator[tuple[Ladder, Path]]:
    """The ladder of a package's version, and a folder with the files of all its layers under their own paths.

    ContentError if the package is broken.
    """
    if problems := verify_package(path):
        raise FormatError(f"{path} can't be begun with: {problems[0]}")
    layout = Layout.open(path)
    manifest = layout.manifest(tag)
    ladder = layout.ladder(manifest)
    with tempfile.TemporaryDirectory(prefix="accordion-weights-") as name:
        for index, layer in enumerate(manifest.layers):
            layout.lay_out(layer, Path(name), f"layer {index}")
        yield ladder, Path(name)


def layers_of(module: CifarResNet) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions and their norms, in the order of the data flow."""
    parts = [module.stem, *module.stage1, *module.stage2, *module.stage3]
    layers = [layer for part in parts for layer in part.modules()]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    return list(zip(convolutions, (layer for layer in layers if isinstance(layer, nn.BatchNorm2d)), strict=True))


def read_graph(path: Path, what: str) -> GraphWeights:
    """What the graph at `path` multiplies with; `what` is what messages call the package. UsageError if it is of another kind."""
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's own DecodeError has no public home
        raise FormatError(f"the graph {path.name} of {what} can't be read: {error}") from error
    nodes = list(model.graph.node)
    linear = [node for node in nodes if node.op_type == "Gemm"][-1:]
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    if not linear or not convolutions:
        raise UsageError(f"{what} is not made of convolutions and a linear layer: its weights can't be taken over")
    value = _Constants(model, path.parent, what)
    found = [_convolution(node, nodes, value) for node in convolutions]
    (last,) = linear
    transposed = any(a.name == "transB" and a.i for a in last.attribute)
    weight = value(last.input[1])
    return GraphWeights(found, (weight if transposed else weight.T, value(last.input[2])))


def _convolution(node: onnx.NodeProto, nodes: Sequence[onnx.NodeProto], value: _Constants) -> Convolution:
    weight = value(node.input[1])
    if len(node.input) > 2:
        return Convolution(weight, value(node.input[2]))
    # A norm that differs between configurations was not folded: a factor and a shift follow.
    mul = next((n for n in nodes if node.output[0] in n.input), node)
    add = next((n for n in nodes if mul.output[0] in n.input), node)
    if (mul.op_type, add.op_type) != ("Mul", "Add"):
        return Convolution(weight, np.zeros(weight.shape[0], weight.dtype))
    return Convolution(weight, value(add.input[1]).reshape(-1), value(mul.input[1]).reshape(-1))


class _Constants:
    """The values that a graph computes from its weights alone, whatever encoding they travel in."""

    def __init__(self, model: onnx.ModelProto, folder: Path, what: str) -> None:
        self.what = what
        self.values = {tensor.name: numpy_helper.to_array(tensor, str(folder)) for tensor in model.graph.initializer}
        self.made = {name: node for node in model.graph.node for name in node.output}
        self.model = model

    def __call__(self, name: str) -> Array:
        if name not in self.values:
            self.values[name] = self._computed(name)
        value: Array = self.values[name].astype(np.float32)
        return value

    def _computed(self, name: str) -> Array:
        needed: list[onnx.NodeProto] = []
        seen: Counter[str] = Counter()

        def collect(wanted: str) -> None:
            if wanted in self.values or not wanted or seen[wanted]:
                return
            seen[wanted] += 1
            if wanted not in self.made:
                raise UsageError(f"{self.what} computes its weights from its input: its weights can't be taken over")
            for read in self.made[wanted].input:
                collect(read)
            needed.append(self.made[wanted])

        collect(name)
        used = {read for node in needed for read in node.input}
        graph = onnx.helper.make_graph(
            needed,
            "weights",
            [],
            [onnx.ValueInfoProto(name=name)],
            [numpy_helper.from_array(array, n) for n, array in self.values.items() if n in used],
        )
        model = onnx.helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)
        try:
            session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
            (result,) = session.run(None, {})
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise FormatError(f"the weights of {self.what} can't be decoded: {str(error).splitlines()[0]}") from error
        return np.asarray(result)
