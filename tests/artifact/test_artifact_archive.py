"""Archives from strangers: everything but plain files at safe paths is refused, within bounds of memory."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from accordion.artifact import archive
from accordion.artifact.archive import compress, decompress, diff_id, diff_id_of, pack, unpack
from accordion.errors import FormatError

LIMIT = 2**20
FILES = {"000.onnx": b"graph", "deep/er/001.onnx": bytes(1000), "empty": b""}


def read(data: bytes, limit: int = LIMIT) -> dict[str, bytes]:
    return dict(unpack(io.BytesIO(data), limit=limit, what="the archive"))


def plain_tar(*members: tarfile.TarInfo, kind: int = tarfile.USTAR_FORMAT, data: bytes = b"") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=kind) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


def member(path: str, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(path)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_what_is_packed_comes_out_and_is_the_same_each_time() -> None:
    assert read(pack(FILES)) == FILES
    assert list(read(pack(FILES))) == list(FILES)
    assert pack(FILES) == pack(dict(FILES))


def test_a_stock_reader_reads_it() -> None:
    with tarfile.open(fileobj=io.BytesIO(zstandard.ZstdDecompressor().decompress(pack(FILES)))) as archive:
        members = archive.getmembers()
    assert [(one.name, one.size, one.mode, one.uid, one.mtime, one.uname) for one in members] == [
        (path, len(data), 0o644, 0, 0, "") for path, data in FILES.items()
    ]


def test_an_empty_archive_holds_nothing() -> None:
    assert read(pack({})) == {}


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "", "state.json", "x" * 201, "x" * 150])
def test_a_bad_path_is_not_packed(path: str) -> None:
    with pytest.raises(FormatError):
        pack({path: b""})


def test_a_long_path_is_packed_where_a_slash_divides_it() -> None:
    files = {"a" * 90 + "/" + "b" * 90: b"x"}
    assert read(pack(files)) == files


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE,
        tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE, b"Z",
    ],
)  # fmt: skip
def test_what_is_no_plain_file_is_refused(kind: bytes) -> None:
    with pytest.raises(FormatError, match="not a regular file"):
        read(compress(plain_tar(member("name", type=kind, linkname="/etc/passwd"))))


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/x", "././x", ".hidden", "a/.b", "con", "state.json", "manifest.json/x", "a\\b"]
)
def test_an_unsafe_path_is_refused(path: str) -> None:
    with pytest.raises(FormatError, match=r"plain relative path|reserved"):
        read(compress(plain_tar(member(path))))


def test_a_path_with_a_slash_at_its_end_is_a_folder_and_refused() -> None:
    header = bytearray(plain_tar(member("folder", type=tarfile.AREGTYPE)))
    header[6:7] = b"/"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    with pytest.raises(FormatError):
        read(compress(bytes(header)))


def test_long_names_in_gnus_way_are_refused() -> None:
    with pytest.raises(FormatError):
        read(compress(plain_tar(member("n" * 150), kind=tarfile.GNU_FORMAT)))


def record(key: str, value: str) -> bytes:
    """One line of an extended header, which begins with its own length."""
    rest = len(f" {key}={value}\n")
    length = next(n for n in range(rest, rest + 9) if n == rest + len(str(n)))
    return f"{length} {key}={value}\n".encode()


def extended(*records: bytes, path: str = "a", data: bytes = b"x") -> bytes:
    """A tar with an extended header of these records before its one file."""
    said = b"".join(records)
    header = plain_tar(member("x", type=tarfile.XHDTYPE, size=len(said)), data=said)
    return header[: 512 + 512 * -(-len(said) // 512)] + plain_tar(member(path, size=len(data)), data=data)


def test_what_stock_writers_add_is_read(tmp_path: Path) -> None:
    """Python's own writer, left to itself: times in fractions, long paths, paths from a dot on."""
    long = "deep/" + "n" * 150
    for path, data in {**FILES, long: b"long"}.items():
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_bytes(data)
        os.utime(tmp_path / path, (1.5, 1.5))
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for path in (*FILES, long):
            archive.add(tmp_path / path, arcname=f"./{path}")
    assert b"mtime=1.5" in made.getvalue() and b"./deep" in made.getvalue()
    assert read(compress(made.getvalue())) == {**FILES, long: b"long"}


