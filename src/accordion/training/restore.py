"""A finished and profiled run out of a float32 package, so that its network can be packaged again although the run is long gone.

A package holds what a network multiplies with, and of its norms what was left after folding. Norms are made that come to the same:
where a norm was folded, one that changes nothing but adds the bias; where configurations have factors of their own, one whose
statistics in each of them give that factor and that shift. So the network computes what it computed, and packaged in float32 it is
the same package again, but for the last bits of shifts that configurations have of their own. How it was trained is not in a
package: a restored run can be measured, packaged and finished, not gone on with.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accordion.artifact.atomic import write_file
from accordion.artifact.ladder import Ladder
from accordion.data import Dataset, load, pinned
from accordion.data.own import TAKEN
from accordion.elastic import CifarResNet, ElasticNetwork, OrderTable, by_name
from accordion.elastic.resnet import Head
from accordion.errors import FormatError, UsageError
from accordion.training.config import TrainingConfig, build_network
from accordion.training.norms import Norms
from accordion.training.packaged import Convolution, GraphWeights, laid_out, layers_of, path_and_tag, read_graph
from accordion.training.recipes import MODERN
from accordion.training.run_directory import MEASURED_ON, NORMS, PACKAGED, RunDirectory

__all__ = ["restore"]

Array = NDArray[Any]

PICTURES = 4
CLOSE = 1e-3  # of the largest answer: rounding in float32, through a hundred layers, stays far below


@dataclass(frozen=True, slots=True)
class _Packaged:
    """What was read of a package: its ladder, and what each configuration multiplies with."""

    name: str
    ladder: Ladder
    weights: list[GraphWeights]

    @property
    def counts(self) -> tuple[tuple[int, ...], ...]:
        """Blocks by stage of each configuration."""
        return tuple(tuple(rung.blocks.by_stage) for rung in self.ladder.configurations)


def restore(
    package: Path | str, run: Path | str, *, dataset: str | None = None, progress: Callable[[str], None] = lambda line: None
) -> TrainingConfig:
    """Writes the network in `package` (PACKAGE or PACKAGE:TAG) as a finished and profiled run into the new folder `run`.

    `dataset` is the file of its data set where that is somebody's own (see `accordion.data.own`): a package states its name alone.
    Every configuration is run on a few pictures and compared with the package's own graph before anything is written.

    Raises:
        UsageError: no package, another encoding than float32, another kind of network, a folder that holds something.
        ContentError: the package is broken.
        StorageError: the disk failed.
    """
    package, run = str(package), Path(run)
    path, tag = path_and_tag(package)
    if not (path / "oci-layout").is_file():
        raise UsageError(f"there is no package {package}")
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise UsageError(f"{run} holds something: name a new folder for the run")
    with laid_out(path, tag) as (ladder, folder):
        rungs = ladder.configurations
        if any(rung.precision != "float32" for rung in rungs):
            raise UsageError(f"{package} holds weights that were rounded: only a float32 package can become a run again")
        found = _Packaged(package, ladder, [read_graph(folder / rung.graph, package) for rung in rungs])
        config = _config(found)
        named = rungs[-1].quality.dataset
        if dataset is not None:
            config = replace(config, dataset=pinned(dataset))
        elif named not in TAKEN:  # a package's word is no name of a file here
            raise UsageError(f"{package} was measured on {named!r:.60}: name the file of these pictures with --dataset")
        data = load(config.dataset)
        shape, wanted = list(data.test.x.shape[1:]), list(ladder.inputs[0].shape[1:])
        if data.name != named or shape != wanted:
            raise UsageError(f"{package} was measured on pictures {wanted} of {named!r:.60}, not {shape} of {data.name!r}")
        network = build_network(config, data)
        norms = _fill(network, found)
        whole = norms.applied(network).eval()
        _compare(whole, data, ladder, folder, package)
        progress(f"{len(rungs)} configurations answer as those of {package}")
    directory = RunDirectory(run)
    with directory.locked():
        directory.write_settings({"schema_version": 1, "config": config.to_json(), NORMS: PACKAGED})
        directory.write_norms(norms if norms.values else None)
        directory.write_weights(network.module.state_dict())  # last: with weights, a run has finished
        _write_ladder(run, ladder)
    return config


def _config(found: _Packaged) -> TrainingConfig:
    """Settings of which network, data and order are the package's; the rest are defaults that nothing was made by."""
    complete, counts = found.weights[-1], found.counts[-1]
    if len(counts) != 3 or not all(any(count) for count in found.counts):
        raise UsageError(
            f"{found.name} is not a ResNet of three stages with a block in every configuration: only such can become runs again"
        )
    width = complete.convolutions[0].weight.shape[0]
    even = len(set(counts)) == 1
    return TrainingConfig(
        dataset=str(found.ladder.configurations[-1].quality.dataset),
        network=f"resnet{6 * counts[0] + 2}" if even else "resnet" + "-".join(map(str, counts)),
        width=width,
        order=_order(found),
        policy="uniform",
        recipe=MODERN.with_changes(name="restored"),
        heads=_heads(found),
        initial=found.name,
    )


