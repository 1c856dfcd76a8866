from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from accordion.cli import main
from accordion.data import load
from accordion.elastic import OrderTable, closed_form_macs
from accordion.profiling import lattice as module
from accordion.profiling import measure_lattice
from accordion.training import MODERN, RunDirectory, TrainingConfig, build_network, calibrate, correct, load_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished training over a grid, as far as files say; the weights are random, since nothing here need be good."""
    torch.manual_seed(1)
    recipe = MODERN.with_changes(objective="sandwich")
    config = replace(TrainingConfig(), dataset="digits", network="resnet20", width=2, order="grid", recipe=recipe)
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    directory.write_settings({"config": config.to_json()})
    directory.write_weights(build_network(config, load("digits")).module.state_dict())
    return directory.path


def test_errors_are_those_of_each_configuration_on_the_validation_split(run: Path) -> None:
    found = measure_lattice(run, norm_pictures=0)
    _, network, dataset = load_run(run)
    hits = correct(network, dataset.hold_out()[1], range(27))
    assert found.configurations == tuple(network.order.by_stage(k) for k in range(27))
    assert found.errors == pytest.approx([1 - float(h.float().mean()) for h in hits.values()])
    assert found.samples == len(dataset.hold_out()[1])


def test_norms_are_measured_for_each_configuration_first(run: Path) -> None:
    found = measure_lattice(run, norm_pictures=300)
    assert found.errors != measure_lattice(run, norm_pictures=0).errors
    calibrate(run, pictures=300)
    assert measure_lattice(run, norm_pictures=0).errors == found.errors


def test_costs_add_up_and_are_those_of_the_real_networks(run: Path) -> None:
    found = measure_lattice(run, norm_pictures=0, samples=10)
    _, network, _ = load_run(run)
    for k, counts in enumerate(found.configurations):
        macs = closed_form_macs(counts, 10, size=8, in_channels=1, widths=(2, 4, 8))
        assert found.costs["macs"][k] == pytest.approx(macs)
        # Folded: a convolution's weight and one bias a channel, and the linear layer.
        convolutions = [p for p in network.at(k).parameters() if p.ndim == 4]
        assert found.costs["bytes"][k] == 4 * (sum(p.numel() + p.shape[0] for p in convolutions) + 8 * 10 + 10)


def test_an_interrupted_measurement_goes_on_where_it_was(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure_lattice(run, norm_pictures=0)
    (run / "grid.json").unlink()
    monkeypatch.setattr(module, "BATCH", 50)
    seen = []

    def stops(*arguments: object, **options: object) -> dict[int, torch.Tensor]:
        seen.append(len(arguments[1]))  # type: ignore[arg-type]
        if len(seen) == 2:
            raise KeyboardInterrupt
        return correct(*arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "correct", stops)
        measure_lattice(run, norm_pictures=0)
    assert json.loads((run / "grid.json").read_text())["done"] == 50
    told: list[str] = []
    again = measure_lattice(run, norm_pictures=0, progress=told.append)
    assert again == whole
    assert f"on {whole.samples - 50} pictures" in told[0]
    told.clear()
    assert measure_lattice(run, norm_pictures=0, progress=told.append) == whole
    assert not told
    (run / "grid.json").write_text("{")
    assert measure_lattice(run, norm_pictures=0) == whole


def test_the_command_writes_an_order_that_a_training_takes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, picture = tmp_path / "order.json", tmp_path / "lattice"
    command = ["order", str(run), "-o", str(out), "--every", "2", "--samples", "60", "--norm-pictures", "100", "--json"]
    assert main([*command, "--objective", "2:bytes,1:latency", "--steps", "3", "--picture", str(picture)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(out.read_text())
    assert document["measured"] == {"configurations": 8, "validation_pictures": 60}
    table = OrderTable.from_file(out)
    assert table.configurations[0] == (1, 1, 1) and table.configurations[-1] == (3, 3, 3) and len(table.configurations) <= 3
    best = min(document["of_other_orders"].values())  # as means of the same numbers, added up otherwise
    assert document["mean_error_over_budgets"] <= best + 1e-9 or len(table.configurations) == 3
    assert picture.with_suffix(".png").stat().st_size > 5000 and picture.with_suffix(".svg").exists()
    _, _, dataset = load_run(run)
    assert len(build_network(replace(TrainingConfig(), network="resnet20", order=table), dataset)) == len(table.configurations)


def test_bad_requests_are_wrong_usage(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["order", str(run), "-o", str(tmp_path / "nowhere" / "order.json")],
        ["order", str(run), "-o", str(tmp_path / "order.json"), "--objective", "beauty"],
        ["order", str(tmp_path), "-o", str(tmp_path / "order.json")],
        ["calibrate", str(run), "--norms", "many"],
        ["calibrate", str(tmp_path)],
    ):
        assert main(arguments) == 2, arguments
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "order.json").exists()
