"""A finished and profiled run of the smallest ResNet on digits, with random weights: what is packed here need not be good."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from accordion.data import load
from accordion.profiling import profile
from accordion.training import RunDirectory, TrainingConfig, build_network


@pytest.fixture(scope="session")
def original_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(7)
    config = replace(TrainingConfig(), dataset="digits", network="resnet8", width=4, order="right-to-left")
    network = build_network(config, load("digits"))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.0)
    directory = RunDirectory(tmp_path_factory.mktemp("original") / "run")
    directory.path.mkdir()
    directory.write_settings({"schema_version": 1, "config": config.to_json()})
    directory.write_weights(network.module.state_dict())
    profile(directory.path, device_latency=False, limit=50)
    return directory.path


@pytest.fixture
def profiled(original_run: Path, tmp_path: Path) -> Path:
    """A copy of it for one test to spoil."""
    return Path(shutil.copytree(original_run, tmp_path / "run"))