def test_an_extended_header_says_path_and_size_of_one_file() -> None:
    assert read(compress(extended(record("path", "b/c")))) == {"b/c": b"x"}
    assert read(compress(extended(record("size", "1")))) == {"a": b"x"}
    two = extended(record("path", "b/c"))[:2048] + plain_tar(member("second"))
    assert list(read(compress(two))) == ["b/c", "second"]


@pytest.mark.parametrize(
    "records",
    [
        record("path", "../x"), b"11 path=b/c\n", b"13 path=b/c\n", b"path=b/c\n", b"99999999999 a=b\n", b"-1 a=b\n", b"6 a_b\n",
        b"0 \n", record("size", "1e1"), record("size", " 1"), record("size", "-"), record("size", "1" * 20), record("linkpath", "b"),
        record("GNU.sparse.map", "0"), record("hdrcharset", "BINARY"), record("path", "b").replace(b"b", b"\xff"),
    ],
)  # fmt: skip
def test_an_extended_header_that_is_broken_or_says_more_is_refused(records: bytes) -> None:
    with pytest.raises(FormatError, match=r"extended header|plain relative path|size that is no number|of a member"):
        read(compress(extended(records)))


def test_extended_headers_are_bounded_and_belong_to_a_file() -> None:
    twice = extended(record("path", "b/c"))[:1024] + extended(record("path", "b/c"))
    for data, problem in (
        (twice, "not a regular file"),
        (extended(record("comment", "x" * 5000)), "not a regular file"),
        (extended(*[record(f"k{i}", "v") for i in range(40)]), "extended header is broken"),
        (extended(record("path", "b/c"))[:1024] + bytes(1024), "ends with an extended header"),
        (plain_tar(member("x", type=tarfile.XHDTYPE)), "ends with an extended header"),
    ):
        with pytest.raises(FormatError, match=problem):
            read(compress(data))


@pytest.mark.parametrize("second", ["a.onnx", "A.ONNX"])
def test_a_path_that_occurs_twice_is_refused(second: str) -> None:
    with pytest.raises(FormatError, match="occurs twice"):
        read(compress(plain_tar(member("a.onnx"), member(second))))


@pytest.mark.parametrize("cut", [1, 4, 100, 511, 512, 513, 1024, 1500])
def test_a_tar_that_is_cut_off_is_refused(cut: int) -> None:
    plain = plain_tar(member("a", size=700), data=bytes([7]) * 700)
    with pytest.raises(FormatError, match="cut off"):
        read(compress(plain[:cut]))


def test_a_tar_without_its_second_empty_block_is_refused() -> None:
    with pytest.raises(FormatError, match="cut off"):
        read(compress(plain_tar(member("a"))[:1024]))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.99])
def test_a_frame_that_is_cut_off_is_refused(share: float) -> None:
    packed = pack(FILES)
    with pytest.raises(FormatError, match="cut off"):
        read(packed[: int(len(packed) * share)])


def test_bytes_behind_the_end_are_refused() -> None:
    plain = plain_tar(member("a"))
    for data in (compress(plain + b"more"), compress(plain) + b"x", compress(plain) * 2, compress(plain + plain)):
        with pytest.raises(FormatError, match="goes on after the end"):
            read(data)


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("count", [0, 1, 1000, 3_000_000])
def test_a_frame_may_say_its_size_or_not(count: int, stated: bool) -> None:
    data = bytes(range(251)) * (count // 251) + bytes(count % 251)
    frame = zstandard.ZstdCompressor(write_content_size=stated).compress(data)
    assert decompress(frame, limit=count, what="it") == data
    for more in (b"x", b"x" * 5000, frame):
        with pytest.raises(FormatError, match="goes on after the end"):
            decompress(frame + more, limit=2 * count + 1, what="it")
    if count:
        with pytest.raises(FormatError, match=f"more than {count - 1} bytes"):
            decompress(frame, limit=count - 1, what="it")


def test_what_can_not_be_compressed_is_read_as_well() -> None:
    data = np.random.default_rng(0).bytes(1_000_000)
    assert decompress(compress(data), limit=len(data), what="it") == data


def test_a_frame_that_has_more_than_it_says_is_refused() -> None:
    frame = bytearray(zstandard.ZstdCompressor(write_content_size=True).compress(bytes(1000)))
    at = frame.index((1000 - 256).to_bytes(2, "little"))
    frame[at : at + 2] = (500 - 256).to_bytes(2, "little")
    with pytest.raises(FormatError, match="corrupt"):
        decompress(bytes(frame), limit=LIMIT, what="it")


def test_an_archive_has_so_many_members_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert archive.MOST_MEMBERS == 100_000
    monkeypatch.setattr(archive, "MOST_MEMBERS", 3)
    files = {f"{number}": b"x" for number in range(4)}
    first = dict(list(files.items())[:3])
    assert read(pack(first)) == first
    with pytest.raises(FormatError, match="too many members"):
        read(pack(files))


def test_zeros_behind_the_end_of_a_tar_are_its_padding() -> None:
    assert read(compress(plain_tar(member("a")) + bytes(5000))) == {"a": b""}


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", bytes(100), b"x" * 5000])
def test_what_is_no_zstd_is_refused(data: bytes) -> None:
    for use in (read, diff_id, lambda data: decompress(data, limit=LIMIT, what="it")):
        with pytest.raises(FormatError):
            use(data)


def test_a_frame_that_needs_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=False)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(FormatError, match="corrupt"):
        decompress(frame.compress(bytes(100)) + frame.flush(), limit=LIMIT, what="it")


