"""Any network whose named blocks can be skipped; the configuration is an argument, never hidden state."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from accordion.elastic.order import Family
from accordion.errors import UsageError

__all__ = ["Chain", "ElasticNetwork"]

Watch = Callable[[tuple[int, ...]], None]


@runtime_checkable
class Chain(Protocol):
    """A network that is a plain sequence of steps, so that configurations can share what they have in common."""

    def chain(self) -> Sequence[nn.Module]:
        """The steps, first to last; calling them one after the other is the forward pass."""
        ...


class ElasticNetwork(nn.Module):
    """`module` with the blocks of `order` skippable.

    `network(x, k)` runs configuration k. `network.at(k)` is a real smaller module over the same parameters. The wrapped module and
    the keys of its state dict stay as they are (`network.module`). Replace parts of it, a head say, before: configurations that
    have been used may still have the old ones.

    Give `example_input` (a batch, as `module` takes it) to have every block checked: a block can be skipped only if its output has
    the shape and dtype of its first input (what else it takes, a mask say, is its own affair). UsageError names the blocks that
    don't, and their shapes.

    `swaps[k]` are (path, path of the module that stands there in configuration k): a head of its own, say. `alternates` are the
    paths of modules that only stand in for others; they belong to no configuration by their own name.

    `values[k]` are tensors (by the dotted name of a buffer or parameter) that configuration k has instead of the module's own:
    batch-norm statistics measured for it, a head. They are for evaluation; training goes on with the module's own.
    """

    def __init__(
        self,
        module: nn.Module,
        order: Family,
        example_input: Tensor | None = None,
        *,
        swaps: Mapping[int, Mapping[str, str]] | None = None,
        alternates: Iterable[str] = (),
        values: Mapping[int, Mapping[str, Tensor]] | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.order = order
        named = dict(module.named_modules(remove_duplicate=False))  # one module may be several blocks
        if missing := [block for stage in order.stages for block in stage if block not in named]:
            near = ", ".join(list(named)[1:9])
            raise UsageError(f"the network has no block {', '.join(missing)}; its modules begin with {near}")
        if example_input is not None:
            self.check(example_input)
        self._swaps = {k: dict(pairs) for k, pairs in (swaps or {}).items()}
        self._alternates = tuple(alternates)
        if missing := [path for pairs in self._swaps.values() for pair in pairs.items() for path in pair if path not in named]:
            raise UsageError(f"the network has no module {missing[0]} to swap")
        self._values = {k: dict(tensors) for k, tensors in (values or {}).items()}
        own = {**dict(module.named_buffers()), **dict(module.named_parameters())}
        for k, tensors in self._values.items():
            for name, tensor in tensors.items():
                if not 0 <= k < len(order) or name not in own or own[name].shape != tensor.shape:
                    raise UsageError(f"the network has no configuration {k} with a tensor {name} of shape {list(tensor.shape)}")
        # Plain dict: the views share the parameters and must not register them a second time.
        self._views: dict[int, tuple[nn.Module, list[tuple[nn.Module, nn.Module]]]] = {}
        self._stand_ins: dict[tuple[object, ...], tuple[nn.Module, list[tuple[nn.Module, nn.Module]]]] = {}

    def check(self, example_input: Tensor) -> None:
        """UsageError if a block changes the shape or dtype of what flows through it or never runs, or if the module does not take
        such a batch, with all blocks or without those that the smallest configuration lacks."""
        blocks = [block for stage in self.order.stages for block in stage]
        _check_shapes(self.module, blocks, example_input)
        gone = frozenset(blocks) - self.order.configurations[0]
        without = f" without the blocks {', '.join(sorted(gone)[:5])}"
        _check_runs(_without(self.module, dict.fromkeys(gone), []), example_input, without)

    def __len__(self) -> int:
        """K, the number of configurations."""
        return len(self.order)

    def train(self, mode: bool = True) -> ElasticNetwork:
        """As of any module; configurations that were taken out of it (`at`) follow."""
        super().train(mode)
        for _, clones in self._views.values():
            _follow(clones)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ElasticNetwork:
        """As of any module (it moves to a device or another type); what configurations have of their own follows."""
        leaves = [pair for _, clones in self._stand_ins.values() for pair in clones if pair[0]._buffers is not pair[1]._buffers]
        # Shared buffers are other objects afterwards, parameters the same.
        shared = [[name for name, own in clone._buffers.items() if own is original._buffers[name]] for clone, original in leaves]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for (clone, original), names in zip(leaves, shared, strict=True):
            for name, own in clone._buffers.items():
                if own is not None:
                    clone._buffers[name] = original._buffers[name] if name in names else fn(own)
            for name, parameter in clone._parameters.items():
                if parameter is not None and parameter is not original._parameters[name]:
                    clone._parameters[name] = nn.Parameter(fn(parameter.data), requires_grad=False)
        return self

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
            gone = frozenset(block for stage in self.order.stages for block in stage) - active
            put: dict[str, nn.Module | None] = dict.fromkeys([*gone, *self._alternates])
            stand_ins, clones = self._with_values(k, gone)
            for path, other in self._swaps.get(k, {}).items():
                inside = {
                    name.removeprefix(f"{other}."): stand_ins.pop(name) for name in [*stand_ins] if name.startswith(f"{other}.")
                }
                put[path] = _without(self.module.get_submodule(other), inside, clones)
            put.update(stand_ins)
            self._views[k] = (_without(self.module, put, clones), clones)
        view, clones = self._views[k]
        _follow(clones)
        return view

    def with_values(self, values: Mapping[int, Mapping[str, Tensor]]) -> ElasticNetwork:
        """Another elastic network over the same module, where configurations have these values (see the class).

        Configurations that are given the same tensor objects go on sharing the work of what has them.
        """
        return ElasticNetwork(self.module, self.order, swaps=self._swaps, alternates=self._alternates, values=values)

    def over(self, module: nn.Module) -> ElasticNetwork:
        """The same blocks, order and heads over another module of the same structure (an average of the weights, say)."""
        return ElasticNetwork(module, self.order, swaps=self._swaps, alternates=self._alternates)

    def _with_values(self, k: int, gone: frozenset[str]) -> tuple[dict[str, nn.Module], list[tuple[nn.Module, nn.Module]]]:
        """Stand-ins for the blocks (or modules outside them) of which `k` has other values, and whose clones they are."""
        blocks = {block for stage in self.order.stages for block in stage}
        by_block: dict[str, list[tuple[str, str, Tensor]]] = {}
        for name, tensor in self._values.get(k, {}).items():
            path, _, buffer = name.rpartition(".")
            block = next((parent for parent in _parents(path) if parent in blocks), path)
            if block not in gone:
                by_block.setdefault(block, []).append((path, buffer, tensor))
        found: dict[str, nn.Module] = {}
        clones: list[tuple[nn.Module, nn.Module]] = []
        for block, changes in by_block.items():
            key = (block, *((path, buffer, id(tensor)) for path, buffer, tensor in changes))
            if key not in self._stand_ins:
                self._stand_ins[key] = self._stand_in(block, changes)
            found[block], pairs = self._stand_ins[key]
            clones += pairs
        return found, clones

    def _stand_in(
        self, block: str, changes: Sequence[tuple[str, str, Tensor]]
    ) -> tuple[nn.Module, list[tuple[nn.Module, nn.Module]]]:
        clones: list[tuple[nn.Module, nn.Module]] = []
        put: dict[str, nn.Module] = {}
        for path, name, tensor in changes:
            original = self.module.get_submodule(path)
            inner = path[len(block) + 1 :]
            if inner not in put:
                put[inner] = copy.copy(original)
                put[inner].__dict__["_buffers"] = dict(original._buffers)
                put[inner].__dict__["_parameters"] = dict(original._parameters)
                clones.append((put[inner], original))
            if (parameter := original._parameters.get(name)) is not None:
                put[inner]._parameters[name] = nn.Parameter(tensor.to(parameter.device), requires_grad=False)
                continue
            own = original._buffers[name]
            put[inner]._buffers[name] = tensor if own is None else tensor.to(own.device)
        return put[""] if "" in put else _without(self.module.get_submodule(block), put, clones), clones

    def extract(self, k: int) -> nn.Module:
        """Configuration `k` with its own copy of the parameters."""
        return copy.deepcopy(self.at(k))

    def outputs(self, x: Tensor, ks: Iterable[int], watch: Watch | None = None) -> dict[int, Tensor]:
        """The outputs of several configurations; what they have in common runs once if the module is a `Chain`.

        `watch` is told before every piece that runs for which configurations it does.
        """
        wanted = sorted(set(ks))
        views = {k: self.at(k) for k in wanted}
        done: dict[int, Tensor] = {}
        if all(isinstance(view, Chain) for view in views.values()):
            _run_chains(x, {k: list(view.chain()) for k, view in views.items() if isinstance(view, Chain)}, done, watch)
            return {k: done[k] for k in wanted}
        for k, view in views.items():
            if watch:
                watch((k,))
            done[k] = view(x)
        return done


class _Skipped(nn.Module):
    """Gives what flows through the block; masks and the like, which only the block looks at, fall away."""

    def forward(self, x: Tensor, *others: object, **named: object) -> Tensor:
        return x


def _parents(path: str) -> Iterable[str]:
    """`a.b.c` → `a.b.c`, `a.b`, `a`."""
    while path:
        yield path
        path = path.rpartition(".")[0]


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
                children[name] = _Skipped()
        else:
            children[name] = _without(child_module, rests, clones)
    clone.__dict__["_modules"] = children
    clones.append((clone, module))
    return clone


def _run_chains(
    x: Tensor, chains: dict[int, list[nn.Module]], done: dict[int, Tensor], watch: Watch | None = None, start: int = 0
) -> None:
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
            if watch:
                watch(tuple(group))
            # A step may work in place, and others begin with the same x.
            _run_chains(next(iter(group.values()))[start](x.clone()), group, done, watch, start + 1)
        if watch:
            watch(tuple(trunk))
        x = next(iter(trunk.values()))[start](x)
        chains, start = trunk, start + 1


def _check_shapes(module: nn.Module, blocks: Sequence[str], example_input: Tensor) -> None:
    wrong: list[str] = []
    idle = dict.fromkeys(blocks)

    def check(name: str) -> object:
        def hook(_: nn.Module, inputs: tuple[object, ...], keywords: dict[str, object], output: object) -> None:
            idle.pop(name, None)
            first = inputs[0] if inputs else None
            if not isinstance(first, Tensor) or not isinstance(output, Tensor):
                wrong.append(f"{name} (what it takes first, or gives, is not one tensor)")
            elif first.shape != output.shape or first.dtype != output.dtype:
                wrong.append(f"{name} ({list(first.shape)} {first.dtype} → {list(output.shape)} {output.dtype})")

        return named[name].register_forward_hook(hook, with_kwargs=True)

    named = dict(module.named_modules(remove_duplicate=False))
    handles = [check(name) for name in blocks]
    try:
        whole = _check_runs(module, example_input)
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]
    if idle and not wrong:
        # A block whose `forward` is called by name runs without its hooks. One that does nothing is not missed.
        without = _check_runs(
            _without(module, dict.fromkeys(idle), []), example_input, f" without the blocks {', '.join([*idle][:5])}"
        )
        if isinstance(whole, Tensor) and isinstance(without, Tensor) and torch.equal(whole, without):
            raise UsageError(f"these blocks never run, so nothing is saved without them: {', '.join([*idle][:5])}")
    if wrong:
        raise UsageError(
            f"these blocks change what flows through them and can't be skipped: {'; '.join(wrong)}. "
            "Leave them out of the order, or give them an adapter."
        )


def _check_runs(module: nn.Module, example_input: Tensor, how: str = "") -> object:
    """What `module` makes of the batch in eval mode; UsageError if it does not take it. `how` is said of the module."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            return module(example_input)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        first_line = str(error).strip().partition("\n")[0] or type(error).__name__
        shape = f"{list(example_input.shape)} {example_input.dtype}"
        raise UsageError(f"{type(module).__name__}{how} does not take a batch of {shape}: {first_line}") from error
    finally:
        for part, training in modes:
            part.training = training


def _follow(clones: list[tuple[nn.Module, nn.Module]]) -> None:
    """Train or eval mode as that of what was cloned."""
    for clone, original in clones:
        clone.training = original.training