def _last(count: tuple[int, ...]) -> int:
    """The last stage of which a configuration has blocks."""
    return max(stage for stage, blocks in enumerate(count) if blocks)


def _heads(found: _Packaged) -> str:
    """Whose the heads are. Where no two configurations have the same, each has its own."""
    if _stage_heads(found):
        return "stage"
    linear = [one.linear for one in found.weights]
    distinct = all(not _same(one, other) for k, one in enumerate(linear) for other in linear[:k])
    return "configuration" if distinct and len(linear) > 1 else "shared"


def _stage_heads(found: _Packaged) -> bool:
    """Whether all configurations that end in a stage have the same head, which is not the complete network's for some."""
    of_stage = {_last(count): one.linear for count, one in zip(found.counts, found.weights, strict=True)}
    alike = all(_same(one.linear, of_stage[_last(count)]) for count, one in zip(found.counts, found.weights, strict=True))
    return alike and any(not _same(linear, found.weights[-1].linear) for linear in of_stage.values())


def _order(found: _Packaged) -> str | OrderTable:
    """The order by its name where there is one of that name, else as data."""
    name, stages = found.ladder.order, tuple(tuple(f"{s}.{n}" for n in range(count)) for s, count in enumerate(found.counts[-1]))
    try:
        known = by_name(name, stages)
        if tuple(known.by_stage(k) for k in range(len(known))) == found.counts:
            return name
    except UsageError:
        pass
    return OrderTable(name, found.counts)


def _fill(network: ElasticNetwork, found: _Packaged) -> Norms:
    """Gives the network the complete configuration's weights; what differs between configurations is returned."""
    module = network.module
    if not isinstance(module, CifarResNet):
        raise UsageError(f"{found.name} is no ResNet")
    layers = layers_of(module)
    paths = {norm: name for name, norm in module.named_modules() if isinstance(norm, nn.BatchNorm2d)}
    shapes = [tuple(conv.weight.shape) for conv, _ in layers]
    if [one.weight.shape for one in found.weights[-1].convolutions] != shapes:
        raise UsageError(f"{found.name} holds a network of other widths than a ResNet's")
    # Which of the complete network's layers each configuration has: the stem's, and those of its blocks.
    own = [
        [index for index, (_, norm) in enumerate(layers) if _runs(paths[norm], network.order.configurations[k])]
        for k in range(len(network))
    ]
    by_layer: list[dict[int, Convolution]] = [{} for _ in layers]
    for k, (indices, weights) in enumerate(zip(own, found.weights, strict=True)):
        if len(indices) != len(weights.convolutions):
            raise UsageError(f"configuration {k} of {found.name} has {len(weights.convolutions)} convolutions, not {len(indices)}")
        for index, one in zip(indices, weights.convolutions, strict=True):
            by_layer[index][k] = one
    shared: dict[str, Tensor] = {}
    values: dict[int, dict[str, Tensor]] = {}
    with torch.no_grad():
        for (conv, norm), those in zip(layers, by_layer, strict=True):
            _fill_layer(conv, norm, those, paths[norm], shared, values)
        for k, head in _heads_of(module, found):
            weight, bias = found.weights[k].linear
            if tuple(head.linear.weight.shape) != weight.shape:
                raise UsageError(f"{found.name} tells {weight.shape[0]} classes apart, its data set has others")
            head.linear.weight.copy_(torch.from_numpy(weight.copy()))
            head.linear.bias.copy_(torch.from_numpy(bias.copy()))
    if not module.stage_heads and module.heads is None:
        _fill_heads(found, values)
    return Norms(shared, {k: own for k, own in values.items() if own})


def _heads_of(module: CifarResNet, found: _Packaged) -> list[tuple[int, Head]]:
    """The network's heads, each with a configuration that has it."""
    complete = len(found.weights) - 1
    if module.heads is not None:
        return [*((k, head) for k, head in enumerate(module.heads) if isinstance(head, Head)), (complete, module.head)]
    if not module.stage_heads:
        return [(complete, module.head)]
    last = {_last(count): k for k, count in enumerate(found.counts)}
    return [(last.get(stage, complete), head) for stage, head in enumerate((module.head1, module.head2, module.head))]


def _fill_heads(found: _Packaged, values: dict[int, dict[str, Tensor]]) -> None:
    """Heads that single configurations have of their own."""
    kept: dict[bytes, tuple[Tensor, Tensor]] = {}
    for k, one in enumerate(found.weights):
        weight, bias = one.linear
        if _same(one.linear, found.weights[-1].linear):
            continue
        if weight.shape != found.weights[-1].linear[0].shape:
            raise UsageError(f"configuration {k} of {found.name} tells {weight.shape[0]} classes apart, the complete one others")
        made = torch.from_numpy(weight.copy()), torch.from_numpy(bias.copy())
        head = kept.setdefault(weight.tobytes() + bias.tobytes(), made)
        values.setdefault(k, {}).update(zip(("head.linear.weight", "head.linear.bias"), head, strict=True))


