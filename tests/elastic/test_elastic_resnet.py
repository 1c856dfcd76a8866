from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from accordion.elastic import CifarResNet, ElasticNetwork, blockwise, closed_form_macs, right_to_left
from accordion.elastic.order import Order, Stages, nested
from accordion.elastic.resnet import Head
from accordion.errors import UsageError


def counted_macs(module: nn.Module, x: torch.Tensor) -> int:
    """Counts the multiply-accumulates of each layer as it runs."""
    total = 0

    def count(layer: nn.Module, _: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        # Every number of the output is one dot product with a row of the weight.
        total += output.numel() * layer.weight[0].numel()

    handles = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        module.eval()(x)
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.parametrize(
    ("depth", "classes", "parameters"),
    [(56, 10, 876_058), (110, 10, 1_751_002), (110, 100, 1_756_852), (8, 10, 98_330)],
)
def test_parameter_counts(depth: int, classes: int, parameters: int) -> None:
    assert sum(p.numel() for p in CifarResNet(depth, classes).parameters()) == parameters


@pytest.mark.parametrize(
    ("depth", "classes", "macs"), [(56, 10, 127_844_992), (110, 10, 255_246_976), (110, 100, 255_246_976 + 90 * 64)]
)
def test_multiply_accumulates_of_the_papers_networks(depth: int, classes: int, macs: int) -> None:
    n = (depth - 2) // 6
    assert closed_form_macs((n, n, n), classes) == macs


@pytest.mark.parametrize("k", range(6))
def test_the_closed_form_counts_what_runs_in_every_configuration(k: int) -> None:
    module = CifarResNet(14, 7, widths=(4, 8, 16), in_channels=1)
    network = ElasticNetwork(module, right_to_left(module.stages))
    form = closed_form_macs(network.order.by_stage(k), 7, size=8, in_channels=1, widths=(4, 8, 16))
    assert counted_macs(network.at(k), torch.rand(1, 1, 8, 8)) == form


def test_the_closed_form_counts_what_runs_in_resnet56() -> None:
    assert counted_macs(CifarResNet(56, 10), torch.rand(1, 3, 32, 32)) == closed_form_macs((9, 9, 9), 10)


def test_every_block_costs_the_same_compute_at_the_papers_widths() -> None:
    base = closed_form_macs((0, 0, 0), 10)
    added = {closed_form_macs(row, 10) - base for row in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]}
    assert len(added) == 1


@pytest.mark.parametrize("order", [right_to_left, blockwise])
def test_a_smaller_configuration_has_the_parameters_of_its_blocks_only(order: object) -> None:
    module = CifarResNet(14, 10)
    network = ElasticNetwork(module, order(module.stages))  # type: ignore[operator]
    block = (4672, 18_560, 73_984)
    for k in range(len(network)):
        expected = 464 + 650 + sum(n * size for n, size in zip(network.order.by_stage(k), block, strict=True))
        assert sum(p.numel() for p in network.at(k).parameters()) == expected


@pytest.mark.parametrize("depth", [-4, 0, 2, 7, 9, 55, 57, 100])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth: int) -> None:
    with pytest.raises(UsageError, match=rf"6n\+2.*{depth} is not"):
        CifarResNet(depth, 10)


def test_pictures_are_normalised_inside_the_network() -> None:
    module = CifarResNet(8, 10, widths=(2, 4, 8), in_channels=2, mean=(0.5, 0.25), std=(0.5, 0.125))
    x = torch.rand(3, 2, 4, 4)
    expected = (x - torch.tensor([0.5, 0.25]).view(2, 1, 1)) / torch.tensor([0.5, 0.125]).view(2, 1, 1)
    torch.testing.assert_close(module.normalise(x), expected)


def test_blocks_begin_as_identities_with_zero_initialised_norms() -> None:
    module = CifarResNet(8, 10, widths=(2, 4, 8), zero_init_last_norm=True)
    x = torch.rand(2, 2, 8, 8)
    assert torch.equal(module.stage1[0](x), x)


def test_the_join_halves_the_picture_and_fills_up_with_zeros() -> None:
    module = CifarResNet(8, 10, widths=(2, 4, 8))
    y = module.join1(torch.ones(1, 2, 8, 8))
    assert y.shape == (1, 4, 4, 4)
    assert torch.equal(y[:, :2], torch.ones(1, 2, 4, 4))
    assert not y[:, 2:].any()


