"""Choosing by measured inference time, over a shipped package that has two kinds of kernels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from accordion.cli import main
from accordion.device import Model, fetch
from accordion.errors import UnmeetableError, UsageError
from serving import serving

ZOO = Path(__file__).parents[2] / "zoo"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    folder = tmp_path_factory.mktemp("latency") / "model"
    with serving(ZOO / "resnet56-cifar10-compact") as url:
        fetch(f"{url}/resnet56-cifar10-compact", folder)
    with Model.open(folder) as opened:
        yield opened


def times(model: Model, k: int) -> tuple[float, float]:
    rung = model.ladder.configurations[k]
    return rung.extra["latency_s"]["median"], rung.alternatives[0].extra["latency_s"]["median"]


def test_time_enough_gives_the_best_quality_of_either_kind(model: Model) -> None:
    k, kernels = model.choose_within(1.0)
    rungs = model.ladder.configurations
    best = max(quality.value for rung in rungs for quality in (rung.quality, rung.alternatives[0].quality))
    chosen = rungs[k].quality if kernels == "float" else rungs[k].alternatives[0].quality
    assert chosen.value == best
    assert model.choose_within(1.0, kernels="float")[1] == "float"


def test_integer_kernels_are_taken_where_float_ones_are_too_slow(model: Model) -> None:
    slow, quick = times(model, 5)
    assert quick < slow
    k, kernels = model.choose_within((quick + slow) / 2)
    took = times(model, k)[kernels == "integer"]
    assert took <= (quick + slow) / 2
    k_float, _ = model.choose_within((quick + slow) / 2, kernels="float")
    rungs = model.ladder.configurations
    reached = (rungs[k].quality if kernels == "float" else rungs[k].alternatives[0].quality).value
    assert reached >= rungs[k_float].quality.value
    assert kernels == "integer"


def test_other_limits_hold_too(model: Model) -> None:
    macs = model.ladder.configurations[2].macs
    k, _ = model.choose_within(1.0, max_macs=macs)
    assert model.ladder.configurations[k].macs <= macs


def test_what_can_not_be_is_said(model: Model) -> None:
    with pytest.raises(UnmeetableError, match="no configuration here was measured to run in 1e-06 ms"):
        model.choose_within(1e-9)
    with pytest.raises(UsageError, match="states no inference times for analog kernels"):
        model.choose_within(1.0, kernels="analog")


def test_the_command(model: Model, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import numpy as np

    picture = tmp_path / "x.npy"
    np.save(picture, np.zeros((1, 3, 32, 32), np.float32))
    assert main(["run", str(model.path), str(picture), "--max-latency", "1s", "--kernels", "integer"]) == 0
    assert "integer kernels" in capsys.readouterr().out
    assert main(["run", str(model.path), str(picture), "--max-latency", "1s", "--configuration", "1"]) == 2
    assert "leave --max-latency out" in capsys.readouterr().err
    assert main(["run", str(model.path), str(picture), "--max-latency", "0.001us"]) == 3
    assert main(["run", str(model.path), str(picture), "--max-latency", "1s", "--max-energy", "1"]) == 2
