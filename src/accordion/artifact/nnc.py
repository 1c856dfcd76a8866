"""The `nnc` encoding of alternates: a segment whose integer tensors went through DeepCABAC, the entropy coder of MPEG NNC.

Nothing is lost: what comes out is the segment, byte for byte. The coder is Fraunhofer HHI's (the package `nncodec`, ISO/IEC
15938-17), imported when something is encoded or decoded and not before. Of that standard only the coder is used: names, shapes and
types stand in the segment's own header, which has to come back as it was anyway.

    "ACNNC001"                8 bytes
    length of the head        4 bytes, little-endian, as all numbers here
    the head                  a zstd frame: the segment's header (with the 8 bytes of its length), then of each tensor in the order
                              of the file one byte, how it is coded, then the bytes of all tensors that are not
    for each piece            4 bytes of length, then what DeepCABAC made of it

A tensor is coded as whole bytes (1: each less 128) or as halves of bytes, the low one first (2: each less 8), or not (0). Each 2^20
numbers are a piece and begin anew, so that memory stays bounded whatever a tensor's size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accordion.artifact.archive import compress, decompress
from accordion.artifact.segment import HEADER_LIMIT, parse_header
from accordion.errors import FormatError

__all__ = ["ENCODING", "INSTALL", "decode", "encode"]

ENCODING = "nnc"
INSTALL = "pip install --no-deps nncodec==2.1.3"  # its own list of dependencies wants torch and a numpy before 2
MAGIC = b"ACNNC001"
PLAIN, BYTES, HALVES = 0, 1, 2
UNARY = {BYTES: 1, HALVES: 10}  # flags before the exponential part of a number: what was smallest on the zoo's packages
PIECE = 2**20  # numbers; even, so that no byte is divided
# What one number can make the decoder read: 43 decisions by context of at most 8 bits each and 31 plain bits are 47 bytes.
MOST_BYTES = 64
PIECE_FLOOR = 1024  # bytes; the parameters that stand before the first number take less
_INTEGERS = ("U8", "I8")

Ints = NDArray[np.int32]


def encode(segment: bytes) -> bytes:
    """A segment as an alternate. FormatError if it is none, ModuleNotFoundError without nncodec."""
    header = segment[: 8 + int.from_bytes(segment[:8], "little")]
    tensors = sorted(parse_header(segment, len(segment), "the segment").values(), key=lambda info: (info.start, info.end))
    ways, plain, coded = bytearray(), [], []
    for info in tensors:
        data = segment[info.start : info.end]
        best = [compress(data)]
        way = PLAIN
        for other in (BYTES, HALVES) if info.dtype in _INTEGERS and data else ():
            pieces = [_encode_piece(piece, UNARY[other]) for piece in _pieces(_numbers(data, other))]
            if sum(map(len, pieces)) + 4 * len(pieces) < sum(map(len, best)):
                best, way = pieces, other
        ways.append(way)
        if way == PLAIN:
            plain.append(data)
        else:
            coded += [len(piece).to_bytes(4, "little") + piece for piece in best]
    head = compress(header + bytes(ways) + b"".join(plain))
    return b"".join([MAGIC, len(head).to_bytes(4, "little"), head, *coded])


def decode(content: bytes, size: int) -> bytes:
    """The segment of `size` bytes out of an alternate.

    FormatError if it is none, or of a segment of another size. A sound form with wrong content gives wrong bytes: hold them against
    their digest. ModuleNotFoundError without nncodec.
    """
    what = "the alternate"
    if content[: len(MAGIC)] != MAGIC:
        raise FormatError(f"{what} does not begin as one of the encoding {ENCODING}")
    begin = len(MAGIC) + 4
    end = begin + int.from_bytes(content[len(MAGIC) : begin], "little")
    if len(content) < end:
        raise FormatError(f"{what} is cut off in its head")
    head = decompress(content[begin:end], limit=2 * size + 8, what=what)
    length = 8 + int.from_bytes(head[:8], "little")
    if length > HEADER_LIMIT or len(head) < length:
        raise FormatError(f"{what} is cut off in the segment's header")
    tensors = sorted(parse_header(head[:length], size, what).values(), key=lambda info: (info.start, info.end))
    ways, position = head[length : length + len(tensors)], length + len(tensors)
    if len(ways) < len(tensors):
        raise FormatError(f"{what} does not say how its tensors are coded")
    parts = [head[:length]]
    for info, way in zip(tensors, ways, strict=True):
        count = info.end - info.start
        if way == PLAIN:
            parts.append(head[position : position + count])
            position += count
        elif way in UNARY:
            data, end = _decode_tensor(content, end, count, way, what)
            parts.append(data)
        else:
            raise FormatError(f"{what} codes a tensor in the unknown way {way}")
    made = b"".join(parts)
    if len(made) != size or position != len(head) or end != len(content):
        raise FormatError(f"{what} is cut off, or goes on after its end")
    return made


def _decode_tensor(content: bytes, position: int, count: int, way: int, what: str) -> tuple[bytes, int]:
    """The bytes of a tensor of `count` bytes whose first piece begins at `position`, and where the last one ends."""
    left = count * (2 if way == HALVES else 1)
    made = bytearray()
    while left:
        begin = position + 4
        position = begin + int.from_bytes(content[position:begin], "little")
        if not begin < position <= len(content):
            raise FormatError(f"{what} is cut off in a piece")
        numbers = _decode_piece(content[begin:position], min(left, PIECE), UNARY[way])
        made += _to_bytes(numbers, way)
        left -= len(numbers)
    return bytes(made), position


def _numbers(data: bytes, way: int) -> Ints:
    values = np.frombuffer(data, np.uint8)
    if way == BYTES:
        return values.astype(np.int32) - 128
    return np.stack([values & 15, values >> 4], axis=-1).reshape(-1).astype(np.int32) - 8


def _to_bytes(numbers: Ints, way: int) -> bytes:
    if way == BYTES:
        return (numbers + 128).astype(np.uint8).tobytes()
    halves = (numbers + 8).astype(np.uint8).reshape(-1, 2) & 15
    return (halves[:, 0] | halves[:, 1] << 4).astype(np.uint8).tobytes()


def _pieces(numbers: Ints) -> list[Ints]:
    return [numbers[start : start + PIECE] for start in range(0, len(numbers), PIECE)]


def _encode_piece(numbers: Ints, unary: int) -> bytes:
    coder, off = _coder()
    encoder = coder.Encoder()
    encoder.initCtxModels(unary, 1)
    # One row, scanned as it lies; no dependent quantization, first edition's profile, no parent, no rows to skip, no codebook.
    encoder.encodeLayer(numbers.reshape(1, -1), 0, 0, 0, 0, 0, np.zeros(1, np.int32), *off, 0, 0)
    return bytes(encoder.finish().tobytes())


def _decode_piece(data: bytes, count: int, unary: int) -> Ints:
    coder, off = _coder()
    # The decoder reads on behind the end of what it is given; so there are zeros for as long as it can.
    stream = np.zeros(len(data) + MOST_BYTES * count + PIECE_FLOOR, np.uint8)
    stream[: len(data)] = np.frombuffer(data, np.uint8)
    numbers = np.zeros((1, count), np.int32)
    decoder = coder.Decoder()
    decoder.setStream(stream)
    decoder.initCtxModels(unary)
    decoder.decodeLayer(numbers, 0, 0, 0, 0, *off, 0, 0)
    return numbers.reshape(-1)


def _coder() -> tuple[Any, tuple[Any, ...]]:
    """The extension module alone: all else in nncodec imports torch."""
    from nncodec.extensions import deepCABAC

    return deepCABAC, (deepCABAC.HdspMode.AlwaysOff, np.zeros(2, np.int8))
