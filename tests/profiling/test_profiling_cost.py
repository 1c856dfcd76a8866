from __future__ import annotations

import pytest
import torch
from torch import nn

from accordion.elastic import CifarResNet, ElasticNetwork, blockwise, closed_form_macs, right_to_left
from accordion.profiling import count_macs, count_parameters, one_thread


@pytest.mark.parametrize("order", [right_to_left, blockwise])
@pytest.mark.parametrize("channels, size", [(3, 32), (1, 8)])
def test_macs_of_every_configuration_equal_the_closed_form(order, channels: int, size: int) -> None:
    module = CifarResNet(14, 10, in_channels=channels)
    network = ElasticNetwork(module, order(module.stages))
    for k in range(len(network)):
        counted = count_macs(network.at(k), torch.rand(1, channels, size, size))
        assert counted == closed_form_macs(network.order.by_stage(k), 10, size=size, in_channels=channels)


def test_macs_of_resnet110_are_the_published_figure() -> None:
    # 253 million for ResNet-110 at 32×32 (He et al.: 1.7 million parameters).
    assert count_macs(CifarResNet(110, 10), torch.rand(1, 3, 32, 32)) == pytest.approx(253e6, rel=0.01)


def test_counting_leaves_the_mode_and_the_statistics_alone() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = module[1].running_mean.clone()
    count_macs(module, torch.rand(1, 3, 4, 4))
    assert module.training and module[1].training
    assert torch.equal(module[1].running_mean, before)


def test_a_shared_parameter_counts_once() -> None:
    linear = nn.Linear(5, 5, bias=False)
    assert count_parameters(nn.Sequential(linear, nn.ReLU(), linear)) == 25


def test_threads_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("layers", [1, 3])
def test_attention_is_counted(layers: int) -> None:
    """In eval mode PyTorch takes a fused path, of which its counter sees nothing."""
    width, heads, inner, length = 8, 2, 16, 5
    module = nn.TransformerEncoder(nn.TransformerEncoderLayer(width, heads, inner, batch_first=True), layers)
    projections = length * width * 4 * width + 2 * length * width * inner
    products = 2 * length * length * width
    fused = torch.backends.mha.get_fastpath_enabled()
    assert count_macs(module, torch.zeros(1, length, width)) == layers * (projections + products)
    assert torch.backends.mha.get_fastpath_enabled() == fused
