"""Replies to blobs that were asked for of late, and the bytes of small ones.

Opening a small file costs a server more than sending it: of 200 kB, granian sends from memory half as many again a second as from a
file. What is kept is bounded, and used only while the file on the disk is the very one that was read.
"""

from __future__ import annotations

from collections import OrderedDict

from accordion.endpoint.content import BLOCK_BYTES
from accordion.endpoint.replies import ContentReply
from accordion.endpoint.served import Body
from accordion.errors import StorageError

__all__ = ["RecentReplies"]

MOST_BYTES = 32 * 2**20  # of all files kept, in each worker
MOST_REPLIES = 4096


class RecentReplies:
    """By the name of the package, the digest of the blob and who may keep it; who has not been asked for the longest goes first."""

    def __init__(
        self, media_type: str, *, most_ranges: int, keep: bool = True, most_bytes: int = MOST_BYTES, most: int = MOST_REPLIES
    ) -> None:
        """`keep`: whether bytes of small files are kept; without it nothing is read before it is sent."""
        self._media_type, self._most_ranges = media_type, most_ranges
        self._keep, self._most_bytes, self._most = keep, most_bytes, most
        self._replies: OrderedDict[tuple[str, ...], ContentReply] = OrderedDict()
        self.bytes = 0

    async def reply(self, key: tuple[str, ...], content: Body, headers: dict[str, str]) -> ContentReply:
        """The reply with this content, with the headers with which it was first made: on what they depend stands in the key."""
        found = self._replies.get(key)
        if found is not None and found.content is content:
            self._replies.move_to_end(key)
            return found
        whole = await self._read(content)
        made = ContentReply(content, self._media_type, headers, most_ranges=self._most_ranges, whole=whole)
        self._drop(key)
        self._replies[key] = made
        self.bytes += len(whole or b"")
        while self.bytes > self._most_bytes or len(self._replies) > self._most:
            self._drop(next(iter(self._replies)))
        return made

    async def _read(self, content: Body) -> bytes | None:
        """The bytes, if they are those of a small file; None also where the disk fails, which the reply will say in its turn."""
        if not self._keep or content.file is None or content.size > BLOCK_BYTES:
            return None
        try:
            return b"".join([block async for block in content.blocks(0, content.size - 1)])
        except StorageError:
            return None

    def _drop(self, key: tuple[str, ...]) -> None:
        if (gone := self._replies.pop(key, None)) is not None:
            self.bytes -= len(gone.whole or b"")
