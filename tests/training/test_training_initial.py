from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from packaged_runs import PICTURES, packaged
from torch import nn

from accordion.artifact.layout import Layout
from accordion.data import Dataset
from accordion.elastic import CifarResNet
from accordion.errors import ContentError, UsageError
from accordion.training import RunDirectory, TrainingConfig, build_network, load_run, train
from accordion.training.initial import adopt


@pytest.mark.parametrize(
    ("order", "heads"), [("blockwise", "shared"), ("right-to-left", "stage"), ("right-to-left", "configuration")]
)
def test_a_network_from_a_package_answers_as_the_package_does(
    config: TrainingConfig, tmp_path: Path, order: str, heads: str
) -> None:
    config = replace(config, network="resnet14", order=order, heads=heads)
    packaged(config, tmp_path / "run", tmp_path / "package")
    _, trained, dataset = load_run(tmp_path / "run")
    network = build_network(config, dataset)
    adopt(network, f"{tmp_path / 'package'}:v1", dataset, seed=0)
    # Packaging itself checked that ONNX Runtime answers as `trained` does.
    ks = [len(network) - 1] if order == "blockwise" else range(len(network))
    network.eval()
    for k in ks:
        with torch.no_grad():
            torch.testing.assert_close(network(PICTURES, k), trained(PICTURES, k), rtol=1e-4, atol=1e-4)
    module = network.module
    assert isinstance(module, CifarResNet)
    conv, norm = module.stage2[0].conv1, module.stage2[0].norm1
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
    # In training mode the norm divides by what it multiplies with, nearly: the network begins as what it was.
    torch.testing.assert_close(norm.weight.detach(), (norm.running_var + norm.eps).sqrt())
    assert float(conv.weight.detach().abs().max()) > 0


def test_a_training_begins_with_a_package_and_goes_on_without_it(
    config: TrainingConfig, few_digits: Dataset, tmp_path: Path
) -> None:
    packaged(config, tmp_path / "run", tmp_path / "package")
    recipe = config.recipe.with_changes(epochs=1, learning_rate=1e-30)
    config = replace(config, initial=str(tmp_path / "package"), recipe=recipe)
    with pytest.raises(Exception, match="its time is over"):
        train(config, tmp_path / "more", accelerator="cpu", dataset=few_digits, max_seconds=0)
    shutil.rmtree(tmp_path / "package")
    train(config, tmp_path / "more", accelerator="cpu", dataset=few_digits)
    _, before, _ = load_run(tmp_path / "run")
    weight = RunDirectory(tmp_path / "more").read_weights()["head.linear.weight"]
    torch.testing.assert_close(weight, before.module.state_dict()["head.linear.weight"])


def test_what_can_not_be_begun_with_is_refused_and_leaves_nothing(
    config: TrainingConfig, few_digits: Dataset, tmp_path: Path
) -> None:
    packaged(config, tmp_path / "run", tmp_path / "package")
    good = str(tmp_path / "package")
    for changes, message in (
        ({"initial": str(tmp_path / "nowhere")}, "no run and no package"),
        ({"initial": good + ":v9"}, "v9"),
        ({"initial": good, "network": "resnet14"}, "another network"),
        ({"initial": good, "width": 8}, "another network"),
    ):
        with pytest.raises(UsageError, match=message):
            train(replace(config, **changes), tmp_path / "new", accelerator="cpu", dataset=few_digits)
        assert not (tmp_path / "new").exists()
    layout = Layout.open(tmp_path / "package")
    layer = layout.manifest("v1").layers[1]
    path = layout.blob_path(layer.digest)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ContentError, match="can't be begun with"):
        train(replace(config, initial=good), tmp_path / "new", accelerator="cpu", dataset=few_digits)
