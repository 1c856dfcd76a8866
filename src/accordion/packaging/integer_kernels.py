"""A graph for integer kernels: the same weights, activations of 8 bits, arithmetic in integers where the runtime has it.

In the form that ONNX Runtime turns into its integer operators (QuantizeLinear and DequantizeLinear around float operators), so a
runtime that knows nothing of it computes the same with floats. Weights are rounded to 8 bits when the session starts, from whatever
they travel as; the graph brings no tensors of its own but the activations' scales, one number each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from accordion.packaging.answers import run_graph, session_of
from accordion.packaging.codecs import Builder
from accordion.packaging.encode import weights_of
from accordion.packaging.graph import Graph, Pool

__all__ = ["activation_scales", "for_integer_kernels", "value_keys"]

Array = NDArray[Any]

INT8, INT32 = int(onnx.TensorProto.INT8), int(onnx.TensorProto.INT32)
AT_ONCE = 8  # pictures; hundreds of inner values of each are kept meanwhile
SAMPLES = 4096  # numbers of an activation that are looked at, of each few pictures
CLIPS = np.linspace(0.3, 1.0, 36)
TINY = 1e-12  # no scale is smaller: a channel of zeros must not be divided by zero
LARGEST_BIAS = 2**30  # in units of what is added up, 32 bits wide, so that as much again has room beside it


def value_keys(graph: Graph) -> dict[str, str]:
    """A name for each value of `graph` that says how it is computed, so that equal values of two graphs are found.

    Constants count by the identity of their interned arrays: keys hold within one pool.
    """
    keys = {value.name: f"input {value.name}" for value in graph.inputs}
    keys |= {name: f"constant {id(array)}" for name, array in graph.tensors.items()}
    for node in graph.nodes:
        attributes = sorted(attribute.SerializeToString(deterministic=True).hex() for attribute in node.attribute)
        text = " ".join([node.op_type, *attributes, *(keys.get(name, name) for name in node.input)])
        digest = hashlib.sha256(text.encode()).hexdigest()
        keys |= {name: f"{digest} {index}" for index, name in enumerate(node.output)}
    return keys


def activation_scales(
    joint: Graph, chosen: set[int], pictures: NDArray[np.uint8], progress: Callable[[str], None] = lambda line: None
) -> dict[str, tuple[float, bool]]:
    """For every value that integer kernels read or write, by its key: the scale of its 8 bits, and whether it has a sign.

    `chosen` are the identities of the weights whose layers are to run in integers. Measured on `pictures`; the range ends where the
    squared error of rounding and cutting off together is least.
    """
    keys = value_keys(joint)
    names = list(dict.fromkeys(_activations(joint, chosen)))
    progress(f"ranges of {len(names)} activations on {len(pictures)} training pictures")
    session = session_of(joint, only=(), inner=names)
    rng = np.random.default_rng(0)
    seen: dict[str, list[Array]] = {name: [] for name in names}
    most: dict[str, float] = dict.fromkeys(names, 0.0)
    for start in range(0, len(pictures), AT_ONCE):
        for name, value in zip(names, run_graph(session, pictures[start : start + AT_ONCE], names), strict=True):
            flat = value.reshape(-1)
            most[name] = max(most[name], float(np.abs(flat).max()))
            seen[name].append(flat[rng.integers(0, flat.size, min(SAMPLES, flat.size))])
    found = {}
    for name in names:
        values = np.concatenate(seen[name]).astype(np.float64)
        signed = bool((values < 0).any())
        levels = 127 if signed else 255
        errors = []
        for clip in CLIPS:
            scale = max(clip * most[name] / levels, TINY)
            rounded = np.clip(np.rint(values / scale), -levels if signed else 0, levels) * scale
            errors.append(float(((values - rounded) ** 2).sum()))
        found[keys[name]] = (_short(max(CLIPS[int(np.argmin(errors))] * most[name] / levels, TINY)), signed)
    return found


def _short(scale: float) -> float:
    """The next number up that is a bfloat16: under 0.8 % more, and in a compressed graph half the bytes."""
    bits = int(np.float32(scale).view(np.uint32))
    return float(np.uint32((bits + 0xFFFF) & 0xFFFF0000).view(np.float32))


def for_integer_kernels(
    graph: Graph, plain: Graph, chosen: set[int], scales: Mapping[str, tuple[float, bool]], pool: Pool
) -> Graph:
    """`graph` (a graph that rebuilds its weights) with the layers of the weights `chosen` in integers.

    `plain` is the same graph before its tensors were encoded: it says what each value is. Layers that read or write a value without
    a scale stay as they are.
    """
    keys = value_keys(plain)
    layers = _layers(plain, chosen)
    quantized = {name: scales[keys[name]] for name in _activations(plain, chosen) if keys[name] in scales}
    made = Graph([], graph.inputs, graph.outputs, graph.opset, graph.ir_version, dict(graph.tensors))
    build, stacks = Builder(made, pool, "integer"), Builder(made, pool, "stack")
    body = {node.output[0]: node for node in graph.nodes}
    plain_outputs = {node.output[0] for node in plain.nodes}
    nodes: list[onnx.NodeProto] = []
    through: dict[str, str] = {}  # from a value to what it is after 8 bits

    codes: dict[str, tuple[str, str]] = {}  # from a weight to its codes of 8 bits and their steps, where that was done for many

    read = {layer.input[1] for layer in (body[name] for name in layers)}
    least = {
        body[name].input[1]: _least_step(layer, plain, quantized[body[name].input[0]][0])
        for name, layer in layers.items()
        if body[name].input[0] in quantized
    }
    for node in graph.nodes:
        if node.output[0] not in plain_outputs:  # rebuilds weights
            nodes.append(node)
            if node.op_type == "Split" and read.intersection(node.output):
                stacks.nodes = []
                codes.update(_codes_of_stack(stacks, node, max(least.get(name, TINY) for name in node.output)))
                nodes += stacks.nodes
            continue
        new = onnx.NodeProto()
        new.CopyFrom(body[node.output[0]])
        new.input[:] = [through.get(name, name) for name in node.input]
        if node.output[0] in layers and node.input[0] in quantized:
            build.nodes = []
            known = codes.get(new.input[1]) or _codes(build, new.input[1], least[new.input[1]])
            _integer_weights(build, new, quantized[node.input[0]][0], *known)
            nodes += build.nodes
        nodes.append(new)
        for name in node.output:
            if name in quantized:
                build.nodes = []
                through[name] = _eight_bits(build, name, *quantized[name])
                nodes += build.nodes
    made.nodes = nodes
    made.drop_unread()
    return made


def _layers(graph: Graph, chosen: set[int]) -> dict[str, onnx.NodeProto]:
    """The convolutions of the weights `chosen`, by their output."""
    return {
        node.output[0]: node for name, node in _all_weights(graph) if node.op_type == "Conv" and id(graph.tensors[name]) in chosen
    }


def _all_weights(graph: Graph) -> Iterable[tuple[str, onnx.NodeProto]]:
    named = set(weights_of(graph))
    return [(node.input[1], node) for node in graph.nodes if len(node.input) > 1 and node.input[1] in named]


def _activations(graph: Graph, chosen: set[int]) -> list[str]:
    """Values that are to have 8 bits: inputs of the chosen layers, what they give, and what an addition of such gives.

    A value that only a Relu reads is left out: the Relu's result is rounded, which cuts off at zero by itself.
    """
    layers = _layers(graph, chosen)
    made_by = {name: node for node in graph.nodes for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def settled(name: str) -> str:
        readers_of = readers.get(name, [])
        return readers_of[0].output[0] if len(readers_of) == 1 and readers_of[0].op_type == "Relu" else name

    wanted = [node.input[0] for node in layers.values() if node.input[0] in made_by]
    wanted += [settled(name) for name in layers]
    known = set(wanted)
    for node in graph.nodes:
        if node.op_type == "Add" and all(name in known for name in node.input):
            wanted.append(settled(node.output[0]))
            known.add(wanted[-1])
    outputs = {value.name for value in graph.outputs}
    return [name for name in wanted if name not in outputs]


def _eight_bits(build: Builder, name: str, scale: float, signed: bool) -> str:
    factor = build.tensor(np.array(scale, np.float32))
    zero = build.tensor(np.array(0, np.int8 if signed else np.uint8))
    return build.op("DequantizeLinear", build.op("QuantizeLinear", name, factor, zero), factor, zero)


def _least_step(conv: onnx.NodeProto, plain: Graph, scale: float) -> float:
    """The smallest step of a weight's 8 bits with which the bias can be said, whose unit is the step times the input's `scale`: the
    weights of a channel may all be zero."""
    bias = plain.tensors.get(conv.input[2]) if len(conv.input) > 2 else None
    return TINY if bias is None else max(TINY, float(np.abs(bias).max(initial=0.0)) / (scale * LARGEST_BIAS))


def _integer_weights(build: Builder, conv: onnx.NodeProto, scale: float, codes: str, steps: str) -> None:
    """Weights to 8 bits by output channel, biases to 32 bits at the scale of the sums."""
    conv.input[1] = build.op("DequantizeLinear", codes, steps, axis=0)
    if len(conv.input) > 2 and conv.input[2]:
        unit = build.op("Mul", steps, _number(build, scale))
        whole = build.op("Cast", build.op("Round", build.op("Div", conv.input[2], unit)), to=INT32)
        conv.input[2] = build.op("DequantizeLinear", whole, unit, axis=0)


def _codes(build: Builder, weight: str, least: float) -> tuple[str, str]:
    """Codes [m, …] and steps [m], `least` or more, of weights [m, in, h, w]."""
    largest = build.op("ReduceMax", build.op("Abs", weight), axes=[1, 2, 3], keepdims=1)
    steps = build.op("Max", build.op("Mul", largest, _number(build, 1 / 127)), _number(build, least))
    codes = build.op("Cast", build.op("Round", build.op("Div", weight, steps)), to=INT8)
    return codes, build.op("Reshape", steps, build.numbers(-1))


def _codes_of_stack(build: Builder, split: onnx.NodeProto, least: float) -> dict[str, tuple[str, str]]:
    """The same for all weights that `split` takes apart, at once: a graph of half the nodes."""
    apart = [build.ops("Split", [whole], len(split.output), axis=0) for whole in _codes(build, split.input[0], least)]
    return dict(zip(split.output, zip(*apart, strict=True), strict=True))


def _number(build: Builder, value: float) -> str:
    return build.tensor(np.array(value, np.float32))
