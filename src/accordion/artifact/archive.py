"""tar+zstd layers: packed to the same bytes every time, unpacked within bounds.

Only plain files in the ustar form are read, with pax's extended headers where a common writer adds them (a path, a size, times):
no links, folders, devices or sparse files. What is left is simple enough to be checked completely while it streams, in bounded
memory.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import zstandard

from accordion.artifact.paths import check_path
from accordion.errors import FormatError

__all__ = ["UNPACKED_LIMIT", "compress", "decompress", "diff_id", "diff_id_of", "gzip_diff_id", "pack", "unpack", "unpacked_limit"]

LEVEL = 19  # packing happens once, sending often; stronger levels need windows beyond the 8 MiB that every decoder accepts
WINDOW_LIMIT = 2**27  # bytes of memory that a hostile stream can make the decompressor take
MOST_MEMBERS = 100_000
UNPACKED_LIMIT = 2**36  # bytes
UNPACKED_FLOOR = 64 * 2**20  # bytes that any archive may unpack to …
UNPACKED_RATIO = 200  # … and as a multiple of its own size
_BLOCK = 512  # bytes, tar's unit
_EXTENDED_LIMIT = 4096  # bytes of one extended header: a path, a size and some times take a few hundred
_MOST_RECORDS = 32  # in it
_READ_OTHERWISE = ("GNU.sparse.", "linkpath", "hdrcharset")  # records after which a member is not what its header says
_HEADER = 18  # bytes, the most that the header of a zstd frame takes
_AT_ONCE = 32 * 2**20  # bytes that are made in one step, if the frame says that it has no more
_FEED = 1024  # bytes given to the decompressor at once: 4 can become a block of 128 KiB, so a step makes at most 32 MiB


def unpacked_limit(size: int) -> int:
    """To how many bytes an archive of `size` bytes may unpack: graphs reach 20 times theirs, a bomb thousands."""
    return max(UNPACKED_FLOOR, UNPACKED_RATIO * size)


def pack(files: Mapping[str, bytes]) -> bytes:
    """A zstd-compressed tar of `files` in the order given: regular files, no owner, no time. FormatError for a bad path."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(check_path(path))
            member.size = len(data)
            member.mode = 0o644
            try:
                archive.addfile(member, io.BytesIO(data))
            except ValueError as error:  # ustar holds more than 100 characters only if a slash divides them well
                raise FormatError(f"the path {path!r} is too long for an archive: shorten its parts") from error
    return compress(plain.getvalue())


def compress(data: bytes, *, level: int = LEVEL) -> bytes:
    """`data` as one zstd frame that knows its own size; the same bytes every time with one version of zstd."""
    return zstandard.ZstdCompressor(level=level, write_content_size=True).compress(data)


def decompress(data: bytes, *, limit: int, what: str) -> bytes:
    """The content of a zstd frame, of at most `limit` bytes; FormatError if broken, cut off, too much, or followed by more."""
    return b"".join(_pieces(io.BytesIO(data), limit, what))


def diff_id(data: bytes) -> str:
    """The digest of a zstd layer's bytes uncompressed. FormatError if they are corrupt."""
    return diff_id_of(io.BytesIO(data))


def diff_id_of(source: IO[bytes], *, limit: int = UNPACKED_LIMIT, what: str = "a zstd layer") -> str:
    """As `diff_id`, of a file."""
    made = hashlib.sha256()
    for piece in _pieces(source, limit, what):
        made.update(piece)
    return "sha256:" + made.hexdigest()


def gzip_diff_id(path: Path, *, limit: int) -> str:
    """The same of a gzip file: layers that only travel with a package may be such. FormatError as above."""
    made, total = hashlib.sha256(), 0
    try:
        with gzip.open(path) as stream:
            while piece := stream.read(2**20):
                made.update(piece)
                total += len(piece)
                if total > limit:
                    raise FormatError(f"a layer unpacks to more than {limit} bytes")
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(f"a layer is corrupt: {error}") from error
    return "sha256:" + made.hexdigest()


def unpack(source: IO[bytes], *, limit: int, what: str) -> Iterator[tuple[str, bytes]]:
    """The files of a tar+zstd layer, one after the other, of at most `limit` bytes together (with tar's own headers).

    FormatError for anything but regular files at safe paths that occur once, for corrupt data, and at the limit. Files come out
    before the end has been seen: have the layer's digest checked first, or throw them away when an error follows.
    """
    reader = _Reader(_pieces(source, limit, what), what)
    seen: set[str] = set()
    extended: dict[str, str] | None = None  # of the next member
    while any(header := reader.take(_BLOCK)):
        member = _header(header, what)
        if member.type == tarfile.XHDTYPE and extended is None and member.size <= _EXTENDED_LIMIT:
            extended = _records(reader.take(member.size), what)
            reader.take(-member.size % _BLOCK)
            continue
        path, size = _file(member, extended or {}, what)
        extended = None
        if path.lower() in seen or len(seen) >= MOST_MEMBERS:
            raise FormatError(f"{what}: {path!r} occurs twice, or there are too many members")
        if size > limit:
            raise FormatError(f"{what} unpacks to more than {limit} bytes")
        seen.add(path.lower())
        data = reader.take(size)
        reader.take(-size % _BLOCK)
        yield path, data
    if extended is not None:
        raise FormatError(f"{what} ends with an extended header")
    reader.finish()


