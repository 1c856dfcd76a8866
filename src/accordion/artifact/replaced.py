"""What lies in a prefix and is read by none of its graphs: values that the segments of larger configurations have replaced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from accordion.artifact.segment import parse_header

__all__ = ["unread_bytes"]

Places = Mapping[str, list[tuple[int, int]]]


def unread_bytes(segments: Mapping[str, bytes], graphs: Mapping[str, bytes]) -> dict[str, int]:
    """For each segment, by its path, the bytes of its tensors that none of the graphs reads; graphs by their paths too."""
    read = _read_places(graphs)
    found = {}
    for path, data in segments.items():
        tensors = [(info.start, info.end) for info in parse_header(data, len(data), path).values()]
        places = read.get(path, [])
        found[path] = sum(end - start for start, end in tensors if not any(a < end and start < b for a, b in places))
    return found


def _read_places(graphs: Mapping[str, bytes]) -> Places:
    import onnx

    found: dict[str, list[tuple[int, int]]] = {}
    for name, data in graphs.items():
        for tensor in onnx.load_from_string(data).graph.initializer:
            where = {entry.key: entry.value for entry in tensor.external_data}
            if where:
                start = int(where.get("offset", 0))
                path = str(PurePosixPath(name).parent / where["location"])
                found.setdefault(path, []).append((start, start + int(where["length"])))
    return found
