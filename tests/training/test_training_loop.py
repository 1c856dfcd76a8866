from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from accordion.data import Dataset
from accordion.device import fetch
from accordion.errors import FormatError, TrainingError, UsageError
from accordion.training import PAPER, Policy, RunDirectory, TrainingConfig, build_network, correct, load_run, train


def weights(run: Path) -> dict[str, torch.Tensor]:
    return RunDirectory(run).read_weights()


def assert_same_weights(run: Path, other: Path) -> None:
    one, two = weights(run), weights(other)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


def metrics(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_metrics_have_one_row_an_epoch(finished: Path) -> None:
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    for row in rows:
        assert row["loss"] > 0
        assert row["learning_rate"] > 0
        assert row["picture_size"] == 8
        assert row["validation_pictures"] > 0
        assert len(row["validation_errors"]) == 3
        assert all(0 <= error <= 1 for error in row["validation_errors"])


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64, 10**30])
def test_a_seed_that_no_generator_takes_is_wrong_usage(config: TrainingConfig, seed: int) -> None:
    with pytest.raises(UsageError, match=r"a seed (is|must be) a whole number"):
        replace(config, seed=seed)


def test_the_run_says_what_was_asked(finished: Path, config: TrainingConfig) -> None:
    settings = json.loads((finished / "run.json").read_text())
    assert TrainingConfig.from_json(settings["config"]) == config
    assert (settings["configurations"], settings["device"]) == (3, "cpu")
    assert settings["policy_probabilities"] == pytest.approx([1 / 3] * 3)


def test_the_weights_are_those_of_the_plain_network(finished: Path, config: TrainingConfig, few_digits: Dataset) -> None:
    assert weights(finished).keys() == build_network(config, few_digits).module.state_dict().keys()


