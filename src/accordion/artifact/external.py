"""Where a graph says that its weights lie. ONNX counts from the folder that the graph is in, a package from its own root."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["from_root"]


def from_root(model: onnx.ModelProto, path: str) -> None:
    """Makes the locations in `model`, the graph at `path`, paths of the package. Whether they are good ones is not asked here."""
    if not (folder := posixpath.dirname(path)):
        return
    for tensor in model.graph.initializer:
        for row in tensor.external_data:
            if row.key == "location":
                row.value = posixpath.join(folder, row.value)
