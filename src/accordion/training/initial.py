"""Weights to begin with: those of a finished run, or of a package, so that trainings add up although the run is long gone.

A package holds convolutions into which their batch norms were folded. A training needs norms, and theirs can't be told from the
product any more; but any norm that undoes itself will do. The training network gets the folded weight as its convolution, the
statistics of that convolution's output over training pictures as mean and variance, scale √(variance + ε), and shift bias + mean.
In eval mode that is the packaged network again, and in training mode a network like any other.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from accordion.artifact.archive import unpack, unpacked_limit
from accordion.artifact.ladder import LADDER_LIMIT, Ladder, decode_ladder
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import GRAPHS_TAR_ZSTD, WEIGHT_RAW, WEIGHT_TAR_ZSTD, Manifest
from accordion.artifact.verify import verify_package
from accordion.data import Dataset
from accordion.elastic import CifarResNet, ElasticNetwork
from accordion.errors import FormatError, UsageError
from accordion.training.norms import Sums, norm_batches
from accordion.training.recipes import MODERN
from accordion.training.run_directory import RunDirectory

__all__ = ["adopt"]

PICTURES = 2000
"""From which the new norms' statistics come. They need only be near what a training will see: the function is the same with any."""

Array = NDArray[Any]


def adopt(
    network: ElasticNetwork, initial: str, dataset: Dataset, *, seed: int, progress: Callable[[str], None] = lambda line: None
) -> None:
    """Gives `network` the weights of `initial`: a run directory, or PACKAGE or PACKAGE:TAG.

    UsageError if there is no such thing, or if its network is another; ContentError if the package is broken.
    """
    module = network.module
    if not isinstance(module, CifarResNet):
        raise UsageError(f"a {type(module).__name__} can't begin with other weights")
    path, tag = Path(initial), None
    if not path.exists() and ":" in initial:
        start, _, tag = initial.rpartition(":")
        path = Path(start)
    if not (path / "oci-layout").is_file():
        if tag is not None or not path.exists():
            raise UsageError(f"there is no run and no package {initial} to begin with")
        module.adopt(RunDirectory(path).read_weights())
        return
    if problems := verify_package(path):
        raise FormatError(f"{path} can't be begun with: {problems[0]}")
    layout = Layout.open(path)
    manifest = layout.manifest(tag)
    ladder = decode_ladder(manifest.layers[0], layout.read_blob(manifest.layers[0], limit=LADDER_LIMIT))
    with tempfile.TemporaryDirectory(prefix="accordion-initial-") as name:
        folder = Path(name)
        _lay_out(layout, manifest, folder)
        _take_over(module, ladder, folder, initial)
    progress(f"batch norms for the folded weights of {initial}, on {PICTURES} training pictures")
    recipe = MODERN.with_changes(norm_pictures=PICTURES)
    _fit_norms(network, norm_batches(dataset.hold_out()[0], recipe, seed, mirror=dataset.mirror))


def _lay_out(layout: Layout, manifest: Manifest, folder: Path) -> None:
    """The files of all layers under their own paths; they were verified before."""
    for index, layer in enumerate(manifest.layers):
        blob = layout.blob_path(layer.digest)
        if layer.media_type == WEIGHT_RAW:
            files = iter([(str(layer.path), blob.read_bytes())])
        elif layer.media_type in (GRAPHS_TAR_ZSTD, WEIGHT_TAR_ZSTD):
            with blob.open("rb") as stream:
                files = iter(list(unpack(stream, limit=unpacked_limit(layer.size), what=f"layer {index}")))
        else:
            continue
        for path, data in files:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)


@dataclass(frozen=True, slots=True)
class _Folded:
    """A graph's convolutions, in the order of the data flow, and its last linear layer: weight and bias each."""

    convolutions: list[tuple[Array, Array]]
    linear: tuple[Array, Array]