@pytest.mark.parametrize("make", [right_to_left, blockwise])
def test_heads_of_their_own_for_configurations_that_end_earlier(make: Callable[[Stages], Order]) -> None:
    torch.manual_seed(0)
    module = CifarResNet(14, 10, widths=(4, 8, 16), stage_heads=True)
    order = make(module.stages)
    network = ElasticNetwork(module, order, swaps=module.swaps(order), alternates=module.alternates).eval()
    x = torch.rand(3, 3, 16, 16)
    for k, output in network.outputs(x, range(len(network))).items():
        assert torch.equal(output, network(x, k))
        assert torch.equal(output, network.extract(k)(x))
        last = max(stage for stage, count in enumerate(order.by_stage(k)) if count)
        head = (module.head1, module.head2, module.head)[last]
        assert any(parameter is head.linear.weight for parameter in network.at(k).parameters())
        # One head each: as many parameters as the network with one head for all.
        plain = ElasticNetwork(CifarResNet(14, 10, widths=(4, 8, 16)), order)
        assert sum(p.numel() for p in network.at(k).parameters()) == sum(p.numel() for p in plain.at(k).parameters())


def test_a_network_with_heads_begins_as_the_one_without() -> None:
    plain, made = CifarResNet(8, 10, widths=(4, 8, 16)), CifarResNet(8, 10, widths=(4, 8, 16), stage_heads=True)
    made.adopt(plain.state_dict())
    assert torch.equal(made.head1.linear.weight, plain.head.linear.weight)
    with pytest.raises(UsageError, match="another network"):
        made.adopt(CifarResNet(14, 10, widths=(4, 8, 16)).state_dict() | {"stem.0.weight": torch.zeros(1)})


@pytest.mark.parametrize("make", [right_to_left, blockwise])
def test_every_configuration_may_have_a_head_of_its_own(make: Callable[[Stages], Order]) -> None:
    torch.manual_seed(0)
    module = CifarResNet(14, 10, widths=(4, 8, 16))
    order = make(module.stages)
    module.give_heads(len(order))
    assert module.heads is not None
    network = ElasticNetwork(module, order, swaps=module.swaps(order), alternates=module.alternates).eval()
    x = torch.rand(3, 3, 16, 16)
    own = [*module.heads, module.head]
    for k, output in network.outputs(x, range(len(network))).items():
        assert torch.equal(output, network(x, k))
        assert torch.equal(output, network.extract(k)(x))
        heads = {id(head) for head in own if {id(p) for p in head.parameters()} & {id(p) for p in network.at(k).parameters()}}
        assert heads == {id(own[k])}


def test_heads_of_configurations_begin_as_the_one_of_all() -> None:
    plain, made = CifarResNet(8, 10, widths=(4, 8, 16)), CifarResNet(8, 10, widths=(4, 8, 16))
    made.give_heads(3)
    made.adopt(plain.state_dict())
    assert made.heads is not None and len(made.heads) == 2
    for head in made.heads:
        assert isinstance(head, Head)
        assert torch.equal(head.linear.weight, plain.head.linear.weight)
        assert torch.equal(head.linear.bias, plain.head.linear.bias)
    with pytest.raises(UsageError, match="heads for 3 configurations, the order 2"):
        made.swaps(nested("n", made.stages, [(1, 0, 0), (1, 1, 1)]))
    with pytest.raises(UsageError, match="a head for each stage"):
        CifarResNet(8, 10, widths=(4, 8, 16), stage_heads=True).give_heads(3)


@pytest.mark.parametrize("shape", [(3, 0, 0), (2, 3, 0), (1, 1, 2)])
def test_a_network_of_any_shape_stands_alone(shape: tuple[int, int, int]) -> None:
    alone = CifarResNet(0, 10, blocks_by_stage=shape)
    whole = CifarResNet(20, 10)
    part = ElasticNetwork(whole, nested("n", whole.stages, [shape, (3, 3, 3)])).extract(0)
    assert tuple(len(stage) for stage in alone.stages) == shape
    assert alone.depth == 2 * sum(shape) + 2
    alone.load_state_dict(part.state_dict())
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(alone.eval()(x), part.eval()(x))


@pytest.mark.parametrize("shape", [(0, 0, 0), (1, -1, 1)])
def test_a_network_needs_blocks(shape: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match="at least one block"):
        CifarResNet(0, 10, blocks_by_stage=shape)


@pytest.mark.parametrize("blocks", [(1, 1, 1), (2, 0, 2), (1, 2, 2)])
def test_every_channel_learns_with_zero_initialised_norms(blocks: tuple[int, int, int]) -> None:
    """New channels of a stage come filled with zeros; behind a block that adds zero they would stay so, with no gradient for ever."""
    torch.manual_seed(0)
    module = CifarResNet(8, 10, widths=(2, 4, 8), zero_init_last_norm=True, blocks_by_stage=blocks)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(torch.rand(32, 3, 16, 16)), torch.randint(10, (32,))).backward()
        optimizer.step()
    last = [block.norm2 for stage in (module.stage1, module.stage2, module.stage3) for block in stage]
    assert last and all((norm.weight != 0).all() and (norm.bias != 0).all() for norm in last)
