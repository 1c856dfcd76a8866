from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from accordion.artifact.segment import parse_header
from accordion.elastic import CifarResNet, ElasticNetwork, Order, blockwise, nested, right_to_left
from accordion.packaging.parts import Part, make_parts


def _settled(module: nn.Module) -> nn.Module:
    """Gives every batch norm statistics and weights of its own, as training would."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.2)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.0)
            nn.init.normal_(part.bias, std=0.2)
    return module


def _resnet(order, depth: int = 8) -> ElasticNetwork:
    torch.manual_seed(3)
    module = _settled(CifarResNet(depth, 10, widths=(8, 16, 32), mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.25]))
    return ElasticNetwork(module, order(module.stages)).eval()


def _lay_out(parts: Sequence[Part], folder: Path) -> None:
    for part in parts:
        (folder / part.graph_path).write_bytes(part.graph)
        if part.segment is not None:
            (folder / part.segment_path).write_bytes(part.segment)


def _run(folder: Path, part: Part, x: Tensor) -> np.ndarray:
    (logits,) = onnxruntime.InferenceSession(folder / part.graph_path).run(None, {"input": x.numpy()})
    return logits


def _some_order(stages):
    return nested("odd", stages, [(0, 0, 0), (1, 0, 1), (1, 2, 1), (2, 2, 2)])


@pytest.mark.parametrize("order, depth", [(right_to_left, 8), (blockwise, 14), (_some_order, 14)])
def test_every_prefix_runs_alone_and_equals_torch(order, depth: int, tmp_path: Path) -> None:
    network = _resnet(order, depth)
    parts = make_parts(network, torch.rand(2, 3, 32, 32))
    x = torch.rand(3, 3, 32, 32)
    for k, part in enumerate(parts):
        _lay_out(parts[k : k + 1], tmp_path)  # the folder grows with k, as a device's does
        np.testing.assert_allclose(_run(tmp_path, part, x), network(x, k).detach().numpy(), atol=1e-4)


def test_every_weight_is_delivered_once() -> None:
    network = _resnet(right_to_left)
    parts = make_parts(network, torch.rand(2, 3, 32, 32))
    convolutions = sum(m.weight.numel() + m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d))
    others = sum(p.numel() for m in network.modules() if isinstance(m, nn.Linear) for p in m.parameters())
    others += sum(b.numel() for b in network.module.normalise.buffers())
    tensors = 0
    for part in parts:
        infos = parse_header(part.segment, len(part.segment), part.segment_path)
        tensors += sum(info.end - info.start for info in infos.values())
    assert tensors == 4 * (convolutions + others)


def test_names_in_the_files_are_the_networks_own() -> None:
    parts = make_parts(_resnet(right_to_left), torch.rand(2, 3, 32, 32))
    assert list(parse_header(parts[1].segment, len(parts[1].segment), "")) == [
        "stage2.0.conv1.weight",
        "stage2.0.conv1.bias",
        "stage2.0.conv2.weight",
        "stage2.0.conv2.bias",
    ]


def test_the_same_network_gives_the_same_bytes() -> None:
    assert make_parts(_resnet(blockwise), torch.rand(2, 3, 32, 32)) == make_parts(_resnet(blockwise), torch.rand(3, 3, 32, 32))


def test_graphs_are_small_and_hold_no_weights() -> None:
    parts = make_parts(_resnet(right_to_left), torch.rand(2, 3, 32, 32))
    model = onnx.load_from_string(parts[-1].graph)
    assert {node.op_type for node in model.graph.node} == {
        *("Mul", "Add", "Conv", "Relu", "AveragePool", "Pad", "ReduceMean", "Gemm")
    }
    inside = [tensor for tensor in model.graph.initializer if tensor.data_location != onnx.TensorProto.EXTERNAL]
    assert all(tensor.data_type == onnx.TensorProto.INT64 for tensor in inside)
    assert len(parts[-1].graph) < 1200 + 250 * sum(node.op_type == "Conv" for node in model.graph.node)


class _Switched(nn.Module):
    """Two convolutions whose norms have statistics for each configuration."""

    def __init__(self, configurations: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(configurations))

    def forward(self, x: Tensor, k: int) -> Tensor:
        x = torch.relu(self.norms[k](self.first(x)))
        return (self.block(x) if k else x).mean((2, 3))


class _AtK(nn.Module):
    def __init__(self, module: nn.Module, k: int) -> None:
        super().__init__()
        self.module, self.k = module, k

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x, self.k)


class _SwitchedNetwork(ElasticNetwork):
    def at(self, k: int) -> nn.Module:
        return _AtK(self.module, k).eval()


def test_a_norm_that_changes_with_the_configuration_leaves_the_weight_shared(tmp_path: Path) -> None:
    torch.manual_seed(5)
    module = _settled(_Switched(2))
    network = _SwitchedNetwork(module, Order("two", (("block",),), (frozenset(), frozenset({"block"}))))
    parts = make_parts(network, torch.rand(2, 3, 8, 8))
    _lay_out(parts, tmp_path)
    x = torch.rand(4, 3, 8, 8)
    for k, part in enumerate(parts):
        np.testing.assert_allclose(_run(tmp_path, part, x), network.at(k)(x).detach().numpy(), atol=1e-5)
    shapes = [[info.shape for info in parse_header(p.segment, len(p.segment), "").values()] for p in parts]
    assert shapes[0] == [(8, 3, 3, 3), (8, 1, 1), (8, 1, 1)]
    assert shapes[1] == [(8, 1, 1), (8, 1, 1), (8, 8, 3, 3), (8,)]


def test_two_equal_convolutions_with_different_norms_stay_apart(tmp_path: Path) -> None:
    torch.manual_seed(6)
    first, second = (nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)) for _ in range(2))
    second[0].load_state_dict(first[0].state_dict())
    module = _settled(nn.Sequential(first, second)).eval()
    network = ElasticNetwork(module, Order("one", (("1",),), (frozenset({"1"}),)))
    parts = make_parts(network, torch.rand(2, 4, 5, 5))
    _lay_out(parts, tmp_path)
    x = torch.rand(2, 4, 5, 5)
    np.testing.assert_allclose(_run(tmp_path, parts[0], x), module(x).detach().numpy(), atol=1e-5)


def test_a_step_that_adds_no_tensor_has_no_segment(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    network = ElasticNetwork(module, Order("two", (("1",),), (frozenset(), frozenset({"1"}))))
    parts = make_parts(network, torch.rand(2, 3, 8, 8))
    _lay_out(parts, tmp_path)
    assert parts[1].segment is None
    x = torch.rand(1, 3, 8, 8)
    np.testing.assert_allclose(_run(tmp_path, parts[1], x), module(x).detach().numpy(), atol=1e-5)