def _runs(norm: str, blocks: frozenset[str]) -> bool:
    """Whether a configuration of these blocks runs the norm of this path."""
    parts = norm.split(".")
    return parts[0] == "stem" or ".".join(parts[:2]) in blocks


def _fill_layer(
    conv: nn.Conv2d,
    norm: nn.BatchNorm2d,
    those: dict[int, Convolution],
    path: str,
    shared: dict[str, Tensor],
    values: dict[int, dict[str, Tensor]],
) -> None:
    """One convolution and its norm, from what the configurations that have it multiply with and add."""
    complete = those[max(those)]
    conv.weight.copy_(torch.from_numpy(complete.weight.copy()))
    if complete.factor is None:
        norm.weight.fill_(1.0)
        norm.bias.copy_(torch.from_numpy(complete.shift.copy()))
        statistics = {k: (np.zeros_like(complete.shift), np.full_like(complete.shift, 1.0 - norm.eps)) for k in those}
    else:
        factors = {k: _factor(one, path) for k, one in those.items()}
        largest = max(factors.values(), key=lambda factor: float(np.abs(factor).sum()))
        scale = np.where(largest == 0, 0.0, np.sign(largest) * np.max([np.abs(f) for f in factors.values()], axis=0))
        norm.weight.copy_(torch.from_numpy(scale.astype(np.float32)))
        # Without a scale, the shift is all that is left of the norm, in every configuration.
        norm.bias.copy_(torch.from_numpy(np.where(scale == 0, complete.shift, 0).astype(np.float32)))
        statistics = {k: _statistics(scale, factors[k], one.shift, norm.eps, path) for k, one in those.items()}
    kept: dict[bytes, tuple[Tensor, Tensor]] = {}
    for k, (mean, variance) in sorted(statistics.items(), reverse=True):
        # The same statistics are the same tensors, so that what configurations share is packaged once.
        found = kept.setdefault(mean.tobytes() + variance.tobytes(), (torch.from_numpy(mean), torch.from_numpy(variance)))
        names = (f"{path}.running_mean", f"{path}.running_var")
        for name, tensor, buffer in zip(names, found, (norm.running_mean, norm.running_var), strict=True):
            if name not in shared:
                shared[name] = tensor
                assert buffer is not None
                buffer.copy_(tensor)
            elif tensor is not shared[name]:
                values.setdefault(k, {})[name] = tensor


def _factor(one: Convolution, path: str) -> NDArray[np.float64]:
    if one.factor is None:
        raise UsageError(
            f"the norm {path} is folded in some configurations and not in others: such a package can't become a run again"
        )
    return one.factor.astype(np.float64)


def _statistics(
    scale: NDArray[np.float64], factor: NDArray[np.float64], shift: Array, epsilon: float, path: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and variance with which a norm of this scale and no shift multiplies by `factor` and adds `shift`."""
    if np.any(factor * scale < 0) or np.any((factor == 0) != (scale == 0)):
        raise UsageError(f"no norm multiplies as {path} does in different configurations: such a package can't become a run again")
    alive = scale != 0
    ratio = np.divide(scale, factor, out=np.ones_like(scale), where=alive)
    mean = np.divide(-shift.astype(np.float64), factor, out=np.zeros_like(scale), where=alive)
    return mean.astype(np.float32), (ratio**2 - epsilon).astype(np.float32)


def _same(one: tuple[Array, Array], other: tuple[Array, Array]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@torch.no_grad()
def _compare(network: ElasticNetwork, dataset: Dataset, ladder: Ladder, folder: Path, what: str) -> None:
    """FormatError where a configuration answers other than its graph in the package."""
    x = torch.from_numpy(dataset.test.x[:PICTURES]).float() / 255
    for k, rung in enumerate(ladder.configurations):
        session = onnxruntime.InferenceSession(folder / rung.graph, providers=["CPUExecutionProvider"])
        answer = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
        off = float(np.abs(network.at(k)(x).numpy() - answer).max())
        if not off <= CLOSE * max(1.0, float(np.abs(answer).max())):
            raise FormatError(
                f"configuration {k} of {what} is not the ResNet that it seems to be: it answers otherwise, by {off:.2g}"
            )


def _write_ladder(run: Path, ladder: Ladder) -> None:
    """As `accordion profile` would have written it: without what is the package's."""
    fields = json.loads(ladder.to_bytes())
    circumstances = fields.pop("latency", None)
    for row in fields["configurations"]:
        if circumstances and "latency_s" in row:
            row["latency_s"] |= circumstances
        for name in ("layers", "graph", "bytes"):
            row.pop(name)
    fields[MEASURED_ON] = RunDirectory(run).digest()
    write_file(run / "ladder.json", json.dumps(fields, indent=1).encode() + b"\n")
