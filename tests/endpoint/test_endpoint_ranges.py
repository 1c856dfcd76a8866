from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accordion.endpoint.ranges import MOST_RANGES, Unsatisfiable, parse_range


@pytest.mark.parametrize(
    ("header", "ranges"),
    [
        ("bytes=0-9", [(0, 9)]),
        ("bytes=5-", [(5, 99)]),
        ("bytes=-5", [(95, 99)]),
        ("bytes=-500", [(0, 99)]),
        ("bytes=90-500", [(90, 99)]),
        ("BYTES=0-0", [(0, 0)]),
        ("bytes = 0-0", [(0, 0)]),
        ("bytes=0-9, 20-29", [(0, 9), (20, 29)]),
        ("bytes=20-29,0-9", [(0, 9), (20, 29)]),
        ("bytes=0-9,10-19", [(0, 19)]),
        ("bytes=0-9,5-7,6-30", [(0, 30)]),
        ("bytes=0-9,200-300", [(0, 9)]),
        ("bytes=,0-9,,", [(0, 9)]),
        ("bytes=99-99", [(99, 99)]),
    ],
)
def test_ranges(header: str, ranges: list[tuple[int, int]]) -> None:
    assert parse_range(header, 100) == ranges


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=,",
        "bytes=5-2",
        "bytes=0-9,x",
        "bytes=0x1-2",
        "bytes=+1-2",
        "bytes=1.0-2",
        "bytes=٣-٤",
        "items=0-9",
        "bytes=0-9-",
        "bytes=--9",
        "bytes=" + "9" * 5000 + "-",
        "bytes=" + ",".join(["0-0"] * (MOST_RANGES + 1)),
    ],
)
def test_what_is_malformed_is_ignored(header: str | None) -> None:
    assert parse_range(header, 100) is None


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=200-300,400-500"])
def test_no_byte_in_range(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(header, 100)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_nothing_has_no_ranges(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(header, 0)


@settings(deadline=None)
@given(size=st.integers(0, 60), asked=st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70)), min_size=1, max_size=6))
def test_the_bytes_are_those_asked_for(size: int, asked: list[tuple[int, int]]) -> None:
    asked = [(min(pair), max(pair)) for pair in asked]
    wanted = {byte for start, end in asked for byte in range(start, end + 1) if byte < size}
    header = "bytes=" + ",".join(f"{start}-{end}" for start, end in asked)
    if not wanted:
        with pytest.raises(Unsatisfiable):
            parse_range(header, size)
        return
    found = parse_range(header, size)
    assert found is not None
    assert [byte for start, end in found for byte in range(start, end + 1)] == sorted(wanted)  # each once, in order
    assert all(after[0] > before[1] + 1 for before, after in pairwise(found))


@settings(deadline=None)
@given(st.text(max_size=30), st.integers(0, 1000))
def test_anything_is_a_header(text: str, size: int) -> None:
    for header in (text, "bytes=" + text):
        try:
            found = parse_range(header, size)
        except Unsatisfiable:
            continue
        assert found is None or all(0 <= start <= end < size for start, end in found)
