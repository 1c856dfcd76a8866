"""Packages of networks that nobody trained."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from accordion.data import load
from accordion.packaging import package
from accordion.profiling import profile
from accordion.training import RunDirectory, TrainingConfig, build_network
from accordion.training.norms import measure_norms

PICTURES = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def packaged(config: TrainingConfig, run: Path, out: Path) -> None:
    """A package of a network with random weights and statistics, some of them different in each configuration."""
    torch.manual_seed(9)
    dataset = load("digits")
    network = build_network(config, dataset)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    run.mkdir(parents=True)
    directory = RunDirectory(run)
    directory.write_settings({"config": config.to_json()})
    directory.write_weights(network.module.state_dict())
    directory.write_norms(measure_norms(network, [PICTURES], [[k] for k in range(len(network))]))
    profile(run, device_latency=False, limit=20)
    package(run, out, tag="v1")
