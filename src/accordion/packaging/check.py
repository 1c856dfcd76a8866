"""The last look before a package is handed out: does every prefix of it give what the network gives?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from accordion.artifact.alternative import FLOAT_KERNELS
from accordion.artifact.ladder import Configuration, Ladder
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import Manifest
from accordion.elastic import ElasticNetwork
from accordion.errors import AccordionError
from accordion.profiling import one_thread

__all__ = ["ABSOLUTE", "Expected", "check_answers", "check_prefixes", "lay_out_prefixes"]

ABSOLUTE = 1e-4
"""How far a logit may be off, where logits are of the order of one; larger ones by as much in proportion.

Both sides compute in float32, in another order of summation and with batch norms folded: the complete ResNet-110 is off by 1e-5.
"""

ABSOLUTE_IN_INTEGERS = 0.02
"""The same for integer kernels, where one activation that falls on the other side of a half is a step of its 8 bits."""

Expected = Callable[[int, str], NDArray[np.float32]]


def check_prefixes(layout: Layout, manifest: Manifest, ladder: Ladder, network: ElasticNetwork, x: Tensor) -> None:
    """Lays the package out layer by layer and runs each configuration, as soon as its n(k) layers are there, on `x` [n, …].

    AccordionError if plain ONNX Runtime can't load one, or answers other than `network.at(k)` in eval mode.
    """

    def expected(k: int, kernels: str) -> NDArray[np.float32]:
        with torch.no_grad(), one_thread():
            answer: NDArray[np.float32] = network.at(k).eval()(x).numpy()
        return answer

    check_answers(layout, manifest, ladder, expected, x.numpy())


def check_answers(layout: Layout, manifest: Manifest, ladder: Ladder, expected: Expected, x: NDArray[np.float32]) -> None:
    """The same against any source of answers: `expected(k, kernels)` of configuration k, of its own graph ("float") and of each
    alternative.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    waiting = [(one.index, further) for one in ladder.configurations for further in one.alternatives]
    with tempfile.TemporaryDirectory(prefix="accordion-check-") as name:
        for configuration, folder in lay_out_prefixes(layout, manifest, ladder, Path(name)):
            ways = [(configuration.index, FLOAT_KERNELS, configuration.graph)]
            for k, further in waiting[:]:
                if k <= configuration.index and further.layers <= configuration.layers:
                    ways.append((k, further.kernels, further.graph))
                    waiting.remove((k, further))
            for k, kernels, graph in ways:
                what = f"configuration {k}" + ("" if kernels == FLOAT_KERNELS else f" with {kernels} kernels")
                wanted = expected(k, kernels)
                entry = ladder.inputs_of(k)[0]
                try:
                    session = onnxruntime.InferenceSession(folder / graph, options, providers=["CPUExecutionProvider"])
                    (found,) = session.run(None, {entry.name: x})
                except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
                    first = str(error).splitlines()[0]
                    raise AccordionError(f"the package is wrong: {what} does not run from its prefix: {first}") from error
                off = float(np.max(np.abs(found - wanted), initial=0.0))
                allowed = ABSOLUTE if kernels == FLOAT_KERNELS else ABSOLUTE_IN_INTEGERS
                allowed *= max(1.0, float(np.max(np.abs(wanted), initial=0.0)))
                if found.shape != wanted.shape or not off <= allowed:
                    raise AccordionError(
                        f"the package is wrong: {what} answers other than the network, by {off:.2g} where at most "
                        f"{allowed:.2g} is rounding"
                    )
                if not isinstance(entry.shape[0], int):
                    _check_other_batch(session, entry.name, x, found, what, allowed)


def _check_other_batch(
    session: onnxruntime.InferenceSession, name: str, x: NDArray[Any], found: NDArray[Any], what: str, allowed: float
) -> None:
    """AccordionError if the answer to one picture hangs on how many come with it: then the graph was traced for this many."""
    few = x[:1] if len(x) > 1 else np.concatenate([x, x])
    wanted = found[:1] if len(x) > 1 else np.concatenate([found, found])
    try:
        (answer,) = session.run(None, {name: few})
        fits = answer.shape == wanted.shape and float(np.max(np.abs(answer - wanted), initial=0.0)) <= allowed
    except Exception:  # ONNX Runtime's exceptions share no base class of their own
        fits = False
    if not fits:
        raise AccordionError(
            f"the graph of {what} holds for batches of {len(x)} alone: where the network's forward asks how many examples there "
            "are, it must take x.shape[0] as it is, not len(x) or int(x.shape[0])"
        )


def lay_out_prefixes(layout: Layout, manifest: Manifest, ladder: Ladder, folder: Path) -> Iterator[tuple[Configuration, Path]]:
    """Writes layer after layer under the files' own paths; yields each configuration when its last layer is there."""
    folder.mkdir(parents=True, exist_ok=True)
    waiting = list(ladder.configurations)
    for index, layer in enumerate(manifest.layers):
        layout.lay_out(layer, folder, f"layer {index}")
        while waiting and waiting[0].layers == index + 1:
            yield waiting.pop(0), folder
