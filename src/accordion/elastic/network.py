"""Any network whose named blocks can be skipped; the configuration is an argument, never hidden state."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from accordion.elastic.order import Order
from accordion.errors import UsageError

__all__ = ["Chain", "ElasticNetwork"]


@runtime_checkable
class Chain(Protocol):
    """A network that is a plain sequence of steps, so that configurations can share what they have in common."""

    def chain(self) -> Sequence[nn.Module]:
        """The steps, first to last; calling them one after the other is the forward pass."""
        ...


class ElasticNetwork(nn.Module):
    """`module` with the blocks of `order` skippable.

    `network(x, k)` runs configuration k. `network.at(k)` is a real smaller module over the same parameters. The wrapped module and
    the keys of its state dict stay as they are (`network.module`).

    Give `example_input` (a batch, as `module` takes it) to have every block checked: a block can be skipped only if its output has
    the shape and dtype of its input. UsageError names the blocks that don't, and their shapes.

    `swaps[k]` are (path, path of the module that stands there in configuration k): a head of its own, say. `alternates` are the
    paths of modules that only stand in for others; they belong to no configuration by their own name.
    """

    def __init__(
        self,
        module: nn.Module,
        order: Order,
        example_input: Tensor | None = None,
        *,
        swaps: Mapping[int, Mapping[str, str]] | None = None,
        alternates: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self.module = module
        self.order = order
        named = dict(module.named_modules())
        if missing := [block for stage in order.stages for block in stage if block not in named]:
            near = ", ".join(list(named)[1:9])
            raise UsageError(f"the network has no block {', '.join(missing)}; its modules begin with {near}")
        if example_input is not None:
            _check_shapes(module, [block for stage in order.stages for block in stage], example_input)
        self._swaps = {k: dict(pairs) for k, pairs in (swaps or {}).items()}
        self._alternates = tuple(alternates)
        if missing := [path for pairs in self._swaps.values() for pair in pairs.items() for path in pair if path not in named]:
            raise UsageError(f"the network has no module {missing[0]} to swap")
        # Plain dict: the views share the parameters and must not register them a second time.
        self._views: dict[int, tuple[nn.Module, list[tuple[nn.Module, nn.Module]]]] = {}

    def __len__(self) -> int:
        """K, the number of configurations."""
        return len(self.order)

    def forward(self, x: Tensor, k: int) -> Tensor:
        """The output of configuration `k`."""
        output: Tensor = self.at(k)(x)
        return output

    def at(self, k: int) -> nn.Module:
        """Configuration `k` as a module of its own: blocks that it lacks are gone, parameters are shared with this network."""
        if not 0 <= k < len(self.order):
            raise UsageError(f"there is no configuration {k}: this network has 0 to {len(self.order) - 1}")
        if k not in self._views:
            active = self.order.configurations[k]
            gone = {block for stage in self.order.stages for block in stage} - active
            put: dict[str, nn.Module | None] = dict.fromkeys([*gone, *self._alternates])
            for path, other in self._swaps.get(k, {}).items():
                put[path] = self.module.get_submodule(other)
            clones: list[tuple[nn.Module, nn.Module]] = []
            self._views[k] = (_without(self.module, put, clones), clones)
        view, clones = self._views[k]
        for clone, original in clones:
            clone.training = original.training
        return view

    def extract(self, k: int) -> nn.Module:
        """Configuration `k` with its own copy of the parameters."""
        return copy.deepcopy(self.at(k))

    def outputs(self, x: Tensor, ks: Iterable[int]) -> dict[int, Tensor]:
        """The outputs of several configurations; what they have in common runs once if the module is a `Chain`."""
        wanted = sorted(set(ks))
        views = {k: self.at(k) for k in wanted}
        if all(isinstance(view, Chain) for view in views.values()):
            done: dict[int, Tensor] = {}
            _run_chains(x, {k: list(view.chain()) for k, view in views.items() if isinstance(view, Chain)}, done)
            return {k: done[k] for k in wanted}
        return {k: view(x) for k, view in views.items()}


def _without(module: nn.Module, put: Mapping[str, nn.Module | None], clones: list[tuple[nn.Module, nn.Module]]) -> nn.Module:
    """A shallow clone of `module` where other modules stand at the dotted paths `put`, nothing for None; all else is shared."""
    by_child: dict[str, dict[str, nn.Module | None]] = {}
    for path, other in put.items():
        child, _, rest = path.partition(".")
        by_child.setdefault(child, {})[rest] = other
    if not by_child:
        return module
    clone = copy.copy(module)
    children: dict[str, nn.Module | None] = {}
    for name, child_module in module._modules.items():
        rests = by_child.get(name)
        if rests is None or child_module is None:
            children[name] = child_module
        elif "" in rests:
            other = rests[""]
            # In a Sequential the block can vanish; elsewhere the parent's forward names it, so something must stand there.
            if other is not None:
                children[name] = other
            elif type(module) is not nn.Sequential:
                children[name] = nn.Identity()
        else:
            children[name] = _without(child_module, rests, clones)
    clone.__dict__["_modules"] = children
    clones.append((clone, module))
    return clone


def _run_chains(x: Tensor, chains: dict[int, list[nn.Module]], done: dict[int, Tensor], start: int = 0) -> None:
    """Runs every chain from position `start` on `x`; chains whose next step is the same module share it."""
    while chains:
        groups: dict[int, dict[int, list[nn.Module]]] = {}
        for k, steps in chains.items():
            if start == len(steps):
                done[k] = x
            else:
                groups.setdefault(id(steps[start]), {})[k] = steps
        if not groups:
            return
        *aside, trunk = sorted(groups.values(), key=len)
        for group in aside:
            _run_chains(next(iter(group.values()))[start](x), group, done, start + 1)
        x = next(iter(trunk.values()))[start](x)
        chains, start = trunk, start + 1


def _check_shapes(module: nn.Module, blocks: Sequence[str], example_input: Tensor) -> None:
    wrong: list[str] = []

    def check(name: str) -> object:
        def hook(_: nn.Module, inputs: tuple[object, ...], keywords: dict[str, object], output: object) -> None:
            first = inputs[0] if len(inputs) == 1 and not keywords else None
            if not isinstance(first, Tensor) or not isinstance(output, Tensor):
                wrong.append(f"{name} (takes or gives something other than one tensor)")
            elif first.shape != output.shape or first.dtype != output.dtype:
                wrong.append(f"{name} ({list(first.shape)} {first.dtype} → {list(output.shape)} {output.dtype})")

        return named[name].register_forward_hook(hook, with_kwargs=True)

    named = dict(module.named_modules())
    handles = [check(name) for name in blocks]
    modes = [(m, m.training) for m in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            module(example_input)
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]
        for m, training in modes:
            m.training = training
    if wrong:
        raise UsageError(
            f"these blocks change what flows through them and can't be skipped: {'; '.join(wrong)}. "
            "Leave them out of the order, or give them an adapter."
        )
