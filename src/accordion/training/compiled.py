"""Training steps compiled by `torch.compile`, one for each set of configurations that a step runs.

A network whose depth is chosen inside the compiled function would be frozen at the first choice, or compiled again until a limit is
reached and then run uncompiled without a word. Here the choice is made before: each set of configurations becomes a straight
sequence of modules, and that is compiled, whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from accordion.elastic import Chain, ElasticNetwork
from accordion.errors import TrainingError, UsageError

__all__ = ["CompiledSteps", "straight_line"]

Program = list[tuple[nn.Module, int]]


def straight_line(network: ElasticNetwork, ks: Iterable[int]) -> tuple[Program, list[int]]:
    """The configurations `ks` as one sequence: (module, number of the value that it takes), where value 0 is the input and value i
    what entry i - 1 gives; and the values that are the outputs. What configurations have in common stands there once."""
    program: Program = []
    ends: list[int] = []
    known: dict[tuple[int, int], int] = {}
    for k in ks:
        view = network.at(k)
        if not isinstance(view, Chain):
            raise UsageError("only networks that are a chain of modules can be compiled")
        value = 0
        for module in view.chain():
            key = (value, id(module))
            if key not in known:
                program.append((module, value))
                known[key] = len(program)
            value = known[key]
        ends.append(value)
    return program, ends


class CompiledSteps(nn.Module):
    """Stands for `network` in a training loop: `outputs(x, ks)`, compiled at the first call for each set `ks`.

    `backend` is torch.compile's. On a GPU "inductor" records CUDA graphs, since small networks are bound by kernel launches there.
    """

    def __init__(self, network: ElasticNetwork, backend: str, *, cuda: bool = False) -> None:
        super().__init__()
        self.network, self.backend, self.graphs = network, backend, cuda
        self._steps: dict[tuple[int, ...], Callable[[Tensor], tuple[Tensor, ...]]] = {}

    def outputs(self, x: Tensor, ks: Iterable[int]) -> dict[int, Tensor]:
        """As `ElasticNetwork.outputs`."""
        wanted = tuple(sorted(set(ks)))
        step = self._steps.get(wanted)
        if step is None:
            step = self._steps[wanted] = self._compile(wanted)
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        try:
            found = step(x)
        except torch._dynamo.exc.TorchDynamoException as error:
            first = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise TrainingError(f"the step can't be compiled with {self.backend}: {first[0]}; train without --compile") from error
        return dict(zip(wanted, found, strict=True))

    def _compile(self, ks: tuple[int, ...]) -> Callable[[Tensor], tuple[Tensor, ...]]:
        program, ends = straight_line(self.network, ks)

        def step(x: Tensor) -> tuple[Tensor, ...]:
            values = [x]
            for module, source in program:
                values.append(module(values[source]))
            return tuple(values[end] for end in ends)

        # The compiler counts recompilations by code object: without one of its own, the tenth set would silently run uncompiled.
        step.__code__ = step.__code__.replace(co_name="step_" + "_".join(map(str, ks)))
        extra: dict[str, Any] = {"mode": "reduce-overhead"} if self.graphs and self.backend == "inductor" else {}
        compiled: Callable[[Tensor], tuple[Tensor, ...]] = torch.compile(
            step, backend=self.backend, fullgraph=True, dynamic=False, **extra
        )
        return compiled