def _header(header: bytes, what: str) -> tarfile.TarInfo:
    try:
        member = tarfile.TarInfo.frombuf(header, "ascii", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise FormatError(f"{what} is not a readable tar+zstd archive: {error}") from error
    if header[257:262] != b"ustar" or not 0 <= member.size < 2**62:
        raise FormatError(f"{what} is not a readable tar+zstd archive: a header is not of the ustar form")
    return member


def _file(member: tarfile.TarInfo, extended: Mapping[str, str], what: str) -> tuple[str, int]:
    """Path and size of a file."""
    size = extended.get("size", str(member.size))
    path = check_path(extended.get("path", member.name).removeprefix("./"), what)
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise FormatError(f"{what}: {path!r} is not a regular file")
    if not (size.isascii() and size.isdigit() and len(size) < 19):
        raise FormatError(f"{what}: {path!r} has a size that is no number")
    return path, int(size)


def _records(data: bytes, what: str) -> dict[str, str]:
    """What an extended header says, a record "LENGTH KEY=VALUE" a line."""
    found: dict[str, str] = {}
    start = 0
    while start < len(data):
        space = data.find(b" ", start, start + 9)
        length = data[start:space] if space > 0 else b""
        end = start + int(length) if length.isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or data[end - 1 : end] != b"\n" or len(found) >= _MOST_RECORDS:
            raise FormatError(f"{what} is not a readable tar+zstd archive: an extended header is broken")
        try:
            found[key.decode()] = value.decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"{what} is not a readable tar+zstd archive: an extended header is no UTF-8") from error
        start = end
    if odd := [key for key in found if key.startswith(_READ_OTHERWISE)]:
        raise FormatError(f"{what} is not a readable tar+zstd archive: it says {odd[0][:40]!r} of a member")
    return found


def _pieces(source: IO[bytes], limit: int, what: str) -> Iterator[bytes]:
    """The content of a zstd frame piece by piece, at most `limit` bytes in all, however little it took to make them."""
    ahead = source.read(_HEADER)
    if 0 < (size := _stated(ahead)) <= min(limit, _AT_ONCE):
        ahead += source.read(size + size // 256 + 64)  # what can't be compressed takes hardly more than it is
        more = source.read(1)
        if not more and (whole := _at_once(ahead, size)) is not None:
            yield whole
            return
        ahead += more
    yield from _in_pieces(io.BytesIO(ahead), source, limit, what)


def _stated(header: bytes) -> int:
    """The size that a zstd frame says it has, 0 if it says nothing or is none."""
    try:
        frame = zstandard.get_frame_parameters(header)
    except zstandard.ZstdError:
        return 0
    return int(frame.content_size) if frame.content_size != zstandard.CONTENTSIZE_UNKNOWN else 0


def _at_once(data: bytes, size: int) -> bytes | None:
    """The content of one whole frame of `size` bytes; None for anything else, which then is looked at piece by piece."""
    try:
        whole = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT).decompress(data, allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError):
        return None
    return whole if len(whole) == size else None


def _in_pieces(ahead: IO[bytes], source: IO[bytes], limit: int, what: str) -> Iterator[bytes]:
    """The same of any frame; `ahead` was read of `source` already."""
    decoder = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT).decompressobj()
    total = 0
    while not decoder.eof:
        fed = ahead.read(_FEED) or source.read(_FEED)
        if not fed:
            raise FormatError(f"{what} is cut off: its zstd frame does not end")
        try:
            piece = decoder.decompress(fed)
        except (zstandard.ZstdError, MemoryError) as error:
            raise FormatError(f"{what} is corrupt: {error}") from error
        total += len(piece)
        if total > limit:
            raise FormatError(f"{what} unpacks to more than {limit} bytes")
        if piece:
            yield piece
    if decoder.unused_data or ahead.read(1) or source.read(1):
        raise FormatError(f"{what} goes on after the end of its zstd frame")


class _Reader:
    """Exact numbers of bytes out of pieces of any size."""

    def __init__(self, pieces: Iterator[bytes], what: str) -> None:
        self._pieces, self._what = pieces, what
        self._buffer = bytearray()

    def take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            piece = next(self._pieces, None)
            if piece is None:
                raise FormatError(f"{self._what} is cut off: its tar does not end")
            self._buffer += piece
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def finish(self) -> None:
        """After the first empty block: a second one, and nothing but zeros behind."""
        if any(self.take(_BLOCK)) or any(self._buffer) or any(any(piece) for piece in self._pieces):
            raise FormatError(f"{self._what} goes on after the end of its tar")
