"""Float and integer kernels of one configuration, timed in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accordion.packaging.parts import Part
from accordion.profiling import INPUT_NAME, measure_in_turns

__all__ = ["time_both_kernels"]


def time_both_kernels(
    parts: Sequence[Part],
    rows: Sequence[dict[str, Any]],
    picture: NDArray[np.float32],
    progress: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """The ladder's `rows` with `latency_s` of each configuration and of its alternative, for one picture [1, …]."""
    timed = []
    with tempfile.TemporaryDirectory(prefix="accordion-timing-") as name:
        folder = Path(name)
        for part, row in zip(parts, rows, strict=True):
            files = {part.graph_path: part.graph, **part.alternatives}
            if part.segment is not None:
                files[part.segment_path] = part.segment
            for path, data in files.items():
                (folder / path).write_bytes(data)
            (alternative,) = row["alternatives"]
            found = measure_in_turns([folder / part.graph_path, folder / alternative["graph"]], {INPUT_NAME: picture})
            ratio = found[1].median / found[0].median
            progress(
                f"configuration {row['index']} of {len(rows) - 1}: {found[0].median * 1e3:.2f} ms, "
                f"with integer kernels {found[1].median * 1e3:.2f} ms ({ratio:.2f} of it)"
            )
            both = {**alternative, "latency_s": found[1].to_json()}
            timed.append({**row, "latency_s": found[0].to_json(), "alternatives": [both]})
    return timed
