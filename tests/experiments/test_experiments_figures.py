from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from experiments.changes import effects
from experiments.figures import ablations, curves, figure4, tax
from experiments.figures.all import draw_all
from experiments.outcome import Outcome
from experiments.series import Group, collect, groups

Make = Callable[..., Outcome]


@pytest.fixture
def outcomes(make: Make) -> list[Outcome]:
    found = []
    for seed in (0, 1):
        found += [
            make("ResNet", seed, (950, 900, 800, 90 + seed), policy="full"),
            make("CoML-05", seed, (600 + 20 * seed, 400, 200, 100)),
            make("joint", seed, (500, 300, 200, 80), experiment="ablation", against="CoML-05", objective="joint"),
        ]
    return found


def drawn_and_labelled(paths: tuple[Path, Path], *labels: str) -> None:
    png, svg = paths
    with Image.open(png) as picture:
        assert min(picture.size) > 200 and len(picture.convert("RGB").getcolors(1_000_000) or []) > 10
    text = svg.read_text()
    for label in labels:
        assert label in text, label


def test_figure_4_has_its_axes(outcomes: list[Outcome], tmp_path: Path) -> None:
    ((group, members),) = groups(collect(outcomes), "figure4").items()
    drawn_and_labelled(
        figure4.draw(group, members, tmp_path),
        "float32 bytes of the package up to the configuration (MB)",
        "share of the complete package (%)",
        "paper's Mbit (64 bits a parameter)",
        "multiply-accumulates for one picture (millions)",
        "test error (%), mean and standard deviation",
        "CoML-05 (2 seeds)",
        "ResNet-20 on CIFAR-10, recipe short",
    )


def test_the_papers_points_stand_beside_its_own_networks_alone(outcomes: list[Outcome], tmp_path: Path) -> None:
    members = collect([one for one in outcomes if one.experiment == "figure4"])
    _, own = figure4.draw(Group("cifar10", "resnet56", "short"), members, tmp_path)
    _, other = figure4.draw(Group("cifar10", "resnet20", "short"), members, tmp_path)
    assert "stars: what the paper states" in own.read_text() and "pruned" in own.read_text()
    assert "stars" not in other.read_text()


def test_curves_tax_and_ablations(outcomes: list[Outcome], tmp_path: Path) -> None:
    series = collect(outcomes)
    ((group, members),) = groups(series, "figure4").items()
    drawn_and_labelled(curves.draw(group, members, tmp_path), "epoch", "validation error, complete network (%)")
    found = tax.draw(group, members, series, tmp_path)
    assert found is not None
    drawn_and_labelled(found, "target: 0.5 points", "(3, 3, 3)")
    changed = ablations.draw(effects(series), tmp_path)
    assert changed is not None
    drawn_and_labelled(changed, "joint", "(against CoML-05)", "training computation")


def test_what_there_is_no_data_for_is_not_drawn(outcomes: list[Outcome], tmp_path: Path) -> None:
    assert draw_all(tmp_path / "nothing", tmp_path) == []
    assert ablations.draw([], tmp_path) is None
    (tmp_path / "data").mkdir()
    outcomes[1].write(tmp_path / "data")
    drawn = draw_all(tmp_path / "data", tmp_path / "pictures")
    assert {path.stem for path in drawn} == {"figure4-resnet20-cifar10-short", "curves-resnet20-cifar10-short"}
    assert all(path.stat().st_size > 1000 for path in drawn)
