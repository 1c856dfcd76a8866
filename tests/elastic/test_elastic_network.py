from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from accordion.elastic import Chain, CifarResNet, ElasticNetwork, Order, blockwise, nested, right_to_left
from accordion.errors import UsageError


class Half(nn.Module):
    """Two blocks inside a module of its own, called by name."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return torch.nn.functional.dropout(self.second(x), 0.5, self.training)


class Plain(nn.Module):
    """No chain; blocks by attribute, in a list and two levels down."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"pair": Half(nn.Linear(5, 5), nn.Sequential(nn.Linear(5, 5), nn.Tanh()))})
        self.layers = nn.ModuleList(nn.Linear(5, 5) for _ in range(2))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder["pair"](x)
        for layer in self.layers:
            x = torch.relu(layer(x))
        y: Tensor = self.head(x)
        return y


PLAIN_STAGES = (("encoder.pair.first", "encoder.pair.second"), ("layers.0", "layers.1"))


def resnet(order: str = "right-to-left") -> ElasticNetwork:
    torch.manual_seed(3)
    module = CifarResNet(14, 5, widths=(4, 8, 16), in_channels=1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    rows = [(0, 0, 0), (1, 0, 1), (2, 1, 1), (2, 2, 2)]
    orders = {
        "right-to-left": right_to_left(module.stages),
        "blockwise": blockwise(module.stages),
        "nested": nested("nested", module.stages, rows),
    }
    return ElasticNetwork(module, orders[order]).eval()


def plain() -> ElasticNetwork:
    torch.manual_seed(4)
    return ElasticNetwork(Plain(), right_to_left(PLAIN_STAGES), torch.rand(2, 5)).eval()


NETWORKS = {
    "right-to-left": (lambda: resnet("right-to-left"), (3, 1, 8, 8)),
    "blockwise": (lambda: resnet("blockwise"), (3, 1, 8, 8)),
    "nested": (lambda: resnet("nested"), (3, 1, 8, 8)),
    "plain": (plain, (3, 5)),
}


@pytest.fixture(params=NETWORKS)
def pair(request: pytest.FixtureRequest) -> tuple[ElasticNetwork, Tensor]:
    make, shape = NETWORKS[request.param]
    network = make()
    return network, torch.rand(shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_the_argument_the_view_and_the_extract_agree_bit_for_bit(pair: tuple[ElasticNetwork, Tensor]) -> None:
    network, x = pair
    for k in range(len(network)):
        expected = network(x, k)
        assert torch.equal(network.at(k)(x), expected)
        assert torch.equal(network.extract(k)(x), expected)


@torch.no_grad()
def test_several_outputs_at_once_are_those_of_single_calls_bit_for_bit(pair: tuple[ElasticNetwork, Tensor]) -> None:
    network, x = pair
    together = network.outputs(x, range(len(network)))
    assert list(together) == list(range(len(network)))
    for k, y in together.items():
        assert torch.equal(y, network(x, k))


@torch.no_grad()
def test_the_last_configuration_is_the_wrapped_network(pair: tuple[ElasticNetwork, Tensor]) -> None:
    network, x = pair
    assert network.at(len(network) - 1) is network.module
    assert torch.equal(network(x, len(network) - 1), network.module(x))


@torch.no_grad()
def test_configurations_differ(pair: tuple[ElasticNetwork, Tensor]) -> None:
    network, x = pair
    outputs = list(network.outputs(x, range(len(network))).values())
    assert not any(torch.equal(one, other) for one, other in pairwise(outputs))


def test_wrapping_adds_no_parameters_and_keeps_the_keys(pair: tuple[ElasticNetwork, Tensor]) -> None:
    network, x = pair
    keys = list(network.module.state_dict())
    network.outputs(x, range(len(network)))
    assert list(network.module.state_dict()) == keys
    assert list(network.state_dict()) == [f"module.{key}" for key in keys]


def test_a_view_lacks_the_keys_of_its_skipped_blocks_and_keeps_the_others(pair: tuple[ElasticNetwork, Tensor]) -> None:
    network, _ = pair
    blocks = {block for stage in network.order.stages for block in stage}
    for k, active in enumerate(network.order.configurations):
        gone = tuple(f"{block}." for block in blocks - active)
        assert list(network.at(k).state_dict()) == [key for key in network.module.state_dict() if not key.startswith(gone)]


def test_a_skipped_block_does_not_run() -> None:
    network = resnet()
    ran: list[str] = []
    for name, module in network.module.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    network(torch.rand(1, 1, 8, 8), 2)
    assert {name for name in ran if name.count(".") == 1 and name.startswith("stage")} == set(network.order.configurations[2])


def test_shared_steps_run_once() -> None:
    network = resnet()
    ran: list[int] = []
    assert isinstance(network.module, Chain)
    network.module.stem.register_forward_hook(lambda *_: ran.append(0))
    network.outputs(torch.rand(1, 1, 8, 8), [0, 3, 5])
    assert len(ran) == 1


def test_views_share_the_parameters_and_extracts_do_not() -> None:
    network = resnet()
    weight = network.module.head.linear.weight
    assert network.at(0).head.linear.weight is weight
    extract = network.extract(0)
    with torch.no_grad():
        weight.zero_()
    assert extract.head.linear.weight.any()
    assert not network.at(0).head.linear.weight.any()


def test_no_gradient_reaches_a_skipped_block() -> None:
    network = resnet().train()
    network(torch.rand(2, 1, 8, 8), 1).sum().backward()
    active = network.order.configurations[1]
    for stage in network.order.stages:
        for block in stage:
            with_gradient = {p.grad is not None for p in network.module.get_submodule(block).parameters()}
            assert with_gradient == {block in active}


def test_views_follow_the_mode_of_the_network() -> None:
    network = plain()
    x = torch.rand(4, 5)
    network.at(0)
    network.train()
    assert not torch.equal(network(x, 0), network(x, 0))  # dropout
    network.eval()
    assert torch.equal(network(x, 0), network(x, 0))


@torch.no_grad()
def test_views_see_weights_that_were_loaded_after_they_were_made() -> None:
    network, other = resnet(), resnet()
    x = torch.rand(1, 1, 8, 8)
    network.at(1)
    for p in other.module.parameters():
        p.mul_(0.5)
    network.module.load_state_dict(copy.deepcopy(other.module.state_dict()))
    assert torch.equal(network(x, 1), other(x, 1))


@pytest.mark.parametrize("k", [-1, 6, 100])
def test_a_configuration_out_of_range_is_refused(k: int) -> None:
    network = resnet()
    for call in (lambda: network.at(k), lambda: network(torch.rand(1, 1, 8, 8), k), lambda: network.outputs(torch.rand(1), [0, k])):
        with pytest.raises(UsageError, match=f"no configuration {k}: this network has 0 to 5"):
            call()


def test_an_unknown_block_is_refused_and_named() -> None:
    with pytest.raises(UsageError, match=r"no block layers\.7; its modules begin with encoder"):
        ElasticNetwork(Plain(), right_to_left((("layers.0", "layers.7"),)))


def test_blocks_that_change_the_shape_are_refused_with_name_and_shapes() -> None:
    module = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 3))
    with pytest.raises(UsageError, match=r"skipped: 1 \(\[2, 5\] torch\.float32 → \[2, 3\] torch\.float32\)") as caught:
        ElasticNetwork(module, right_to_left((("0", "1"),)), torch.rand(2, 5))
    assert "0 (" not in str(caught.value)


