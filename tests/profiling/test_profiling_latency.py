from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from accordion.errors import FormatError
from accordion.profiling import export_onnx, measure


def _model(depth: int) -> bytes:
    return export_onnx(nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(depth))), torch.rand(2, 8, 32, 32))


def test_more_work_takes_longer(tmp_path: Path) -> None:
    x = {"input": np.zeros((1, 8, 32, 32), np.float32)}
    path = tmp_path / "long.onnx"
    path.write_bytes(_model(40))
    short, long = measure(_model(1), x), measure(path, x)
    assert short.median < long.median
    assert 0 < long.low <= long.median <= long.high
    assert long.to_json()["runtime"] == f"onnxruntime {onnxruntime.__version__} CPU"
    assert long.machine.endswith("cores")


def test_stops_when_its_time_is_over() -> None:
    x = {"input": np.zeros((1, 8, 32, 32), np.float32)}
    assert measure(_model(1), x, runs=1000, budget_s=0.0).runs == 5
    assert measure(_model(1), x, runs=7, budget_s=60.0).runs == 7


def test_what_is_no_model_is_named() -> None:
    with pytest.raises(FormatError, match="ONNX Runtime can't load the model"):
        measure(b"no model", {})
