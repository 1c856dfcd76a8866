from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accordion.elastic import OrderTable
from accordion.errors import UsageError

STAGES = (("a1", "a2"), ("b1", "b2"))


def test_a_file_becomes_an_order_and_its_other_fields_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    path.write_text(json.dumps({"name": "mine", "configurations": [[1, 1], [1, 2], [2, 2]], "objective": {"bytes": 1.0}}))
    table = OrderTable.from_file(path)
    assert table == OrderTable("mine", ((1, 1), (1, 2), (2, 2)))
    order = table.order(STAGES)
    assert (order.name, [order.by_stage(k) for k in range(3)]) == ("mine", [(1, 1), (1, 2), (2, 2)])
    assert OrderTable.from_json(table.to_json()) == table


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 1], [2, 0], [2, 2]], "not nested"),
        ([[1, 1], [2, 1]], "must be complete"),
        ([[1, 1], [3, 2]], "does not fit"),
        ([[1], [2]], "does not fit"),
    ],
)
def test_counts_that_are_no_order_of_the_network_are_refused(rows: list[list[int]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        OrderTable.from_json({"name": "mine", "configurations": rows}).order(STAGES)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        3,
        {"name": "x"},
        {"name": 3, "configurations": [[1]]},
        {"name": "x", "configurations": "11"},
        {"name": "x", "configurations": [1, 2]},
        {"name": "x", "configurations": [["1"]]},
        {"name": "x", "configurations": [[1.0]]},
        {"name": "x", "configurations": [[True]]},
        {"name": "x", "configurations": [[-1]]},
        {"name": "x", "configurations": [[]]},
        {"name": "x", "configurations": []},
        {"name": "", "configurations": [[1]]},
        {"name": "a\nb", "configurations": [[1]]},
    ],
)
def test_other_json_is_refused_and_the_file_named(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "order.json"
    path.write_text(json.dumps(value))
    with pytest.raises(UsageError, match=r"order\.json is not an order"):
        OrderTable.from_file(path)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    with pytest.raises(UsageError, match="can't read the order"):
        OrderTable.from_file(path)
    for text in ("{", "[" * 100_000, " " * 2**21):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"order\.json"):
            OrderTable.from_file(path)
