from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accordion.endpoint import content as module
from accordion.endpoint.content import BLOCK_BYTES, Content
from accordion.errors import StorageError


def made(folder: Path, pieces: list[bytes]) -> Content:
    files = []
    for index, data in enumerate(pieces):
        path = folder / f"{index}"
        path.write_bytes(data)
        files.append((path, len(data)))
    return Content.of(files, "tag")


async def read(content: Content, start: int, end: int) -> bytes:
    blocks = [block async for block in content.blocks(start, end)]
    assert all(0 < len(block) <= BLOCK_BYTES for block in blocks)
    return b"".join(blocks)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(pieces=st.lists(st.binary(max_size=20), min_size=1, max_size=6), data=st.data())
def test_any_part_of_any_files(tmp_path: Path, pieces: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pieces)
    content = made(tmp_path, pieces)
    assert content.size == len(whole)
    if whole:
        start = data.draw(st.integers(0, len(whole) - 1))
        end = data.draw(st.integers(start, len(whole) - 1))
        assert asyncio.run(read(content, start, end)) == whole[start : end + 1]


async def test_large_files_come_in_blocks(tmp_path: Path) -> None:
    whole = os.urandom(BLOCK_BYTES * 3 + 17)
    content = made(tmp_path, [whole[:100], whole[100:]])
    assert await read(content, 0, len(whole) - 1) == whole


async def test_a_system_without_page_cache_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NOWAIT", None)
    assert await read(made(tmp_path, [b"abc", b"def"]), 1, 4) == b"bcde"


async def test_a_file_system_that_cannot_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.preadv

    def refusing(handle: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(95, "Operation not supported")
        return plain(handle, buffers, offset)

    monkeypatch.setattr(os, "preadv", refusing)
    monkeypatch.setattr(module, "_NOWAIT", 8)
    assert await read(made(tmp_path, [b"abc", b"def"]), 1, 4) == b"bcde"


async def test_a_file_that_shrank_or_went(tmp_path: Path) -> None:
    content = made(tmp_path, [b"abc", b"def"])
    (tmp_path / "1").write_bytes(b"d")
    with pytest.raises(StorageError, match="shorter"):
        await read(content, 0, 5)
    (tmp_path / "1").unlink()
    with pytest.raises(StorageError):
        await read(content, 0, 5)


def open_files() -> int:
    handles = Path("/proc/self/fd")
    return sum(1 for _ in handles.iterdir()) if handles.is_dir() else 0


async def test_files_are_closed_when_the_reader_gives_up(tmp_path: Path) -> None:
    content = made(tmp_path, [bytes(BLOCK_BYTES * 2)])
    before = open_files()
    blocks = content.blocks(0, content.size - 1)
    await anext(blocks)
    await blocks.aclose()  # type: ignore[attr-defined]
    assert open_files() == before
