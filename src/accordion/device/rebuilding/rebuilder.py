"""From a delivered graph to one without the nodes that made its weights, and these weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accordion.artifact.external import from_root
from accordion.device.rebuilding.files import Files
from accordion.device.rebuilding.making import Making
from accordion.device.rebuilding.pieces import Array
from accordion.device.rebuilding.plan import EXTERNAL, KINDS, Plan

__all__ = ["KEPT_BYTES", "Rebuilder", "Rebuilt"]

KEPT_BYTES = 64 * 2**20  # of rebuilt weights that wait for the next configuration; larger networks are rebuilt whole each time
PLACE = "rebuilt"  # the file in which the lean graph says that they lie; there is none, since they are handed over in memory
_NUMBERS = {kind: number for number, kind in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`graph`: an ONNX model without the nodes that made weights, which are in `values` by name. Where it says that what it still
    reads lies counts from the model folder, wherever in it the delivered graph is.
    """

    graph: bytes
    values: Mapping[str, Array]


class Rebuilder:
    """For the configurations of one version in `folder`, one after the other. Not safe for several threads at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids: dict[tuple[Any, ...], int] = {}
        self._kept: dict[int, Array] = {}

    def rebuild(self, graph: bytes, path: str = "") -> Rebuilt | None:
        """The weights that `graph`, at `path` and checked by `accordion.artifact.graph`, makes of its files; None if it makes none.

        StorageError when a file can't be read, FormatError when one ends early.
        """
        import onnx

        model = onnx.load_model_from_string(graph)
        from_root(model, path)
        body = model.graph
        plan = Plan(self._ids)
        given = {value.name for value in body.input}  # a tensor among them is only what counts where nobody gives another
        for tensor in body.initializer:
            if tensor.name not in given:
                plan.constant(tensor)
        taken = [plan.take(node) for node in body.node]
        if not any(taken):
            return None
        _delete(body.node, taken)
        read = given | {name for node in body.node for name in node.input} | {value.name for value in body.output}
        made = {name: plan.done(stack) for name, stack in plan.made.items() if name in read}
        with Files(self._folder) as files:
            making = Making(self._kept, files)
            values = making.all(made)
        kept = making.roots(made)
        self._kept = kept if sum(array.nbytes for array in kept.values()) <= KEPT_BYTES else {}
        _delete(body.initializer, [tensor.name not in read for tensor in body.initializer])
        place = [onnx.StringStringEntryProto(key="location", value=PLACE)]
        for name, array in values.items():
            body.initializer.add(
                name=name, dims=array.shape, data_type=_NUMBERS[array.dtype], data_location=EXTERNAL, external_data=place
            )
        return Rebuilt(model.SerializeToString(), values)


def _delete(rows: Any, chosen: Sequence[bool]) -> None:
    """Takes the chosen ones out of a repeated field, each run of them at once."""
    end = len(chosen)
    while end > 0:
        begin = end
        while begin > 0 and chosen[begin - 1] == chosen[end - 1]:
            begin -= 1
        if chosen[end - 1]:
            del rows[begin:end]
        end = begin
