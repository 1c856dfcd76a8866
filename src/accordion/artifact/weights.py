"""The segment files of a configuration: where they lie, what is in them, and what was already checked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from accordion.artifact.finite import FLOATS, check_finite
from accordion.artifact.remembered import Remembered
from accordion.artifact.segment import TensorInfo, parse_header, read_header
from accordion.errors import DigestError, StorageError

__all__ = ["SegmentFile", "Weights", "check_segment", "check_segment_bytes", "finite_of"]

PIECE = 2**20  # bytes held at once


def check_segment(stream: BinaryIO, size: int, what: str) -> dict[str, TensorInfo]:
    """The header of a segment of `size` bytes, all of it checked. FormatError for a malformed one, NaN or infinity."""
    tensors = read_header(stream, size, what)
    for name, info in tensors.items():
        if info.dtype in FLOATS:
            check_finite(_pieces(stream, info.start, info.end - info.start), info.dtype, f"{what}: tensor {name[:80]!r}")
    return tensors


def check_segment_bytes(data: bytes, what: str) -> dict[str, TensorInfo]:
    """As `check_segment`, of bytes that are there."""
    tensors = parse_header(data, len(data), what)
    for name, info in tensors.items():
        if info.dtype in FLOATS:
            check_finite([data[info.start : info.end]], info.dtype, f"{what}: tensor {name[:80]!r}")
    return tensors


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One file: its size in bytes, and `open_bytes(start, length)`, which reads of it piece by piece."""

    size: int
    open_bytes: Callable[[int, int], Iterator[bytes]]
    floats: frozenset[tuple[int, int, str]] = frozenset()  # (start, end, type) of tensors that are known to be finite

    @classmethod
    def at(cls, path: Path, tensors: Mapping[str, TensorInfo] | None = None) -> SegmentFile:
        """A file on disk; `tensors` if `check_segment` has seen it. DigestError if it is gone, StorageError if it can't be read."""

        def read(start: int, length: int) -> Iterator[bytes]:
            try:
                with path.open("rb") as stream:
                    yield from _pieces(stream, start, length)
            except OSError as error:
                raise StorageError(f"can't read {path}: {error.strerror or error}") from error

        try:
            return cls(path.stat().st_size, read, finite_of(tensors))
        except FileNotFoundError as error:
            raise DigestError(f"{path} is missing") from error
        except OSError as error:
            raise StorageError(f"can't read {path}: {error.strerror or error}") from error

    @classmethod
    def of(cls, data: bytes, tensors: Mapping[str, TensorInfo] | None = None) -> SegmentFile:
        """A file that is still in memory."""
        return cls(len(data), lambda start, length: iter([data[start : start + length]]), finite_of(tensors))


def finite_of(tensors: Mapping[str, TensorInfo] | None) -> frozenset[tuple[int, int, str]]:
    """The floats among the tensors of a checked segment, as `SegmentFile` keeps them."""
    return frozenset((t.start, t.end, t.dtype) for t in (tensors or {}).values() if t.dtype in FLOATS)


@dataclass(slots=True)
class Weights:
    """Segment files by path, and a memory that several graphs over the same files share."""

    files: dict[str, SegmentFile] = field(default_factory=dict)
    checked: set[object] = field(default_factory=set)
    remembered: Remembered = field(default_factory=Remembered)

    @property
    def sizes(self) -> dict[str, int]:
        """Path → size in bytes."""
        return {path: file.size for path, file in self.files.items()}

    def check_finite(self, path: str, start: int, length: int, kind: str, what: str) -> None:
        """FormatError unless these bytes, read as floats of the safetensors type `kind`, are finite. Each place is read once."""
        key = (path, start, length, kind)
        if kind in FLOATS and (start, start + length, kind) not in self.files[path].floats and key not in self.checked:
            check_finite(self.files[path].open_bytes(start, length), kind, what)
            self.checked.add(key)

    def read(self, path: str, start: int, length: int) -> bytes:
        """These bytes."""
        return b"".join(self.files[path].open_bytes(start, length))


def _pieces(stream: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    stream.seek(start)
    while length > 0:
        piece = stream.read(min(PIECE, length))
        if not piece:
            return
        length -= len(piece)
        yield piece