def test_no_partial_file_is_left(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {".lock", "run.json", "metrics.jsonl", "checkpoint.pt", "weights.safetensors"}


def test_a_finished_run_loads_in_eval_mode_with_its_weights(finished: Path, config: TrainingConfig) -> None:
    read, network, dataset = load_run(finished)
    assert (read, dataset.name, network.training) == (config, "digits", False)
    for name, tensor in network.module.state_dict().items():
        assert torch.equal(tensor, weights(finished)[name])


def test_the_result_is_what_the_trained_network_scores(finished: Path, config: TrainingConfig, few_digits: Dataset) -> None:
    again = train(config, finished, accelerator="cpu", dataset=few_digits)
    _, network, _ = load_run(finished)
    hits = correct(network, few_digits.hold_out()[1], range(3))
    assert again.errors == pytest.approx([1 - float(h.float().mean()) for h in hits.values()], abs=1e-6)


def test_the_same_settings_give_the_same_weights(
    finished: Path, config: TrainingConfig, few_digits: Dataset, tmp_path: Path
) -> None:
    torch.rand(7)  # the state of the global generator must not matter
    train(config, tmp_path, accelerator="cpu", dataset=few_digits)
    assert_same_weights(tmp_path, finished)


def test_another_seed_gives_other_weights(finished: Path, config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    train(replace(config, seed=6), tmp_path, accelerator="cpu", dataset=few_digits)
    assert not torch.equal(weights(tmp_path)["head.linear.weight"], weights(finished)["head.linear.weight"])


def test_training_on_all_digits_lowers_the_loss(config: TrainingConfig, tmp_path: Path) -> None:
    result = train(config, tmp_path, accelerator="cpu")
    first, last = metrics(tmp_path)
    assert last["loss"] < first["loss"]
    assert max(result.errors) < 0.9  # of guessing


@pytest.mark.parametrize(("order", "k"), [("right-to-left", 6), ("blockwise", 2)])
@pytest.mark.parametrize("objective", ["sampled", "joint", "sandwich"])
def test_every_objective_trains_every_order(
    config: TrainingConfig, few_digits: Dataset, tmp_path: Path, order: str, k: int, objective: str
) -> None:
    recipe = config.recipe.with_changes(objective=objective, epochs=1)
    result = train(replace(config, network="resnet14", order=order, recipe=recipe), tmp_path, accelerator="cpu", dataset=few_digits)
    assert len(result.errors) == k
    assert all(torch.isfinite(tensor).all() for tensor in weights(tmp_path).values())


@pytest.mark.parametrize("objective", ["sampled", "joint"])
def test_a_training_stopped_after_every_step_gives_the_same_weights(
    config: TrainingConfig, few_digits: Dataset, tmp_path: Path, objective: str
) -> None:
    recipe = config.recipe.with_changes(objective=objective, crop=True)
    config = replace(config, recipe=recipe)
    train(config, tmp_path / "straight", accelerator="cpu", dataset=few_digits)
    for number in range(8):
        epoch = number // 4 + 1
        with pytest.raises(TrainingError, match=rf"its time is over\) in epoch {epoch} of 2; the same command goes on"):
            train(config, tmp_path / "stopped", accelerator="cpu", dataset=few_digits, max_seconds=0)
    train(config, tmp_path / "stopped", accelerator="cpu", dataset=few_digits)
    assert_same_weights(tmp_path / "stopped", tmp_path / "straight")
    assert metrics(tmp_path / "stopped") == metrics(tmp_path / "straight")


def test_a_signal_writes_a_checkpoint_and_the_training_goes_on_to_the_same_weights(
    finished: Path, config: TrainingConfig, few_digits: Dataset, tmp_path: Path
) -> None:
    handlers = signal.getsignal(signal.SIGTERM)

    def interrupt(line: str) -> None:
        if line.startswith("epoch 1/2"):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingError, match=r"SIGTERM\) in epoch 2 of 2"):
        train(config, tmp_path, accelerator="cpu", dataset=few_digits, progress=interrupt)
    assert signal.getsignal(signal.SIGTERM) == handlers
    train(config, tmp_path, accelerator="cpu", dataset=few_digits)
    assert_same_weights(tmp_path, finished)


KILLED = """
    import json, os, signal, sys
    from pathlib import Path

    import numpy as np
    import torch

    from accordion.data import Dataset, load
    from accordion.training import TrainingConfig, loop, train

    digits = load("digits")
    part = digits.train.take(np.arange(160))
    dataset = Dataset("digits", digits.classes, digits.mean, digits.std, part, digits.test, mirror=False)
    torch.set_num_threads(int(sys.argv[3]))
    loop.CHECKPOINT_SECONDS = 0
    save, written = torch.save, 0

    def dies_the_sixth_time(state, stream):
        global written
        written += 1
        if written == 6:
            stream.write(b"half of a checkpoint")
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        save(state, stream)

    torch.save = dies_the_sixth_time
    train(TrainingConfig.from_json(json.loads(sys.argv[1])), Path(sys.argv[2]), accelerator="cpu", dataset=dataset)
"""


def test_a_training_killed_while_it_writes_a_checkpoint_goes_on_to_the_same_weights(
    finished: Path, config: TrainingConfig, few_digits: Dataset, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), json.dumps(config.to_json()), str(tmp_path)]
    ended = subprocess.run([*command, str(torch.get_num_threads())], capture_output=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    state = RunDirectory(tmp_path).read_checkpoint()
    assert state is not None
    # Four steps and the end of the first epoch make five checkpoints; the sixth, of epoch 1, step 1, is the half one.
    assert (state["epoch"], state["step"]) == (1, 0)
    train(config, tmp_path, accelerator="cpu", dataset=few_digits)
    assert_same_weights(tmp_path, finished)
    assert metrics(tmp_path) == metrics(finished)


def test_a_training_that_died_after_its_last_checkpoint_gets_all_its_metrics(
    finished: Path, config: TrainingConfig, few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DiedError(Exception):
        pass

    write = RunDirectory.write_metrics

    def dies_in_the_last_epoch(self: RunDirectory, rows: list[dict[str, Any]]) -> None:
        if len(rows) == 2:
            raise DiedError
        write(self, rows)

    with monkeypatch.context() as patch, pytest.raises(DiedError):
        patch.setattr(RunDirectory, "write_metrics", dies_in_the_last_epoch)
        train(config, tmp_path, accelerator="cpu", dataset=few_digits)
    train(config, tmp_path, accelerator="cpu", dataset=few_digits)
    assert metrics(tmp_path) == metrics(finished)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 9}, "seed 5 → 9"),
        ({"width": 8}, "width 4 → 8"),
        ({"policy": "CoML-03"}, "policy 'uniform' → 'CoML-03'"),
        ({"policy": Policy("mine", (0.5, 0.25, 0.25))}, "policy.name None → 'mine'"),
        ({"order": "blockwise"}, "order 'right-to-left' → 'blockwise'"),
        ({"recipe": PAPER}, "recipe.epochs 2 → 164"),
    ],
)
def test_other_settings_in_the_same_run_are_refused_and_named(
    finished: Path, config: TrainingConfig, few_digits: Dataset, changes: dict[str, Any], named: str
) -> None:
    before = (finished / "run.json").read_bytes()
    with pytest.raises(UsageError, match="other settings") as caught:
        train(replace(config, **changes), finished, accelerator="cpu", dataset=few_digits)
    assert named in str(caught.value)
    assert (finished / "run.json").read_bytes() == before


