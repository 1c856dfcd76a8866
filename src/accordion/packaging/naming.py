"""Short names for the values of a package's graphs, chosen so that the graphs compress well together.

Names are most of what a compressed graph is made of, and each of them breaks a repetition. So a value is named after the layer that
it belongs to and its place among that layer's values: the same layer reads the same in every graph that has it, whatever stands
before it, and two layers of one kind differ in one and the same few characters.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray

from accordion.packaging.graph import Graph
from accordion.packaging.segments import is_inline

__all__ = ["Naming"]

Key = tuple[str | int, ...]
"""What a value belongs to: the name of a tensor in a segment, and which parts of a division of it, if any."""

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_DIGITS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_START: Key = ()


class Naming:
    """Names for the values of all of `graphs`; `home` says what a tensor in a segment is called, with a dot in it."""

    def __init__(self, graphs: Sequence[Graph], home: Callable[[NDArray[Any]], str]) -> None:
        self._home = home
        self._numbers: dict[Key, int] = {}
        self._belongings = {id(graph): _belongings(graph, home) for graph in graphs}
        for belongs in self._belongings.values():
            for key in belongs.values():
                self._numbers.setdefault(key, len(self._numbers))
        self._width = len(_written(len(self._numbers)))

    def of(self, graph: Graph) -> dict[str, str]:
        """The names of one of the graphs' values and tensors by their names until now. Inputs and outputs keep theirs."""
        names = {value.name: value.name for value in (*graph.inputs, *graph.outputs)}
        names |= {name: self._home(array) for name, array in graph.tensors.items() if not is_inline(array)}
        kept = set(names.values())
        belongs = self._belongings[id(graph)]
        places: Counter[Key] = Counter()

        def short(key: Key) -> str:
            while (name := _written(places[key]) + _written(self._numbers[key]).rjust(self._width, _DIGITS[0])) in kept:
                places[key] += 1
            places[key] += 1
            return name

        for name in _outputs(graph):
            if name not in names:
                names[name] = short(belongs[name])
        # A constant after its first reader: it needs a name of its own in the file, and that one stands right beside.
        for node in graph.nodes:
            for index, name in enumerate(node.input):
                if name and name not in names:
                    names[name] = f"{names[node.output[0]]}_{index}"
                    while names[name] in kept:
                        names[name] += "_"
        return names


def _written(number: int) -> str:
    digits = _DIGITS[number % len(_DIGITS)]
    while number := number // len(_DIGITS):
        digits = _DIGITS[number % len(_DIGITS)] + digits
    return digits


def _outputs(graph: Graph) -> Iterator[str]:
    return (name for node in graph.nodes for name in node.output if name)


def _belongings(graph: Graph, home: Callable[[NDArray[Any]], str]) -> dict[str, Key]:
    """What each value that a node gives belongs to.

    What is computed from data belongs to the layer that it has come through last. What is computed from tensors alone belongs to
    the first of them, or to the layer that alone reads it, where many layers' weights are rebuilt together and taken apart.
    """
    sources = _sources(graph, home)
    constant = set(graph.tensors)
    found: dict[str, Key] = {}
    for node in graph.nodes:
        inputs = [name for name in node.input if name]
        if all(name in constant for name in inputs):
            constant.update(node.output)
            continue
        weights = [sources[name] for name in inputs if name in constant and name in sources]
        begins = weights[0] if node.op_type in LAYERS and weights else None
        goes_on = next((found[name] for name in inputs if name in found), _START)
        found |= {name: goes_on if begins is None else begins for name in node.output if name}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.nodes:
        for name in node.input:
            readers[name].append(node)
    for node in reversed(graph.nodes):
        for name in node.output:
            if name in constant and len(sources.get(name, _START)) > 1:
                reading = {found.get(reader.output[0]) for reader in readers[name]}
                if len(reading) == 1 and (key_read := reading.pop()) is not None:
                    found[name] = key_read
    return {name: found[name] if name in found else sources.get(name, _START) for name in _outputs(graph)}


def _sources(graph: Graph, home: Callable[[NDArray[Any]], str]) -> Mapping[str, Key]:
    """For every value: the first tensor of a segment that it comes from, and which outputs of divisions led to it."""
    sources: dict[str, Key] = {name: (home(array),) for name, array in graph.tensors.items() if not is_inline(array)}
    constant = set(graph.tensors)
    for node in graph.nodes:
        inputs = [name for name in node.input if name]
        if not all(name in constant for name in inputs):
            continue
        constant.update(node.output)
        source = next((sources[name] for name in inputs if name in sources), None)
        if source is not None:
            for index, name in enumerate(node.output):
                sources[name] = (*source, index) if len(node.output) > 1 else source
    return sources
