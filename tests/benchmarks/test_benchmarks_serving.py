"""The table of what was measured is that of the measurement."""

from __future__ import annotations

import json

import serving_table as table  # type: ignore[import-not-found]


def test_the_document_shows_what_was_measured() -> None:
    text, value = table.DOCUMENT.read_text(), json.loads(table.RESULTS.read_text())
    assert table.fill(text, value) == text, "run python benchmarks/serving_table.py"
    value["ratios"]["plans"]["endpoint"]["median"] += 1
    assert table.fill(text, value) != text


def test_a_connection_costs_less_than_a_mebibyte() -> None:
    held = json.loads(table.RESULTS.read_text())["bytes_a_connection"]
    assert held
    assert max(held.values()) <= 2**20