def test_blocks_that_change_the_dtype_are_refused() -> None:
    class Double(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.double()

    with pytest.raises(UsageError, match=r"float32 → \[2, 5\] torch\.float64"):
        ElasticNetwork(nn.Sequential(Double()), right_to_left((("0",),)), torch.rand(2, 5))


def test_blocks_that_take_a_tuple_are_refused() -> None:
    class Swap(nn.Module):
        def forward(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return pair[1], pair[0]

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.swap = Swap()

        def forward(self, x: Tensor) -> Tensor:
            return self.swap((x, x))[0]

    with pytest.raises(UsageError, match=r"swap \(what it takes first, or gives, is not one tensor\)"):
        ElasticNetwork(Two(), right_to_left((("swap",),)), torch.rand(2))


@pytest.mark.parametrize("by_keyword", [False, True])
def test_what_a_block_takes_beside_falls_away_with_it(by_keyword: bool) -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return x * mask + 1

    class Masks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Masked()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.block(x, mask=x) if by_keyword else self.block(x, x)
            return y

    order = Order("one", (("block",),), (frozenset(), frozenset({"block"})))
    network, x = ElasticNetwork(Masks(), order, torch.rand(2)), torch.rand(2)
    assert torch.equal(network(x, 0), x)
    assert torch.equal(network(x, 1), x * x + 1)


def test_a_batch_that_the_module_does_not_take() -> None:
    network = ElasticNetwork(nn.Sequential(nn.Linear(5, 5)), right_to_left((("0",),)))
    with pytest.raises(UsageError, match=r"Sequential does not take a batch of \[2, 3\] torch\.float32"):
        network.check(torch.rand(2, 3))


def test_the_shape_check_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 5))
    module[1].eval()
    before = copy.deepcopy(module.state_dict())
    ElasticNetwork(module, Order("one", (("1",),), (frozenset(), frozenset({"1"}))), torch.rand(4, 5))
    assert (module.training, module[0].training, module[1].training) == (True, True, False)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert not module[1]._forward_hooks