def _take_over(module: CifarResNet, ladder: Ladder, folder: Path, what: str) -> None:
    complete = ladder.configurations[-1]
    found = _read_graph(folder / complete.graph, what)
    pairs = _pairs(module)
    shapes = [tuple(conv.weight.shape) for conv, _ in pairs]
    if [weight.shape for weight, _ in found.convolutions] != shapes or complete.blocks.by_stage != tuple(map(len, module.stages)):
        raise UsageError(f"{what} holds another network: it has blocks {list(complete.blocks.by_stage)} by stage, or other widths")
    with torch.no_grad():
        for (conv, norm), (weight, bias) in zip(pairs, found.convolutions, strict=True):
            conv.weight.copy_(torch.from_numpy(weight.copy()))
            norm.weight.fill_(1.0)
            norm.bias.copy_(torch.from_numpy(bias.copy()))
            _buffer(norm, "running_mean").fill_(0.0)
            _buffer(norm, "running_var").fill_(1.0 - norm.eps)
        for head, linear in _heads(module, ladder, folder, what, found):
            if tuple(head.weight.shape) != linear[0].shape:
                raise UsageError(f"{what} tells {linear[0].shape[0]} classes apart, this data set has {head.weight.shape[0]}")
            head.weight.copy_(torch.from_numpy(linear[0].copy()))
            head.bias.copy_(torch.from_numpy(linear[1].copy()))


def _pairs(module: CifarResNet) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    parts = [module.stem, *module.stage1, *module.stage2, *module.stage3]
    layers = [layer for part in parts for layer in part.modules()]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    return list(zip(convolutions, (layer for layer in layers if isinstance(layer, nn.BatchNorm2d)), strict=True))


def _heads(
    module: CifarResNet, ladder: Ladder, folder: Path, what: str, complete: _Folded
) -> Iterator[tuple[nn.Linear, tuple[Array, Array]]]:
    yield module.head.linear, complete.linear
    if not module.stage_heads:
        return
    for stage, head in enumerate((module.head1, module.head2)):
        ending = [c for c in ladder.configurations if c.blocks.by_stage[stage] and not any(c.blocks.by_stage[stage + 1 :])]
        yield head.linear, _read_graph(folder / ending[-1].graph, what).linear if ending else complete.linear


def _read_graph(path: Path, what: str) -> _Folded:
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's own DecodeError has no public home
        raise FormatError(f"the graph {path.name} of {what} can't be read: {error}") from error
    nodes = list(model.graph.node)
    linear = [node for node in nodes if node.op_type == "Gemm"][-1:]
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    if not linear or not convolutions:
        raise UsageError(f"{what} is not made of convolutions and a linear layer: a training can't begin with it")
    value = _Constants(model, path.parent, what)
    found = [_convolution(node, nodes, value) for node in convolutions]
    (last,) = linear
    transposed = any(a.name == "transB" and a.i for a in last.attribute)
    weight = value(last.input[1])
    return _Folded(found, (weight if transposed else weight.T, value(last.input[2])))


def _convolution(node: onnx.NodeProto, nodes: Sequence[onnx.NodeProto], value: _Constants) -> tuple[Array, Array]:
    weight = value(node.input[1])
    if len(node.input) > 2:
        return weight, value(node.input[2])
    # A norm that differs between configurations was not folded: a factor and a shift follow.
    (mul,) = (n for n in nodes if node.output[0] in n.input)
    (add,) = (n for n in nodes if mul.output[0] in n.input)
    if (mul.op_type, add.op_type) != ("Mul", "Add"):
        return weight, np.zeros(weight.shape[0], weight.dtype)
    factor, shift = value(mul.input[1]).reshape(-1), value(add.input[1]).reshape(-1)
    return weight * factor[:, None, None, None], shift


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
                raise UsageError(f"{self.what} computes its weights from its input: a training can't begin with it")
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


@torch.no_grad()
def _fit_norms(network: ElasticNetwork, batches: Iterator[Tensor]) -> None:
    """Turns norms that only add a bias into norms with the statistics of what they see; the function stays."""
    view = network.at(len(network) - 1)
    norms = [norm for _, norm in _pairs(network.module)] if isinstance(network.module, CifarResNet) else []
    sums = {norm: Sums() for norm in norms}
    training = network.training
    handles = [norm.register_forward_pre_hook(lambda m, inputs: sums[m].add(inputs[0])) for norm in norms]
    view.eval()
    try:
        for x in batches:
            view(x.contiguous(memory_format=torch.channels_last))
    finally:
        for handle in handles:
            handle.remove()
        network.train(training)
    for norm, found in sums.items():
        mean, variance = found.statistics()
        _buffer(norm, "running_mean").copy_(mean)
        _buffer(norm, "running_var").copy_(variance)
        norm.bias.add_(mean)
        norm.weight.copy_((variance.double() + norm.eps).sqrt())


def _buffer(norm: nn.BatchNorm2d, name: str) -> Tensor:
    buffer = getattr(norm, name)
    assert isinstance(buffer, Tensor)
    return buffer
