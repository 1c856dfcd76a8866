from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from accordion.endpoint.content import BLOCK_BYTES, Content
from accordion.endpoint.limits import Limits
from accordion.endpoint.recent import RecentReplies


def content(folder: Path, name: str, data: bytes) -> Content:
    (folder / name).write_bytes(data)
    return Content.of([(folder / name, len(data))], name)


def made(**how: Any) -> RecentReplies:
    return RecentReplies("application/octet-stream", most_ranges=10, **how)


async def test_small_files_are_kept_and_large_ones_are_not(tmp_path: Path) -> None:
    recent = made()
    small, large = content(tmp_path, "small", b"x" * BLOCK_BYTES), content(tmp_path, "large", b"x" * (BLOCK_BYTES + 1))
    first = await recent.reply(("net", "small"), small, {})
    assert first.whole == b"x" * BLOCK_BYTES
    assert await recent.reply(("net", "small"), small, {}) is first
    assert (await recent.reply(("net", "large"), large, {})).whole is None
    assert recent.bytes == BLOCK_BYTES
    assert (await made(keep=False).reply(("net", "small"), small, {})).whole is None


async def test_memory_is_bounded_and_the_oldest_goes(tmp_path: Path) -> None:
    recent = made(most_bytes=300, most=5)
    pieces = [content(tmp_path, f"{index}", bytes(100)) for index in range(10)]
    replies = [await recent.reply(("net", f"{index}"), piece, {}) for index, piece in enumerate(pieces[:3])]
    assert await recent.reply(("net", "0"), pieces[0], {}) is replies[0]
    await recent.reply(("net", "3"), pieces[3], {})
    assert recent.bytes == 300
    assert await recent.reply(("net", "0"), pieces[0], {}) is replies[0]
    assert await recent.reply(("net", "1"), pieces[1], {}) is not replies[1]
    for index in range(10):
        await recent.reply(("empty", f"{index}"), content(tmp_path, f"e{index}", b""), {})
    assert recent.bytes == 0  # five replies without a byte are all that is left


async def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    recent = made()
    await recent.reply(("net", "a"), content(tmp_path, "a", b"old"), {})
    assert (await recent.reply(("net", "a"), content(tmp_path, "a", b"newer"), {})).whole == b"newer"
    assert recent.bytes == 5


async def test_a_file_that_has_gone_is_for_the_reply_to_notice(tmp_path: Path) -> None:
    gone = content(tmp_path, "gone", b"x")
    (tmp_path / "gone").unlink()
    assert (await made().reply(("net", "gone"), gone, {})).whole is None


async def test_what_is_kept_is_what_lies_on_the_disk(client: httpx.AsyncClient, package: Any) -> None:
    layer = package.manifest.layers[1]
    path, url = package.path / "blobs" / "sha256" / layer.digest.removeprefix("sha256:"), f"/v2/team/net/blobs/{layer.digest}"
    data = path.read_bytes()
    assert [(await client.get(url)).content for _ in range(2)] == [data, data]
    other = bytes(len(data))
    path.write_bytes(other)  # nobody should, but then the endpoint does not show what was there before
    os.utime(path, ns=(1, 1))
    assert (await client.get(url)).content == other
    path.unlink()
    assert (await client.get(url)).status_code == 503  # a version that is served names it
    path.symlink_to(package.path / "oci-layout")
    assert (await client.get(url)).status_code in (404, 503)  # the package may have been looked at again meanwhile


@pytest.mark.parametrize("asked", ["bytes=0-0", "bytes=5-", "bytes=-7", "bytes=0-1,10-20,900-", "bytes=2000-", "bytes=0-,1-"])
async def test_parts_of_what_is_kept_are_those_of_the_file(
    build: Callable[..., Any], connect: Callable[..., httpx.AsyncClient], tmp_path: Path, asked: str
) -> None:
    """With a limit for each client nothing is kept, so there the file itself is read."""
    built = build(tmp_path / "net")
    url = f"/v2/net/blobs/{built.manifest.layers[1].digest}"
    async with connect(tmp_path / "net") as kept, connect(tmp_path / "net", limits=Limits(client_transfers=5)) as read:
        one, other = [await each.get(url, headers={"Range": asked}) for each in (kept, read)]
    assert one.status_code == other.status_code
    mark, mark_ = (reply.headers.get("content-type", "").partition("boundary=")[2] for reply in (one, other))
    assert one.content.replace(mark.encode(), b"") == other.content.replace(mark_.encode(), b"")
    assert one.headers.get("content-range") == other.headers.get("content-range")
    assert one.headers["content-length"] == other.headers["content-length"]
