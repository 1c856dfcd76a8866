"""The table of what was measured is that of the measurement."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serving_table", ROOT / "benchmarks" / "serving_table.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_document_shows_what_was_measured(table: ModuleType) -> None:
    text, value = table.DOCUMENT.read_text(), json.loads(table.RESULTS.read_text())
    assert table.fill(text, value) == text, "run python benchmarks/serving_table.py"
    value["ratios"]["plans"]["endpoint"]["median"] += 1
    assert table.fill(text, value) != text


def test_a_connection_costs_less_than_a_mebibyte(table: ModuleType) -> None:
    held = json.loads(table.RESULTS.read_text())["bytes_a_connection"]
    assert held
    assert max(held.values()) <= 2**20
