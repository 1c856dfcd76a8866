from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from accordion.artifact.ladder import ladder_file
from accordion.artifact.layout import Layout
from accordion.data import Dataset
from accordion.elastic import CifarResNet, ElasticNetwork, by_name
from accordion.errors import FormatError, UsageError
from accordion.packaging import package
from accordion.profiling import profile
from accordion.training import RunDirectory, TrainingConfig, build_network, calibrate, correct, load_run, train
from accordion.training.finish import finish
from accordion.training.finishing import Finishing
from accordion.training.initial import adopt
from accordion.training.norms import Norms, groups, measure_norms
from accordion.training.norms_file import decode_norms, encode_norms
from accordion.training.run_directory import MEASURED_ON


def network_of(order: str, seed: int = 3) -> ElasticNetwork:
    torch.manual_seed(seed)
    module = CifarResNet(14, 5, widths=(2, 4, 8), in_channels=1)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.5)
    return ElasticNetwork(module, by_name(order, module.stages))


BATCHES = [torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(n)) for n in range(3)]


def expected(network: ElasticNetwork, k: int) -> dict[str, torch.Tensor]:
    """What PyTorch's own batch norm finds in configuration k alone, averaging over equal batches."""
    alone = network.extract(k).train()
    means: dict[str, list[torch.Tensor]] = {}
    squares: dict[str, list[torch.Tensor]] = {}

    def hook(name: str) -> object:
        def take(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            x = inputs[0].double()
            means.setdefault(name, []).append(x.mean(dim=(0, 2, 3)))
            squares.setdefault(name, []).append(x.square().mean(dim=(0, 2, 3)))

        return take

    for name, module in alone.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(hook(name))
    with torch.no_grad():
        for x in BATCHES:
            alone(x)
    found = {}
    for name, rows in means.items():
        mean = torch.stack(rows).mean(0)
        found[f"{name}.running_mean"] = mean
        found[f"{name}.running_var"] = torch.stack(squares[name]).mean(0) - mean.square()
    return found


@pytest.mark.parametrize("order", ["right-to-left", "blockwise", "grid"])
def test_each_configuration_gets_the_statistics_of_what_it_sees(order: str) -> None:
    network = network_of(order)
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    norms = measure_norms(network, BATCHES, [[k] for k in range(len(network))])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.module.state_dict().items())
    measured = norms.applied(network)
    for k in range(len(network)):
        state = measured.at(k).state_dict()
        for name, tensor in expected(network, k).items():
            torch.testing.assert_close(state[name].double(), tensor, rtol=0.01, atol=1e-5, msg=f"{k} {name}")


def test_right_to_left_needs_one_set_and_blockwise_none_in_the_first_stage() -> None:
    for order, stages in (("right-to-left", set()), ("blockwise", {"stage2", "stage3"})):
        network = network_of(order)
        norms = measure_norms(network, BATCHES, [[k] for k in range(len(network))])
        assert {name.partition(".")[0] for own in norms.values.values() for name in own} == stages


def test_outputs_with_values_are_those_of_each_configuration_alone() -> None:
    network = network_of("grid")
    measured = measure_norms(network, BATCHES, [[k] for k in range(len(network))]).applied(network).eval()
    together = measured.outputs(BATCHES[0], range(len(network)))
    for k, output in together.items():
        assert torch.equal(output, measured.at(k)(BATCHES[0]))
        assert torch.equal(output, measured.extract(k)(BATCHES[0]))
    assert not torch.equal(together[0], network.eval().at(0)(BATCHES[0]))


def test_a_group_shares_the_mixture_of_what_its_members_see() -> None:
    network = network_of("blockwise")
    one = measure_norms(network, BATCHES, [[0, 1]], [0.25, 0.75])
    assert not one.values
    small, complete = expected(network, 0), expected(network, 1)
    name = "stage3.0.norm1"
    mean = 0.25 * small[f"{name}.running_mean"] + 0.75 * complete[f"{name}.running_mean"]
    torch.testing.assert_close(one.shared[f"{name}.running_mean"].double(), mean, rtol=1e-5, atol=1e-6)
    square = sum(
        share * (own[f"{name}.running_var"] + own[f"{name}.running_mean"].square())
        for share, own in ((0.25, small), (0.75, complete))
    )
    torch.testing.assert_close(one.shared[f"{name}.running_var"].double(), square - mean.square(), rtol=0.01, atol=1e-5)


def test_groups_are_neighbours() -> None:
    assert groups("shared", 5) == [[0, 1, 2, 3, 4]]
    assert groups("2", 5) == [[0, 1, 2], [3, 4]]
    assert groups("configuration", 3) == groups("7", 3) == [[0], [1], [2]]


def test_the_file_gives_back_what_went_in_and_keeps_what_is_shared() -> None:
    network = network_of("grid")
    norms = measure_norms(network, BATCHES, [[k] for k in range(len(network))])
    again = decode_norms(encode_norms(norms))
    assert again.shared.keys() == norms.shared.keys()
    assert all(torch.equal(tensor, again.shared[name]) for name, tensor in norms.shared.items())
    assert {k: set(own) for k, own in again.values.items()} == {k: set(own) for k, own in norms.values.items()}
    distinct = {id(tensor) for own in again.values.values() for tensor in own.values()}
    assert len(distinct) == len({id(tensor) for own in norms.values.values() for tensor in own.values()})


