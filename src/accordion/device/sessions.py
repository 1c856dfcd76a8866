"""One configuration's graph becomes a session of ONNX Runtime, its weights made by us where we make the same bits faster."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from accordion.artifact.graph import GRAPH_LIMIT
from accordion.device.exchange import read_bounded
from accordion.device.rebuilding import Rebuilder
from accordion.device.yielding import lowered

if TYPE_CHECKING:  # it takes long to import: a transfer can begin meanwhile
    import onnxruntime

__all__ = ["make_session"]

FOLDER = "session.model_external_initializers_file_folder_path"  # where a graph that comes as bytes has its files


def make_session(
    folder: Path, graph: str, rebuilder: Rebuilder, threads: int, *, beside: bool = False
) -> onnxruntime.InferenceSession:
    """`graph`, checked, and what it reads lie in `folder`; `threads` for one inference, 0 for one a core.

    `beside` answers, it gives way to them.

    Raises:
        ContentError, StorageError: a file is not there, or is not as it was.
        Exception: ONNX Runtime's own, which share no base class, where it does not load the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    path = folder / graph
    rebuilt = rebuilder.rebuild(read_bounded(path, GRAPH_LIMIT), graph)
    source: str | bytes = str(path)
    if rebuilt is not None:
        source = rebuilt.graph
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in rebuilt.values.values()]
        options.add_external_initializers(list(rebuilt.values), values)  # of which the session makes copies
        options.add_session_config_entry(FOLDER, str(folder))
    make = partial(onnxruntime.InferenceSession, source, options, providers=["CPUExecutionProvider"])
    # A session with threads of its own would keep them at the lower priority. The weights were made above, at the caller's: that
    # holds the interpreter.
    return lowered(make) if beside and threads == 1 else make()
