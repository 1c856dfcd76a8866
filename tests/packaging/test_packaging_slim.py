from __future__ import annotations

import copy
from typing import Any

import pytest

from accordion.packaging.slim import slim

HOW = {"runs": 30, "threads": 1, "machine": "a board", "runtime": "onnxruntime 1.22.0 CPU"}


@pytest.fixture
def fields() -> dict[str, Any]:
    rows = [
        {
            "index": k,
            "weights_bytes": 1000 * (k + 1),
            "latency_s": {"median": 0.00123456 * (k + 1), "low": 0.001, "high": 0.002, **HOW},
        }
        for k in range(3)
    ]
    return {"task": "test", "configurations": rows}


def test_each_thing_is_said_once(fields: dict[str, Any]) -> None:
    before = copy.deepcopy(fields)
    made = slim(fields)
    assert fields == before
    assert made["latency"] == HOW and made["task"] == "test"
    assert [row["latency_s"] for row in made["configurations"]] == [
        {"median": median, "low": 0.001, "high": 0.002} for median in (0.00123, 0.00247, 0.0037)
    ]
    assert [row.get("weights_bytes") for row in made["configurations"]] == [None, None, 3000]


def test_what_differs_stays_where_it_is(fields: dict[str, Any]) -> None:
    fields["configurations"][1]["latency_s"]["machine"] = "another board"
    made = slim(fields)
    assert "latency" not in made
    assert [row["latency_s"] for row in made["configurations"]] == [row["latency_s"] for row in fields["configurations"]]


def test_a_ladder_without_latencies(fields: dict[str, Any]) -> None:
    del fields["configurations"][2]["latency_s"]
    assert "latency" not in slim(fields)
    for row in fields["configurations"]:
        row.pop("latency_s", None)
    assert [set(row) for row in slim(fields)["configurations"]] == [{"index"}, {"index"}, {"index", "weights_bytes"}]