def test_what_was_taken_out_follows_the_networks_mode() -> None:
    network = plain().train()
    small = network.at(2)
    pair = small.get_submodule("encoder.pair")
    assert small.training and pair.training
    network.eval()
    assert not small.training and not pair.training


class Indexed(nn.Module):
    """Calls its blocks by their place in a Sequential, where what is left out closes up."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 5))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body[2](self.body[1](self.body[0](x)))
        return y


class Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.a(x)
        return y


class ByName(Idle):
    """Calls a block's `forward`, which no hook sees."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b.forward(self.a(x))
        return y


class Lost(Idle):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("nowhere")


def test_a_module_that_does_not_run_without_its_blocks_is_found_out() -> None:
    with pytest.raises(UsageError, match=r"without the blocks body\.1, body\.2 does not take"):
        ElasticNetwork(Indexed(), right_to_left((("body.0", "body.1", "body.2"),)), torch.rand(2, 5))
    with pytest.raises(UsageError, match=r"these blocks never run.*: b"):
        ElasticNetwork(Idle(), right_to_left((("a", "b"),)), torch.rand(2, 5))
    named = ElasticNetwork(ByName(), right_to_left((("a", "b"),)), torch.rand(2, 5))
    assert not torch.equal(named(torch.ones(1, 5), 0), named(torch.ones(1, 5), 1))
    with pytest.raises(UsageError, match="nowhere"):
        ElasticNetwork(Lost(), right_to_left((("a", "b"),)), torch.rand(2, 5))


def test_one_module_may_be_several_blocks() -> None:
    """As in ALBERT: a block's parameters serve at every depth."""
    block = nn.Linear(4, 4)
    module = nn.Sequential(nn.Linear(4, 4), block, block, block)
    network = ElasticNetwork(module, nested("own", (("1", "2", "3"),), [(1,), (3,)]), torch.rand(2, 4))
    x = torch.rand(2, 4)
    assert torch.equal(network(x, 0), block(module[0](x)))
    assert torch.equal(network(x, 1), module(x))


def test_a_head_that_works_in_place_changes_nothing_for_others() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
            self.head = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2))

        def chain(self) -> list[nn.Module]:
            return [*self.blocks, self.head]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for step in self.chain():
                x = step(x)
            return x

    order = nested("own", (("blocks.0", "blocks.1", "blocks.2"),), [(1,), (2,), (3,)])
    module = Deep()
    network = ElasticNetwork(module, order)
    x = torch.randn(8, 4)
    found = network.outputs(x, range(3))
    for k in range(3):
        assert torch.equal(found[k], network(x, k))


def test_what_a_configuration_has_of_its_own_moves_with_the_network() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    values = {0: {"2.running_mean": torch.rand(4), "3.weight": torch.rand(2, 4)}}
    network = ElasticNetwork(module, nested("own", (("0", "1"),), [(1,), (2,)]), values=values).eval()
    x = torch.rand(3, 4)
    before = network(x, 0)
    kept = network.at(0)
    network.double()
    assert {tensor.dtype for tensor in (*kept.parameters(), *kept.buffers()) if tensor.is_floating_point()} == {torch.float64}
    torch.testing.assert_close(network(x.double(), 0), before.double())
    network.to("meta")
    assert {tensor.device.type for tensor in (*kept.parameters(), *kept.buffers())} == {"meta"}
