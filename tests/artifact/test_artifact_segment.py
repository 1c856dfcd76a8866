"""Segment headers: everything that is not a gapless safetensors file is refused."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accordion.artifact.segment import HEADER_LIMIT, encode_segment, parse_header, read_header
from accordion.errors import FormatError

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2, 3], np.uint8), "c": np.array(5, np.int64)}


def row(dtype: Any, shape: Any, *offsets: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


def file(header: Any, data: int = 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


def parse(data: bytes) -> Any:
    return parse_header(data, len(data), "the segment")


def test_tensors_come_back_from_where_the_header_says() -> None:
    data = encode_segment(TENSORS)
    header = parse(data)
    assert list(header) == list(TENSORS)
    for name, array in TENSORS.items():
        info = header[name]
        assert info.shape == array.shape and data[info.start : info.end] == array.tobytes()
    assert int.from_bytes(data[:8], "little") % 8 == 0
    assert read_header(io.BytesIO(data), len(data), "the segment") == header
    assert encode_segment(dict(TENSORS)) == data


def test_the_safetensors_library_reads_the_same() -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    for name, array in numpy.load(encode_segment(TENSORS)).items():
        np.testing.assert_array_equal(array, TENSORS[name])


@pytest.mark.parametrize(
    "array", [np.array([1, 2, 3], ">f4"), np.arange(12.0).reshape(3, 4).T, np.zeros((0, 3)), np.array([True, False])]
)
def test_odd_arrays_are_written_as_their_values(array: Any) -> None:
    data = encode_segment({"x": array})
    info = parse(data)["x"]
    assert info.shape == array.shape
    np.testing.assert_array_equal(
        np.frombuffer(data[info.start : info.end], array.dtype.newbyteorder("<")).reshape(array.shape), array
    )


@pytest.mark.parametrize("array", [np.array([1j]), np.array(["x"]), np.array([None]), np.array(["2026-01-01"], "M8[D]")])
def test_a_type_that_safetensors_lacks_is_refused(array: Any) -> None:
    with pytest.raises(FormatError, match="safetensors lacks"):
        encode_segment({"x": array})


def test_no_tensors_are_a_segment_too() -> None:
    assert parse(encode_segment({})) == {}
    assert parse(file({"__metadata__": {"format": "pt"}}, 0)) == {}


@pytest.mark.parametrize(
    "header, problem",
    [
        ({"a": row("U8", [5], 0, 5), "b": row("U8", [4], 4, 8)}, "overlaps"),
        ({"a": row("U8", [8], 0, 8), "b": row("U8", [8], 0, 8)}, "overlaps"),
        ({"a": row("U8", [3], 0, 3), "b": row("U8", [4], 4, 8)}, "hole"),
        ({"a": row("U8", [7], 1, 8)}, "hole"),
        ({"a": row("U8", [7], 0, 7)}, "its tensors end at"),
        ({"a": row("U8", [9], 0, 9)}, "its tensors end at"),
        ({}, "its tensors end at"),
        ({"a": row("F32", [3], 0, 8)}, "has 8 bytes"),
        ({"a": row("U8", [8], 8, 0)}, "has -8 bytes"),
        ({"a": row("F32", [2**61, 2**61], 0, 8)}, "has 8 bytes"),
        ({"a": row("F4", [16], 0, 8)}, "unknown type"),
        ({"a": row("f32", [2], 0, 8)}, "unknown type"),
        ({"a": row(None, [2], 0, 8)}, "unknown type"),
        ({"a": row(["F32"], [2], 0, 8)}, "unknown type"),
        ({"a": row("F32", [-2], 0, 8)}, "malformed"),
        ({"a": row("F32", [2.0], 0, 8)}, "malformed"),
        ({"a": row("U8", [True, 8], 0, 8)}, "malformed"),
        ({"a": row("F32", 2, 0, 8)}, "malformed"),
        ({"a": row("F32", [2], 0)}, "malformed"),
        ({"a": row("F32", [2], 0, 8, 8)}, "malformed"),
        ({"a": row("F32", [2], "0", "8")}, "malformed"),
        ({"a": row("F32", [2**62], 0, 8)}, "malformed"),
        ({"a": row("U8", [1] * 33, 0, 1)}, "malformed"),
        ({"a": {**row("U8", [8], 0, 8), "more": 1}}, "alone"),
        ({"a": {"dtype": "U8", "shape": [8]}}, "alone"),
        ({"a": [1]}, "not described by an object"),
        ({"__metadata__": {"x": 1}, "a": row("U8", [8], 0, 8)}, "metadata"),
        ({"__metadata__": [], "a": row("U8", [8], 0, 8)}, "metadata"),
        (b'{"a":1,"a":2}', "occurs twice"),
        (b"[]", "brace"),
        (b' {"a":1}', "brace"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":\xff}', "not valid JSON"),
        (b'{"a":' + b"[" * 100_000, "nested too deep"),
        (b"{" + b" " * 100, "not valid JSON"),
    ],
)
def test_a_header_that_breaks_a_rule_is_refused(header: Any, problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        parse(file(header))
    data = file(header)
    with pytest.raises(FormatError, match=problem):
        read_header(io.BytesIO(data), len(data), "the segment")


@pytest.mark.parametrize("length", [9, 2**16, HEADER_LIMIT + 1, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_file_or_the_limit_is_not_read(length: int) -> None:
    data = length.to_bytes(8, "little") + b"{}      "
    with pytest.raises(FormatError, match="not a safetensors file"):
        parse(data)
    with pytest.raises(FormatError, match="not a safetensors file"):
        read_header(io.BytesIO(data), len(data), "the segment")


@pytest.mark.parametrize("size", range(9))
def test_a_file_too_short_for_a_header_is_refused(size: int) -> None:
    data = encode_segment(TENSORS)[:size]
    with pytest.raises(FormatError):
        parse(data)
    with pytest.raises(FormatError):
        read_header(io.BytesIO(data), len(data), "the segment")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_are_a_header_or_refused(data: bytes, size: int) -> None:
    for given_data in (data, len(data).to_bytes(8, "little") + data, file(b"{" + data)):
        with contextlib.suppress(FormatError):
            parse_header(given_data, size, "it")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=8), st.fixed_dictionaries({"dtype": JSON, "shape": JSON, "data_offsets": JSON}) | JSON, max_size=3
    )
)
def test_any_json_is_a_header_or_refused(header: Any) -> None:
    with contextlib.suppress(FormatError):
        parse(file(header))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_change_of_a_header_keeps_tensors_inside_the_file(data: st.DataObject) -> None:
    changed = bytearray(encode_segment(TENSORS))
    length = int.from_bytes(changed[:8], "little") + 8
    changed[data.draw(st.integers(0, length - 1))] = data.draw(st.integers(0, 255))
    try:
        header = parse(bytes(changed))
    except FormatError:
        return
    covered = sorted((info.start, info.end) for info in header.values())
    assert [end for _, end in covered] == [*[start for start, _ in covered[1:]], len(changed)]
