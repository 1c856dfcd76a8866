from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accordion.errors import UsageError
from accordion.units import (
    format_bytes,
    format_rate,
    format_seconds,
    parse_bits_per_second,
    parse_bytes,
    parse_seconds,
    whole_number,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300ms", 0.3), ("0.3s", 0.3), ("5min", 300.0), ("2h", 7200.0), ("7", 7.0), (" 1.5 s ", 1.5), (".5s", 0.5), ("20µs", 2e-5)],
)
def test_a_time_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("10MB", 10_000_000),
        ("10MiB", 10_485_760),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("2GB", 2_000_000_000),
        ("77", 77),
        ("1e3B", 1000),
    ],
)
def test_an_amount_is_read_in_bytes(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("count", [1001, 1003, 1009, 2051])
def test_decimals_of_an_amount_do_not_lose_a_byte(count: int) -> None:
    # 1.001 × 1000 is 1000.9999999999999 in binary floating point.
    assert parse_bytes(f"{count / 1000:.3f}kB") == count


@pytest.mark.parametrize(
    ("text", "rate"), [("10Mbps", 1e7), ("1Gbps", 1e9), ("56kbps", 56e3), ("56 Kbps", 56e3), ("9600", 9600.0), ("8bps", 8.0)]
)
def test_a_rate_is_read_in_bits_a_second(text: str, rate: float) -> None:
    assert parse_bits_per_second(text) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("parse", [parse_seconds, parse_bytes, parse_bits_per_second])
@pytest.mark.parametrize("text", ["", " ", "ms", "-1", "+1", "1 2", "1,5", "nan", "inf", "0x10", "1e", "3 parsecs", "1e999", "٣"])
def test_what_is_no_quantity_is_refused(parse: Callable[[str], float], text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_seconds, "10MB"),
        (parse_bytes, "10Mbps"),
        (parse_bits_per_second, "10MB"),
        (parse_bytes, "10mb"),
        (parse_seconds, "1S"),
    ],
)
def test_a_unit_of_another_kind_is_refused_and_the_right_ones_are_named(parse: Callable[[str], float], text: str) -> None:
    with pytest.raises(UsageError, match=r"write a number with a unit \(.+\), such as"):
        parse(text)


def test_a_rate_of_zero_is_refused() -> None:
    with pytest.raises(UsageError, match="no rate"):
        parse_bits_per_second("0Mbps")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_bytes(1_750_000), "1.75 MB"),
        (format_bytes(0), "0 B"),
        (format_bytes(123_456_789), "123 MB"),
        (format_seconds(0.3), "300 ms"),
        (format_seconds(90), "1.50 min"),
        (format_seconds(12.34), "12.3 s"),
        (format_rate(1e7), "10 Mbps"),
        (format_rate(9600), "9.60 kbps"),
    ],
)
def test_quantities_are_written_for_people(text: str, expected: str) -> None:
    assert text == expected


@given(st.integers(0, 10**15))
def test_an_amount_written_and_read_again_is_the_same_to_three_digits(count: int) -> None:
    assert parse_bytes(format_bytes(count)) == pytest.approx(count, rel=0.006)


@given(st.floats(1e-6, 1e7))
def test_a_time_written_and_read_again_is_the_same_to_three_digits(seconds: float) -> None:
    assert parse_seconds(format_seconds(seconds)) == pytest.approx(seconds, rel=0.006)


@given(st.floats(1, 1e12))
def test_a_rate_written_and_read_again_is_the_same_to_three_digits(rate: float) -> None:
    assert parse_bits_per_second(format_rate(rate)) == pytest.approx(rate, rel=0.006)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers(value: int) -> None:
    assert type(whole_number(value, "it", least=3)) is int
    assert whole_number(value, "it") == 3
    with pytest.raises(UsageError, match="it must be a whole number from 4 on, not '3'"):
        whole_number(value, "it", least=4)


@pytest.mark.parametrize("value", [3.0, "3", None, True, float("nan"), np.array([3])])
def test_what_is_no_whole_number(value: object) -> None:
    with pytest.raises(UsageError, match="must be a whole number"):
        whole_number(value, "it")
