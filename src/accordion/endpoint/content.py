"""Bytes on disk that can be sent: one file, or several one after the other, read in blocks of bounded size."""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from accordion.errors import StorageError

__all__ = ["BLOCK_BYTES", "Content"]

BLOCK_BYTES = 256 * 1024  # what one transfer holds in memory at a time; larger ones are not sent faster
_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)  # Linux: read what is in the page cache, never wait for the disk


@dataclass(frozen=True, slots=True)
class Content:
    """Files that make up one body. `etag` is strong, quotes included: the same tag is the same bytes."""

    paths: tuple[Path, ...]
    offsets: tuple[int, ...]  # where each file begins, and at last the size of all
    etag: str

    @classmethod
    def of(cls, files: Sequence[tuple[Path, int]], etag: str) -> Content:
        """The content of these files, given with their sizes in bytes."""
        offsets = tuple(accumulate((size for _, size in files), initial=0))
        return cls(tuple(path for path, _ in files), offsets, f'"{etag}"')

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.offsets[-1]

    @property
    def file(self) -> Path | None:
        """Where the bytes lie, if they are one file."""
        return self.paths[0] if len(self.paths) == 1 else None

    async def blocks(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` to `end`, both inclusive, in blocks of at most `BLOCK_BYTES`.

        What is in the page cache is read at once; what has to come from the disk, in a thread, so that others are served meanwhile.

        Raises:
            StorageError: a file is missing, or shorter than promised.
        """
        reader = _Reader(self)
        waiting: asyncio.Future[bytes] | None = None
        try:
            position = start
            while position <= end:
                count = min(BLOCK_BYTES, end + 1 - position)
                try:
                    block = reader.read(position, count, wait=False)
                except BlockingIOError:
                    waiting = asyncio.ensure_future(asyncio.to_thread(reader.read, position, count, wait=True))
                    block = await asyncio.shield(waiting)
                yield block
                position += len(block)
        finally:
            if waiting is None or waiting.done():
                reader.close()
            else:  # cancelled while a thread reads: the file is closed when the thread is done with it
                waiting.add_done_callback(reader.abandon)


class _Reader:
    """Reads blocks across the files' borders. It keeps the file open that it is in: a deleted one is still sent to its end."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._index = -1
        self._handle = -1

    def read(self, position: int, count: int, *, wait: bool) -> bytes:
        """Exactly `count` bytes from `position` on. BlockingIOError if they have to be waited for and `wait` is false."""
        if not wait and _NOWAIT is None:
            raise BlockingIOError
        offsets = self._content.offsets
        block = bytearray(count)
        view, done = memoryview(block), 0
        try:
            while done < count:
                index = bisect_right(offsets, position + done) - 1
                self._open(index)
                within = position + done - offsets[index]
                piece = view[done : done + min(count - done, offsets[index + 1] - offsets[index] - within)]
                done += self._read_into(piece, within, wait=wait)
        except BlockingIOError:
            raise
        except OSError as error:
            raise StorageError(f"can't read a blob: {error.strerror or error}") from error
        return bytes(block)

    def close(self) -> None:
        """Closes what is open."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = self._index = -1

    def abandon(self, done: asyncio.Future[bytes]) -> None:
        """Closes what is open once a read that nobody waits for has ended, however it did."""
        if not done.cancelled():
            done.exception()
        self.close()

    def _open(self, index: int) -> None:
        if index != self._index:
            self.close()
            self._handle = os.open(self._content.paths[index], os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            self._index = index

    def _read_into(self, piece: memoryview, within: int, *, wait: bool) -> int:
        try:
            count = os.preadv(self._handle, [piece], within, 0 if wait or _NOWAIT is None else _NOWAIT)
        except OSError as error:
            # A file system that knows no RWF_NOWAIT says so; then a thread has to wait.
            if not wait and not isinstance(error, BlockingIOError):
                raise BlockingIOError from error
            raise
        if count == 0 and len(piece):
            if not wait:
                raise BlockingIOError
            raise StorageError(f"the blob {self._content.paths[self._index].name} is shorter than its manifest says")
        return count
