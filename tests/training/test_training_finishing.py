from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from accordion.artifact.layout import Layout
from accordion.data import Dataset
from accordion.elastic import ElasticNetwork
from accordion.elastic.order import nested
from accordion.errors import TrainingError, UsageError
from accordion.packaging import package, rounding
from accordion.packaging.check import lay_out_prefixes
from accordion.packaging.codecs import by_name, encode_planes
from accordion.profiling import profile
from accordion.training import Finishing, RunDirectory, TrainingConfig, calibrate, correct, finish, load_run, train
from accordion.training.finishing import Finisher, fake_quantized

EPOCHS = 2


@pytest.fixture(scope="module")
def finished_int4(finished: Path, few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("int4") / "run"
    finish(finished, run, Finishing(("int4",)), rounding=rounding, epochs=EPOCHS, accelerator="cpu", dataset=few_digits)
    return run


@pytest.fixture(scope="module")
def pruned(finished: Path, few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("pruned") / "run"
    finish(finished, run, Finishing(prune=0.75), epochs=EPOCHS, accelerator="cpu", dataset=few_digits)
    return run


def folded(network: ElasticNetwork) -> dict[str, torch.Tensor]:
    """The weights that packaging encodes, by path: every convolution here is followed by a norm, the head by none."""
    found = {}
    modules = dict(network.module.named_modules())
    for path, module in modules.items():
        if isinstance(module, nn.Conv2d):
            parent, _, name = path.rpartition(".")
            norm = modules[f"{parent}.{name.replace('conv', 'norm')}"] if "conv" in name else modules[f"{parent}.1"]
            factor = (norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)).view(-1, 1, 1, 1)
            found[path] = (module.weight.double() * factor).float().detach()
        elif isinstance(module, nn.Linear):
            found[path] = module.weight.detach()
    return {path: weight for path, weight in found.items() if weight.numel() >= 64}


@pytest.fixture(scope="module")
def own(config: TrainingConfig, few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose configurations have statistics of their own; blockwise, so that a block sees other inputs where the one before
    it is left out. Read only."""
    run = tmp_path_factory.mktemp("own") / "run"
    train(replace(config, network="resnet14", order="blockwise"), run, accelerator="cpu", dataset=few_digits)
    calibrate(run, norms="configuration", pictures=64, dataset=few_digits)
    return run


def finisher_of(run: Path, settings: Finishing, dataset: Dataset) -> tuple[Finisher, ElasticNetwork]:
    _, network, _ = load_run(run)
    return Finisher(network, settings, rounding, torch.from_numpy(dataset.train.x[:2]).float() / 255), network


def test_every_weight_is_paired_with_the_norm_that_reads_it(finished: Path, few_digits: Dataset) -> None:
    finisher, network = finisher_of(finished, Finishing(prune=0.5), few_digits)
    names = {id(module): path for path, module in network.module.named_modules()}
    pairs = {layer.path: names.get(id(layer.norm)) for layer in finisher.layers}
    assert pairs["stem.0"] == "stem.1"
    assert (pairs["stage1.0.conv1"], pairs["stage3.0.conv2"]) == ("stage1.0.norm1", "stage3.0.norm2")
    assert pairs["head.linear"] is None
    assert [layer.path for layer in finisher.layers if layer.outside] == ["stem.0", "head.linear"]
    assert len(pairs) == 8


def test_without_rounding_it_computes_what_the_network_did(finished: Path, few_digits: Dataset) -> None:
    _, before, _ = load_run(finished)
    _, network = finisher_of(finished, Finishing(prune=0.5), few_digits)
    x = torch.from_numpy(few_digits.test.x[:8]).float() / 255
    network.train()  # statistics are frozen, whatever the mode
    for k in range(3):
        torch.testing.assert_close(network(x, k), before(x, k), rtol=1e-4, atol=1e-5)
    assert network.module.state_dict().keys() == before.module.state_dict().keys()


@pytest.mark.parametrize("precision", ["int8", "int4", "int4+4"])
def test_the_forward_pass_rounds_as_the_codec_does(finished: Path, few_digits: Dataset, precision: str) -> None:
    finisher, network = finisher_of(finished, Finishing((precision,)), few_digits)
    finisher.begin_step(0, 10, np.random.default_rng(0))
    weights = folded(network)
    for layer in finisher.layers:
        if layer.path not in weights:
            continue
        named = by_name("int8" if layer.outside else precision)
        expected = sum((one.value for one in encode_planes(named, weights[layer.path].numpy())), np.float32(0))
        found = finisher.weight(layer).detach().numpy()
        step = float(np.abs(expected).max()) / 128
        # A weight that lies exactly between two steps may fall to either side, since the folded weight differs in its last bit.
        assert (np.abs(found - expected) < 1e-6 * step * 128).mean() > 0.995
        np.testing.assert_allclose(found, expected, atol=20 * step)


def test_gradients_pass_where_the_range_holds_the_weight() -> None:
    weight = torch.tensor([[0.24, -0.6, 9.0], [0.24, -0.6, 9.0]], requires_grad=True)
    made = fake_quantized(weight, [(4, torch.tensor([0.5, -0.5]))])
    torch.testing.assert_close(made.detach(), torch.tensor([[0.0, -0.5, 3.5], [0.0, -0.5, 4.0]]))
    made.sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1, 1, 0], [1, 1, 0]]


def test_a_scale_of_nothing_gives_nothing() -> None:
    assert fake_quantized(torch.ones(1, 3), [(4, torch.zeros(1))]).tolist() == [[0, 0, 0]]


def test_weights_end_where_the_codec_keeps_them(finished_int4: Path) -> None:
    _, network, _ = load_run(finished_int4)
    for path, weight in folded(network).items():
        inside = path.startswith("stage")
        kept = encode_planes(by_name("int4" if inside else "int8"), weight.numpy())[0].value
        off = np.abs(kept - weight.numpy()) / np.abs(weight.numpy()).max()
        if inside:
            assert (off <= 1e-5).mean() > 0.99, path
        else:  # 8 bits find other scales when they look again, and are as good with them
            assert off.max() <= 2**-7, path


def test_what_is_said_is_what_the_rounded_network_scores(finished_int4: Path, few_digits: Dataset) -> None:
    again = finish(
        Path(RunDirectory(finished_int4).read_settings()["config"]["initial"]),
        finished_int4, Finishing(("int4",)), rounding=rounding, epochs=EPOCHS, accelerator="cpu", dataset=few_digits,
    )  # fmt: skip
    _, network, _ = load_run(finished_int4)
    hits = correct(network, few_digits.hold_out()[1], range(3))
    assert again.errors == pytest.approx([1 - float(h.float().mean()) for h in hits.values()], abs=0.04)  # of 16 pictures


def test_every_configuration_goes_on_with_its_own_statistics(own: Path, few_digits: Dataset) -> None:
    _, before, _ = load_run(own)
    _, network = finisher_of(own, Finishing(prune=0.5), few_digits)
    x = torch.from_numpy(few_digits.test.x[:8]).float() / 255
    network.train()
    shared = before.over(before.module)
    for k in range(len(network)):
        torch.testing.assert_close(network(x, k), before(x, k), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(shared(x, 0), before(x, 0), rtol=1e-2)  # the complete network's would have been others


def test_own_statistics_are_left_as_they_were_and_packaged(own: Path, few_digits: Dataset, tmp_path: Path) -> None:
    keywords: dict[str, Any] = {
        "epochs": 1,
        "learning_rate": 0.1,
        "accelerator": "cpu",
        "dataset": few_digits,
        "rounding": rounding,
    }
    run = tmp_path / "run"
    first = finish(own, run, Finishing(("int4",)), **keywords)
    assert RunDirectory(run).norms_path.read_bytes() == RunDirectory(own).norms_path.read_bytes()
    _, network, _ = load_run(run)
    hits = correct(network, few_digits.hold_out()[1], range(len(network)))
    assert first.errors == pytest.approx([1 - float(h.float().mean()) for h in hits.values()], abs=0.07)  # one of 16 pictures
    assert finish(own, run, Finishing(("int4",)), **keywords).errors == first.errors

    profile(run, device_latency=False, limit=64)
    package(run, tmp_path / "package", codec="int4", rounding="nearest")
    layout = Layout.open(tmp_path / "package")
    manifest = layout.manifest(None)
    laid = tmp_path / "laid"
    laid.mkdir()
    x = few_digits.test.x[:8].astype(np.float32) / 255
    for one, folder in lay_out_prefixes(layout, manifest, layout.ladder(manifest), laid):
        (found,) = onnxruntime.InferenceSession(folder / one.graph).run(None, {"input": x})
        with torch.no_grad():
            expected = network(torch.from_numpy(x), one.index).numpy()
        np.testing.assert_allclose(found, expected, atol=0.02 * float(np.abs(expected).max()))


def test_statistics_that_changed_in_between_are_refused(own: Path, few_digits: Dataset, tmp_path: Path) -> None:
    shutil.copytree(own, tmp_path / "own")
    keywords: dict[str, Any] = {"epochs": 1, "accelerator": "cpu", "dataset": few_digits}
    with pytest.raises(TrainingError, match="its time is over"):
        finish(tmp_path / "own", tmp_path / "run", Finishing(prune=0.5), max_seconds=0, **keywords)
    calibrate(tmp_path / "own", norms="configuration", pictures=96, dataset=few_digits)
    with pytest.raises(UsageError, match=r"was begun with other batch-norm statistics than .*own has now: name another"):
        finish(tmp_path / "own", tmp_path / "run", Finishing(prune=0.5), **keywords)


def test_rounding_is_learnt_around(finished: Path, few_digits: Dataset, tmp_path: Path) -> None:
    """The loss at int4 falls, from that of the rounded network."""
    result = finish(
        finished, tmp_path / "run", Finishing(("int4",), distill=0), rounding=rounding, epochs=6, learning_rate=0.05,
        accelerator="cpu", dataset=few_digits,
    )  # fmt: skip
    losses = [float(line.split('"loss": ')[1].split(",")[0]) for line in (result.run / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]


def test_the_share_is_pruned_and_stays_pruned(pruned: Path) -> None:
    _, network, _ = load_run(pruned)
    weights = {path: weight for path, weight in folded(network).items() if path.startswith("stage")}
    zeros = sum(int((weight == 0).sum()) for weight in weights.values())
    assert zeros / sum(weight.numel() for weight in weights.values()) == pytest.approx(0.75, abs=0.001)


def test_what_is_left_is_what_is_large(finished: Path, few_digits: Dataset) -> None:
    finisher, network = finisher_of(finished, Finishing(prune=0.5), few_digits)
    blocks = [layer.path for layer in finisher.layers if not layer.outside]
    before = folded(network)
    finisher.begin_step(1000, 1000, np.random.default_rng(0))
    after = folded(network)
    kept = torch.cat([before[path][after[path] != 0].abs() for path in blocks])
    gone = torch.cat([before[path][after[path] == 0].abs() for path in blocks])
    assert gone.max() <= kept.min() + 1e-6
    assert finisher.sparsity() == pytest.approx(0.5, abs=0.001)


def test_pruning_grows_gradually(finished: Path, few_digits: Dataset) -> None:
    finisher, _ = finisher_of(finished, Finishing(prune=0.9), few_digits)
    shares = []
    for step in (0, 10, 20, 40, 70):
        finisher.begin_step(step, 90, np.random.default_rng(0))
        shares.append(finisher.sparsity())
    assert shares[0] < 0.01
    assert shares == sorted(shares)
    assert shares[1] - shares[0] > shares[3] - shares[2]
    assert shares[-1] == pytest.approx(0.9, abs=0.001)


def test_statistics_stay_as_they_were(finished: Path, finished_int4: Path) -> None:
    before, after = (RunDirectory(run).read_weights() for run in (finished, finished_int4))
    for name in before:
        if "running" in name:
            assert torch.equal(before[name], after[name]), name
    assert not torch.equal(before["stage1.0.conv1.weight"], after["stage1.0.conv1.weight"])


@pytest.mark.parametrize("settings", [Finishing(("int4", "int4+4"), prune=0.5), Finishing(("int8",))], ids=str)
def test_a_finishing_stopped_after_every_step_gives_the_same_weights(
    finished: Path, few_digits: Dataset, tmp_path: Path, settings: Finishing
) -> None:
    keywords: dict[str, Any] = {"rounding": rounding, "epochs": 1, "accelerator": "cpu", "dataset": few_digits}
    finish(finished, tmp_path / "straight", settings, **keywords)
    for _ in range(4):
        with pytest.raises(TrainingError, match="its time is over"):
            finish(finished, tmp_path / "stopped", settings, max_seconds=0, **keywords)
    finish(finished, tmp_path / "stopped", settings, **keywords)
    straight, stopped = (RunDirectory(tmp_path / name).read_weights() for name in ("straight", "stopped"))
    for name, tensor in straight.items():
        assert torch.equal(tensor, stopped[name]), name


def test_the_cost_is_told_before_and_the_run_says_what_it_is(finished: Path, few_digits: Dataset, tmp_path: Path) -> None:
    said: list[str] = []
    settings = Finishing(("int4",), prune=0.5)
    finish(
        finished, tmp_path / "run", settings, rounding=rounding, epochs=1, accelerator="cpu", dataset=few_digits, progress=said.append
    )  # fmt: skip
    assert "finishing for int4, 50% of the weights pruned: epochs 1 to 1 will take about" in said[0]
    config = TrainingConfig.from_json(RunDirectory(tmp_path / "run").read_settings()["config"])
    assert (config.finishing, config.initial) == (settings, str(finished))


WRONG: dict[str, Callable[[], Finishing]] = {
    "nothing to do": lambda: Finishing(),
    "all of it pruned": lambda: Finishing(prune=1.0),
    "too much distillation": lambda: Finishing(prune=0.5, distill=2),
}


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_make_no_sense_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        WRONG[name]()


def test_wrong_usage_leaves_nothing_behind(finished: Path, few_digits: Dataset, tmp_path: Path) -> None:
    for precision, problem in (("int5", "unknown precision"), ("float16", "needs no finishing")):
        with pytest.raises(UsageError, match=problem):
            finish(finished, tmp_path / "run", Finishing((precision,)), rounding=rounding, dataset=few_digits)
    with pytest.raises(UsageError, match="into itself"):
        finish(finished, finished, Finishing(prune=0.5), dataset=few_digits)
    with pytest.raises(UsageError, match=r"no run\.json"):
        finish(tmp_path / "none", tmp_path / "run", Finishing(prune=0.5), dataset=few_digits)
    assert not (tmp_path / "run").exists()


def test_another_finishing_in_the_same_place_is_refused(finished: Path, pruned: Path, few_digits: Dataset) -> None:
    with pytest.raises(UsageError, match=r"finishing\.prune 0.75 → 0.5"):
        finish(finished, pruned, Finishing(prune=0.5), epochs=EPOCHS, accelerator="cpu", dataset=few_digits)


class Shortened(nn.Module):
    """A convolution whose norm stands behind a block that can be left out."""

    def __init__(self, affine: bool) -> None:
        super().__init__()
        self.conv, self.block, self.last = nn.Conv2d(1, 1, 1), nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU())
        self.norm = nn.BatchNorm2d(1, affine=affine)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.last(self.norm(self.block(self.conv(x))))
        return made


@pytest.mark.parametrize(
    "affine, counts, problem",
    [(True, [[0, 1], [1, 1]], "conv is followed by different norms"), (False, [[0, 0], [0, 1]], "no scale")],
)
def test_a_network_that_can_not_be_folded_is_refused(affine: bool, counts: list[list[int]], problem: str) -> None:
    stages = (("block",), ("last",)) if affine else ((), ("last",))
    module = Shortened(affine)
    if not affine:
        module.block = nn.Sequential()
        module.forward = lambda x: module.last(module.norm(module.conv(x)))  # type: ignore[method-assign]
    with pytest.raises(UsageError, match=problem):
        Finisher(ElasticNetwork(module, nested("by hand", stages, counts)), Finishing(prune=0.5), None, torch.ones(2, 1, 4, 4))