@pytest.mark.parametrize("data", [b"", b"junk" * 10, encode_norms(Norms({}, {}))[:-3]])
def test_a_damaged_file_is_an_error_of_the_content(tmp_path: Path, data: bytes) -> None:
    directory = RunDirectory(tmp_path)
    directory.norms_path.write_bytes(data)
    with pytest.raises(FormatError, match="batch-norm statistics"):
        directory.read_norms()


def test_statistics_of_another_network_are_refused() -> None:
    norms = Norms({"stem.1.running_mean": torch.zeros(99)}, {})
    with pytest.raises(UsageError, match="calibrate it again"):
        norms.applied(network_of("blockwise"))
    with pytest.raises(UsageError, match="no configuration 9"):
        network_of("blockwise").with_values({9: {"stem.1.running_mean": torch.zeros(2)}})


def test_a_training_with_norms_of_each_configuration_loads_with_them_and_calibrate_goes_back(
    config: TrainingConfig, few_digits: Dataset, tmp_path: Path
) -> None:
    recipe = config.recipe.with_changes(norms="configuration", norm_pictures=100, epochs=1)
    config = replace(config, network="resnet14", order="blockwise", recipe=recipe)
    result = train(config, tmp_path, accelerator="cpu", dataset=few_digits)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert tuple(rows[-1]["validation_errors"]) == result.errors
    _, network, _ = load_run(tmp_path)
    assert not torch.equal(
        network.at(0).get_buffer("stage3.0.norm1.running_mean"), network.at(1).get_buffer("stage3.0.norm1.running_mean")
    )
    hits = correct(network, few_digits.hold_out()[1], range(2))
    assert result.errors == pytest.approx([1 - float(h.float().mean()) for h in hits.values()], abs=1e-6)
    assert calibrate(tmp_path, norms="running").changed_values == 0
    plain = RunDirectory(tmp_path).read_weights()
    _, network, _ = load_run(tmp_path)
    assert all(torch.equal(tensor, plain[name]) for name, tensor in network.module.state_dict().items())
    # Blockwise ResNet-14: the first configuration has one block of stages 2 and 3, with 8 and 16 channels; two norms, two vectors each.
    assert calibrate(tmp_path, pictures=100).changed_values == 2 * 2 * (8 + 16)


def test_what_follows_a_calibration_keeps_it(config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    config = replace(config, network="resnet14", order="blockwise", recipe=config.recipe.with_changes(epochs=1))
    run = tmp_path / "run"
    train(config, run, accelerator="cpu", dataset=few_digits)
    calibrate(run, pictures=100)
    before = RunDirectory(run).read_norms()
    assert before is not None and before.values
    train(config, run, accelerator="cpu", dataset=few_digits)  # finished: nothing is left to do
    after = RunDirectory(run).read_norms()
    assert after is not None and all(torch.equal(after.shared[name], tensor) for name, tensor in before.shared.items())
    # A training that begins with the run has the statistics that all share, and a finished one its own for each again.
    network = build_network(replace(config, initial=str(run)), few_digits)
    adopt(network, str(run), few_digits, seed=0)
    name = "stage3.0.norm1.running_mean"
    assert torch.equal(network.module.get_buffer(name), before.shared[name])
    smaller = tmp_path / "smaller"
    result = finish(run, smaller, Finishing(prune=0.1), epochs=1, learning_rate=1e-6, accelerator="cpu", dataset=few_digits)
    own = RunDirectory(smaller).read_norms()
    assert own is not None and set(own.values) == set(before.values)
    _, network, _ = load_run(smaller)
    hits = correct(network, few_digits.hold_out()[1], range(2))
    assert result.errors == pytest.approx([1 - float(h.float().mean()) for h in hits.values()], abs=1e-6)


def test_the_policy_is_not_read_again(config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"probabilities": [0.2, 0.3, 0.5]}')
    train(replace(config, policy=str(path)), tmp_path / "run", accelerator="cpu", dataset=few_digits)
    path.unlink()
    assert calibrate(tmp_path / "run", norms="shared", pictures=100, dataset=few_digits).configurations == (0, 1, 2)


def test_a_ladder_is_of_the_weights_it_was_measured_on(config: TrainingConfig, few_digits: Dataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = replace(config, network="resnet14", order="blockwise", recipe=config.recipe.with_changes(epochs=1))
    train(config, run, accelerator="cpu", dataset=few_digits)
    profile(run, device_latency=False, limit=20)
    calibrate(run, pictures=100)
    with pytest.raises(UsageError, match="measured on other weights or batch-norm statistics"):
        package(run, tmp_path / "package")
    profile(run, device_latency=False, limit=20)
    manifest = package(run, tmp_path / "package")
    layer = manifest.layers[0]
    assert MEASURED_ON.encode() not in ladder_file(layer, Layout.open(tmp_path / "package").read_blob(layer, limit=10**6))
