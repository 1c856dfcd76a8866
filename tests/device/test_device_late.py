"""Graphs for integer kernels that come later than their configurations, in a shipped package."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from accordion.artifact.layout import Layout
from accordion.cli import main
from accordion.device import Model, Request, fetch, upgrade
from accordion.errors import ContentError, UnmeetableError
from serving import serving

NAME = "resnet56-cifar10-compact"
ZOO = Path(__file__).parents[2] / "zoo"
X = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with serving(ZOO / NAME) as url:
        yield f"{url}/{NAME}"


@pytest.fixture(scope="module")
def bringing() -> int:
    """The first configuration with which the graph of configuration 2 for integer kernels is there."""
    layout = Layout.open(ZOO / NAME)
    ladder = layout.ladder(layout.manifest())
    ((late),) = ladder.configurations[2].late_alternatives()
    found = next(one.index for one in ladder.configurations if one.layers >= late.layers)
    assert 2 < found < len(ladder) - 1
    return found


@pytest.fixture
def small(endpoint: str, tmp_path: Path) -> Path:
    layout = Layout.open(ZOO / NAME)
    fetch(endpoint, tmp_path / "model", Request(max_bytes=layout.ladder(layout.manifest()).configurations[2].bytes))
    return tmp_path / "model"


def test_it_is_not_there_with_its_configuration(small: Path, bringing: int, capsys: pytest.CaptureFixture[str]) -> None:
    with Model.open(small) as model:
        assert model.kernels(2) == ("float",)
        with pytest.raises(UnmeetableError, match=f"--to {bringing}` fetches it"):
            model.run(X, 2, kernels="integer")
        assert model.choose_within(1.0)[1] == "float"
    np.save(small.parent / "x.npy", X)
    assert main(["run", str(small), str(small.parent / "x.npy"), "--kernels", "integer"]) == 3
    assert f"comes with configuration {bringing}" in capsys.readouterr().err
    assert main(["verify", str(small)]) == 0


def test_it_comes_with_an_upgrade_and_goes_with_shedding(endpoint: str, small: Path, bringing: int) -> None:
    fetch(endpoint, small.parent / "whole")
    upgrade(small, to=bringing)
    assert main(["verify", str(small)]) == 0
    with Model.open(small) as model, Model.open(small.parent / "whole") as whole:
        assert model.kernels(2) == ("float", "integer")
        floats, integers = (model.run(X, 2, kernels=kind)["logits"] for kind in ("float", "integer"))
        assert np.array_equal(integers, whole.run(X, 2, kernels="integer")["logits"])
        assert not np.array_equal(integers, floats)
    assert main(["shed", str(small), "--to", str(bringing - 1)]) == 0
    with Model.open(small) as model:
        assert model.kernels(2) == ("float",)
    assert not (small / "002i.onnx").exists()


def test_it_is_checked_before_it_runs(small: Path, bringing: int) -> None:
    upgrade(small, to=bringing)
    again = shutil.copytree(small, small.parent / "again")
    graph = again / "002i.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    with Model.open(again) as model, pytest.raises(ContentError, match=r"002i\.onnx is corrupt"):
        model.run(X, 2, kernels="integer")
    assert main(["verify", str(again)]) == 4
