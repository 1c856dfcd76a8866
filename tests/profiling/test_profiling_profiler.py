from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from accordion.errors import StorageError, UsageError
from accordion.profiling import profile
from accordion.training import RunDirectory, load_run


def test_profile_measures_every_configuration_of_a_run(run: Path) -> None:
    lines: list[str] = []
    found = profile(run, limit=100, progress=lines.append)
    _, network, dataset = load_run(run)
    rows = found.ladder["configurations"]
    assert [row["index"] for row in rows] == list(range(len(network)))
    assert [row["blocks"]["total"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[2]["blocks"]["by_stage"] == [2, 1, 0]
    x = torch.from_numpy(dataset.test.x[np.linspace(0, len(dataset.test) - 1, 100).astype(int)]).float() / 255
    y = dataset.test.y[np.linspace(0, len(dataset.test) - 1, 100).astype(int)]
    for k, row in enumerate(rows):
        right = network(x, k).argmax(1).numpy() == y
        assert row["quality"]["value"] == pytest.approx(right.mean())
        assert row["quality"]["samples"] == 100
        assert np.array_equal(found.correct[k], right)
        assert 0 < row["latency_s"]["low"] <= row["latency_s"]["median"] <= row["latency_s"]["high"]
    costs = [(row["parameters"], row["macs"], row["weights_bytes"]) for row in rows]
    assert costs == sorted(costs) and len(set(costs)) == len(costs)
    state = network.module.state_dict()
    assert rows[-1]["weights_bytes"] == sum(t.numel() * 4 for t in state.values() if t.is_floating_point())
    assert found.ladder["inputs"][0]["shape"] == ["n", 1, 8, 8]
    assert found.ladder["outputs"][0]["labels"] == list("0123456789")
    assert "configuration 5 of 5" in lines[-1]


def test_what_profile_writes_is_data(run: Path) -> None:
    found = profile(run, split="validation", device_latency=False)
    ladder = json.loads((run / "ladder.json").read_text())
    assert ladder.pop("measured_on") == RunDirectory(run).digest()
    assert ladder == json.loads(json.dumps(found.ladder))
    assert "latency_s" not in ladder["configurations"][0]
    details = json.loads((run / "profile.json").read_text())
    assert details["samples"] == ladder["configurations"][0]["quality"]["samples"] == found.correct.shape[1]
    assert details["split"] == ladder["configurations"][0]["quality"]["split"] == "validation"
    with np.load(run / "correct.npz") as bits:
        unpacked = np.unpackbits(bits["packed"], axis=1, count=int(bits["samples"])).astype(bool)
    assert np.array_equal(unpacked, found.correct)
    by_class = np.array(details["accuracy_by_class"])
    assert by_class.shape == (6, 10)
    assert {path.name for path in run.iterdir()} == {
        "run.json",
        "weights.safetensors",
        "ladder.json",
        "profile.json",
        "correct.npz",
    }


@pytest.mark.parametrize("wrong, message", [({"split": "train"}, "unknown split 'train'"), ({"limit": 0}, "0 pictures")])
def test_nonsense_is_refused(run: Path, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        profile(run, **wrong)
    assert not (run / "ladder.json").exists()


def test_no_run_no_profile(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run directory"):
        profile(tmp_path / "nothing")


def test_a_place_that_cannot_be_written_is_named(run: Path) -> None:
    (run / "ladder.json").mkdir()
    with pytest.raises(StorageError, match="can't write"):
        profile(run, device_latency=False, limit=10)
    assert {path.name for path in run.iterdir()} == {"run.json", "weights.safetensors", "ladder.json"}
