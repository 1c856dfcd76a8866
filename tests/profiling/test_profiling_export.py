from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from accordion.elastic import CifarResNet, ElasticNetwork, right_to_left
from accordion.errors import UsageError
from accordion.profiling import export_onnx


def test_the_export_equals_the_module_for_another_batch_size() -> None:
    torch.manual_seed(1)
    module = CifarResNet(8, 10)
    network = ElasticNetwork(module, right_to_left(module.stages)).eval()
    for k in range(len(network)):
        session = onnxruntime.InferenceSession(export_onnx(network.at(k), torch.rand(2, 3, 32, 32)))
        x = torch.rand(5, 3, 32, 32)
        (logits,) = session.run(["logits"], {"input": x.numpy()})
        np.testing.assert_allclose(logits, network(x, k).detach().numpy(), atol=1e-4)


def test_the_mode_of_every_part_is_restored() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    module[1].eval()
    export_onnx(module, torch.rand(2, 3, 4, 4))
    assert [part.training for part in module] == [True, False]
    assert module.training


def test_what_onnx_cannot_say_is_a_usage_error() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.lstsq(x, x).solution

    with pytest.raises(UsageError, match="Odd can't be exported to ONNX"):
        export_onnx(Odd(), torch.rand(2, 3, 3))
