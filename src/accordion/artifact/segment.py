"""Segments: safetensors files, written to the same bytes every time, and checked down to the last offset."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeGuard

import numpy as np
from numpy.typing import NDArray

from accordion.artifact.strict_json import dump, parse_object
from accordion.errors import FormatError

__all__ = ["DTYPES", "TensorInfo", "encode_segment", "parse_header", "read_header"]

HEADER_LIMIT = 16 * 2**20  # bytes; 100,000 tensors fit; the safetensors library itself allows 100 MB
ALIGNMENT = 8  # of the data's beginning, by padding the header with spaces, as the safetensors library does

# safetensors name → (bits an element, numpy type if there is one)
DTYPES: Mapping[str, tuple[int, str | None]] = {
    "BOOL": (8, "?"),
    "U8": (8, "u1"),
    "I8": (8, "i1"),
    "F8_E5M2": (8, None),
    "F8_E4M3": (8, None),
    "U16": (16, "<u2"),
    "I16": (16, "<i2"),
    "F16": (16, "<f2"),
    "BF16": (16, None),
    "U32": (32, "<u4"),
    "I32": (32, "<i4"),
    "F32": (32, "<f4"),
    "U64": (64, "<u8"),
    "I64": (64, "<i8"),
    "F64": (64, "<f8"),
}
_BY_NUMPY = {np.dtype(kind).newbyteorder("=").name: name for name, (_, kind) in DTYPES.items() if kind}
_BY_NUMPY |= {"bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}  # as the package ml_dtypes calls them


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies: `start` and `end` are offsets in the file, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def encode_segment(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """A safetensors file with these tensors in the order given. FormatError for a type that safetensors lacks."""
    header: dict[str, Any] = {}
    parts = []
    position = 0
    for name, array in tensors.items():
        kind = _BY_NUMPY.get(array.dtype.name)
        if kind is None:
            raise FormatError(f"tensor {name!r} has the type {array.dtype}, which safetensors lacks")
        data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [position, position + len(data)]}
        position += len(data)
        parts.append(data)
    text = dump(header)
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def read_header(stream: BinaryIO, file_size: int, what: str) -> dict[str, TensorInfo]:
    """Reads and checks the header at the beginning of a file of `file_size` bytes; see `parse_header`."""
    prefix = stream.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > HEADER_LIMIT or length > file_size - 8:
        raise FormatError(f"{what} is not a safetensors file: its header would have {length} bytes of the file's {file_size}")
    return parse_header(prefix + stream.read(length), file_size, what)


def parse_header(data: bytes, file_size: int, what: str) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file of `file_size` bytes that begins with `data`.

    FormatError unless every tensor's type is known, its length is what type and shape say, and all tensors together cover the
    file without overlap or hole.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > HEADER_LIMIT or 8 + length > file_size or len(data) < 8 + length:
        raise FormatError(f"{what} is not a safetensors file, or is cut off in its header")
    if data[8:9] != b"{":
        raise FormatError(f"{what} is not a safetensors file: its header does not begin with a brace")
    header = parse_object(data[8 : 8 + length], f"{what}: the header", HEADER_LIMIT)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"{what}: the header's metadata are not texts")
    base = 8 + length
    tensors: dict[str, TensorInfo] = {}
    for name, entry in header.items():
        where = f"{what}: tensor {name[:80]!r}"
        if not isinstance(entry, dict):
            raise FormatError(f"{where} is not described by an object")
        if set(entry) != {"dtype", "shape", "data_offsets"}:
            raise FormatError(f"{where} is not described by dtype, shape and data_offsets alone")
        kind, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
        if not isinstance(kind, str) or kind not in DTYPES:
            raise FormatError(f"{where} has the unknown type {str(kind)[:40]!r}")
        if not _sizes(shape) or len(shape) > 32 or not _sizes(offsets) or len(offsets) != 2:
            raise FormatError(f"{where} has a malformed shape or malformed offsets")
        bits = math.prod(shape) * DTYPES[kind][0]
        start, end = offsets
        if (end - start) * 8 != bits:
            raise FormatError(f"{where} has {end - start} bytes, {kind} {shape} needs {bits // 8}")
        tensors[name] = TensorInfo(kind, tuple(shape), base + start, base + end)
    position = base
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != position:
            kind = "overlaps the one before" if info.start < position else "leaves a hole before it"
            raise FormatError(f"{what}: tensor {name[:80]!r} {kind}")
        position = info.end
    if position != file_size:
        raise FormatError(f"{what} has {file_size} bytes, its tensors end at {position}")
    return tensors


def _sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**62 for n in value)