def test_a_policy_file_that_changed_meanwhile_is_refused(config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    config = replace(config, policy=str(path))
    path.write_text('{"probabilities": [0.5, 0.25, 0.25]}')
    with pytest.raises(TrainingError):
        train(config, tmp_path / "run", accelerator="cpu", dataset=few_digits, max_seconds=0)
    path.write_text('{"probabilities": [0.25, 0.25, 0.5]}')
    with pytest.raises(UsageError, match="other settings"):
        train(config, tmp_path / "run", accelerator="cpu", dataset=few_digits, max_seconds=0)


def test_other_data_than_the_settings_name_are_refused(config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="are for the data set 'digits', these data are 'mine'"):
        train(config, tmp_path / "run", accelerator="cpu", dataset=replace(few_digits, name="mine"))
    first = few_digits.train.take(np.unique(few_digits.train.y, return_index=True)[1])  # one of each class
    with pytest.raises(UsageError, match="too few pictures"):
        train(config, tmp_path / "run", accelerator="cpu", dataset=replace(few_digits, train=first))
    assert not (tmp_path / "run").exists()


def test_an_unfinished_run_does_not_load(config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        train(config, tmp_path, accelerator="cpu", dataset=few_digits, max_seconds=0)
    with pytest.raises(UsageError, match="no trained weights yet"):
        load_run(tmp_path)


def test_a_folder_that_is_no_run_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run directory"):
        load_run(tmp_path)


def test_weights_of_another_network_do_not_load(config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write_settings({"config": config.to_json()})
    directory.write_weights(build_network(replace(config, width=2), few_digits).module.state_dict())
    with pytest.raises(UsageError, match="does not fit the network"):
        load_run(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"config": {}}', '{"config": 3}'])
def test_damaged_settings_are_an_error_of_the_content(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(FormatError):
        load_run(tmp_path)


def test_a_damaged_checkpoint_is_an_error_of_the_content(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write_checkpoint({"epoch": 1})
    directory.checkpoint_path.write_bytes(directory.checkpoint_path.read_bytes()[:100])
    with pytest.raises(FormatError, match=r"checkpoint\.pt is damaged: remove it"):
        directory.read_checkpoint()


def test_damaged_weights_are_an_error_of_the_content(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.weights_path.write_bytes(b"junk")
    with pytest.raises(FormatError, match="not a safetensors file"):
        directory.read_weights()


def test_two_trainings_at_once_in_one_run_are_refused(config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    with RunDirectory(tmp_path).locked(), pytest.raises(TrainingError, match="another training is running"):
        train(config, tmp_path, accelerator="cpu", dataset=few_digits)


def test_a_training_that_diverges_says_so(config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    recipe = config.recipe.with_changes(learning_rate=1e30, schedule="steps")
    with pytest.raises(TrainingError, match=r"the loss became .*lower the learning rate"):
        train(replace(config, recipe=recipe), tmp_path, accelerator="cpu", dataset=few_digits)
    train(config, tmp_path, accelerator="cpu", dataset=few_digits)  # as it was told to; nothing was lost there


def test_a_model_and_a_run_keep_out_of_each_others_folders(config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for name in (".lock", "state.json", "manifest.json"):
        (tmp_path / "model" / name).write_text("{}")
    with pytest.raises(UsageError, match="holds something else"):
        train(config, tmp_path / "model", accelerator="cpu", dataset=few_digits)
    train(config, tmp_path / "run", accelerator="cpu", dataset=few_digits)
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    with pytest.raises(UsageError, match="holds something else"):
        fetch("http://127.0.0.1:9/net", tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "vgg16"}, "unknown network 'vgg16'"),
        ({"network": "resnet9"}, "9 is not"),
        ({"width": 0}, "width of the first stage must be"),
        ({"order": "random"}, "unknown order"),
        ({"policy": "CoML-11"}, "unknown policy"),
    ],
)
def test_settings_that_make_no_sense_leave_no_settings_behind(
    config: TrainingConfig, few_digits: Dataset, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train(replace(config, **changes), tmp_path, accelerator="cpu", dataset=few_digits)
    assert not (tmp_path / "run.json").exists()


def test_scoring_gives_one_answer_a_picture_and_keeps_the_mode(config: TrainingConfig, few_digits: Dataset) -> None:
    network = build_network(config, few_digits).train()
    hits = correct(network, few_digits.test, [0, 2], batch=100)
    assert {k: (h.dtype, len(h)) for k, h in hits.items()} == {0: (torch.bool, 359), 2: (torch.bool, 359)}
    assert network.training
