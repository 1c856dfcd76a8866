"""A run out of a package: the same network, and packaged again the same package."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from packaged_runs import PICTURES, packaged
from torch import nn

from accordion.artifact.layout import Layout
from accordion.elastic import OrderTable
from accordion.errors import ContentError, UsageError
from accordion.packaging import package, rounding
from accordion.profiling import measure_lattice, profile
from accordion.training import Finishing, RunDirectory, TrainingConfig, build_network, calibrate, finish, load_run, restore
from accordion.training.initial import adopt

ODD = OrderTable("odd", ((1, 0, 0), (1, 1, 0), (2, 1, 1), (2, 2, 2)))
LATENCY = {"median": 0.001, "low": 0.0009, "high": 0.0012, "runs": 3, "threads": 1, "machine": "this one"}


def weights_of(path: Path, tag: str) -> list[str]:
    return [layer.digest for layer in Layout.open(path).manifest(tag).layers if "weight" in layer.media_type]


def ladder_of(run: Path) -> dict[str, Any]:
    """As a package keeps it: shares of bytes are of the complete configuration's alone."""
    fields: dict[str, Any] = json.loads((run / "ladder.json").read_bytes())
    for row in fields["configurations"][:-1]:
        row.pop("weights_bytes", None)
    assert fields.pop("measured_on") == RunDirectory(run).digest()
    return fields


@pytest.mark.parametrize(
    ("order", "heads", "network"),
    [
        ("blockwise", "shared", "resnet14"),
        ("right-to-left", "stage", "resnet14"),
        ("right-to-left", "shared", "resnet8"),
        (ODD, "stage", "resnet14"),
        (ODD, "configuration", "resnet14"),
        ("right-to-left", "configuration", "resnet2-1-1"),
        ("right-to-left", "shared", "resnet2-1-1"),
    ],
)
def test_a_run_from_a_package_makes_the_same_package(
    config: TrainingConfig, tmp_path: Path, order: str | OrderTable, heads: str, network: str
) -> None:
    config = replace(config, network=network, order=order, heads=heads)
    run, again = tmp_path / "run", tmp_path / "again"
    packaged(config, run, tmp_path / "package")
    made = restore(f"{tmp_path / 'package'}:v1", again)
    assert (made.network, made.order, made.heads, made.dataset) == (network, order, heads, "digits")
    _, trained, _ = load_run(run)
    _, restored, _ = load_run(again)
    with torch.no_grad():
        for k in range(len(trained)):
            torch.testing.assert_close(restored.at(k)(PICTURES), trained.at(k)(PICTURES), rtol=1e-4, atol=1e-4)
    # Weights come back to the bit; factors and shifts of single configurations may be rounded once more.
    package(again, tmp_path / "second", tag="v1")
    first, second = (weights_of(tmp_path / name, "v1") for name in ("package", "second"))
    assert len(first) == len(second)
    if order == "right-to-left":
        assert first == second
    assert ladder_of(again) == ladder_of(run)


def test_latencies_come_back_as_they_were_measured(config: TrainingConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    packaged(config, run, tmp_path / "package")
    fields = ladder_of(run)
    for row in fields["configurations"]:
        row["latency_s"] = LATENCY
    (run / "ladder.json").write_text(json.dumps(fields))
    package(run, tmp_path / "timed", tag="v1")
    restore(str(tmp_path / "timed"), tmp_path / "again")
    assert ladder_of(tmp_path / "again") == fields


def test_channels_that_are_off_stay_off(config: TrainingConfig, tmp_path: Path) -> None:
    """A scale of zero leaves the shift alone, whatever the statistics."""
    run = tmp_path / "run"
    packaged(replace(config, order="blockwise", network="resnet14"), run, tmp_path / "package")
    directory = RunDirectory(run)
    weights = directory.read_weights()
    for name, tensor in weights.items():
        if name.startswith("stage") and "norm" in name and name.endswith("weight"):
            tensor[::3] = 0
            tensor[1::3] *= -1
    directory.write_weights(weights)
    profile(run, device_latency=False)
    package(run, tmp_path / "off", tag="v1")
    restore(str(tmp_path / "off"), tmp_path / "again")
    _, network, _ = load_run(tmp_path / "again")
    _, trained, _ = load_run(run)
    with torch.no_grad():
        for k in range(len(trained)):
            torch.testing.assert_close(network.at(k)(PICTURES), trained.at(k)(PICTURES), rtol=1e-4, atol=1e-4)
    norms = [m for m in network.module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert any(bool((norm.weight == 0).any()) for norm in norms)


def test_what_can_not_become_a_run(config: TrainingConfig, tmp_path: Path) -> None:
    packaged(config, tmp_path / "run", tmp_path / "package")
    package(tmp_path / "run", tmp_path / "package", tag="small", codec="int8", latency=False)
    whole = str(tmp_path / "package")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    for source, out, message in (
        (str(tmp_path / "nowhere"), "new", "no package"),
        (whole + ":none", "new", "none"),
        (whole + ":small", "new", "rounded"),
        (whole + ":v1", "taken", "holds something"),
    ):
        with pytest.raises(UsageError, match=message):
            restore(source, tmp_path / out)
        assert not (tmp_path / "new").exists()
    layout = Layout.open(tmp_path / "package")
    path = layout.blob_path(layout.manifest("v1").layers[1].digest)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ContentError):
        restore(whole + ":v1", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.fixture
def restored(config: TrainingConfig, tmp_path: Path) -> Path:
    packaged(replace(config, order="blockwise", network="resnet14"), tmp_path / "run", tmp_path / "package")
    restore(str(tmp_path / "package"), tmp_path / "again")
    return tmp_path / "again"


def test_statistics_of_a_package_are_not_measured_again(restored: Path) -> None:
    """Norms out of a package only look like norms: statistics of data would make another network of it."""
    before = RunDirectory(restored).digest()
    for norms in ("configuration", "shared", "running"):
        with pytest.raises(UsageError, match="was restored from a package"):
            calibrate(restored, norms=norms)
    assert RunDirectory(restored).digest() == before
    found, plain = (measure_lattice(restored, samples=100, norm_pictures=count) for count in (500, 0))
    assert found == plain
    finish(restored, restored.with_name("finished"), Finishing(("int8",)), rounding=rounding, epochs=1, accelerator="cpu")
    with pytest.raises(UsageError, match="was restored from a package"):
        calibrate(restored.with_name("finished"))


def test_a_training_may_begin_with_a_restored_run(restored: Path) -> None:
    config, known, dataset = load_run(restored)
    network = build_network(config, dataset)
    adopt(network, str(restored), dataset, seed=0)
    complete = network.extract(len(network) - 1).eval()
    x = torch.from_numpy(dataset.hold_out()[0].x[:1000]).float() / 255
    with torch.no_grad():
        answers = complete(x)
        torch.testing.assert_close(answers, known.at(len(known) - 1)(x), rtol=1e-3, atol=1e-3)
        # What a training step computes, by the statistics of its own pictures, is near that.
        off = (complete.train()(x) - answers).abs().mean()
    assert off < 0.2 * answers.std()