def test_a_flipped_bit_in_a_frame_with_a_checksum_is_refused() -> None:
    frame = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(b"data" * 100))
    frame[-1] ^= 1
    with pytest.raises(FormatError, match="corrupt"):
        decompress(bytes(frame), limit=LIMIT, what="it")


def bomb(size: int) -> bytes:
    made = zstandard.ZstdCompressor(level=1).compressobj()
    return b"".join([*(made.compress(bytes(2**20)) for _ in range(size // 2**20)), made.flush()])


def test_bombs_are_refused_within_bounds() -> None:
    zeros = bomb(2**28)
    header = compress(member("x", size=2**32).tobuf(tarfile.USTAR_FORMAT))
    assert len(zeros) < 2**16
    tracemalloc.start()
    try:
        for use in (
            lambda: decompress(zeros, limit=LIMIT, what="it"),
            lambda: diff_id_of(io.BytesIO(zeros), limit=LIMIT),
            lambda: read(header),
        ):
            with pytest.raises(FormatError, match="unpacks to more than 1048576 bytes"):
                use()
        assert tracemalloc.get_traced_memory()[1] < 2**26 + 2**22  # one step of the decompressor and a copy
    finally:
        tracemalloc.stop()


def test_a_file_larger_than_the_limit_is_refused_and_one_at_it_is_read() -> None:
    packed = pack({"a": bytes(5000)})
    size = len(zstandard.ZstdDecompressor().decompress(packed))
    assert read(packed, limit=size) == {"a": bytes(5000)}
    with pytest.raises(FormatError, match="more than"):
        read(packed, limit=size - 1)


def test_a_size_that_no_file_can_have_is_refused() -> None:
    header = bytearray(plain_tar(member("a")))
    header[124:136] = b"\xff" * 12  # minus one, in the binary form
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    with pytest.raises(FormatError, match=r"not of the ustar form|not a readable"):
        read(compress(bytes(header)))


def test_diff_id_is_the_digest_of_the_content() -> None:
    assert diff_id(compress(b"content")) == "sha256:" + hashlib.sha256(b"content").hexdigest()


def test_decompress_gives_the_content_up_to_its_limit() -> None:
    assert decompress(compress(b"content"), limit=7, what="it") == b"content"
    assert decompress(compress(b""), limit=0, what="it") == b""
    with pytest.raises(FormatError, match="it unpacks to more than 6 bytes"):
        decompress(compress(b"content"), limit=6, what="it")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes_are_an_archive_or_refused(data: bytes) -> None:
    for packed in (data, zstandard.ZstdCompressor(level=1).compress(data)):
        with contextlib.suppress(FormatError):
            read(packed)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 511), st.binary(min_size=1, max_size=8), st.booleans())
def test_any_header_is_read_or_refused(position: int, patch: bytes, mend: bool) -> None:
    plain = bytearray(plain_tar(member("a.onnx", size=10), data=bytes(10)))
    plain[position : position + len(patch)] = patch
    if mend:
        plain[148:156] = b" " * 8
        plain[148:156] = b"%06o\0 " % sum(plain[:512])
    with contextlib.suppress(FormatError):
        read(zstandard.ZstdCompressor(level=1).compress(bytes(plain)))
