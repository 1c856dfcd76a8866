from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from accordion.errors import FormatError
from accordion.planning import Plan, Request, make_plan


@pytest.fixture
def answer(version: Callable[..., Any]) -> Plan:
    return make_plan("team/net", *version([100, 1000, 2000], [0.6, 0.8]), Request())


def test_the_json_form_has_the_protocols_fields(answer: Plan) -> None:
    data = answer.to_json()
    assert set(data) == {
        "name",
        "manifest",
        "configuration",
        "quality",
        "bytes_to_send",
        "bytes_total",
        "expected_s",
        "ranges",
        "layers",
    }
    assert data["ranges"] == [[0, 3099]]
    assert data["layers"][0].keys() == {"digest", "size", "mediaType"}


def test_it_survives_the_wire(answer: Plan) -> None:
    again = Plan.from_json(json.loads(json.dumps(answer.to_json())))
    assert again.to_json() == answer.to_json()
    assert again.quality == answer.quality


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 3),
        ("manifest", "sha256:1"),
        ("configuration", -1),
        ("configuration", True),
        ("quality", {}),
        ("bytes_to_send", "3100"),
        ("bytes_to_send", 3099),
        ("bytes_total", 10),
        ("expected_s", float("nan")),
        ("expected_s", -1),
        ("ranges", [[0, 3098]]),
        ("ranges", [[3099, 0]]),
        ("ranges", [[0, 3099], [0, 3099]]),
        ("ranges", [[0, 1, 2]]),
        ("ranges", 3),
        ("layers", []),
        ("layers", [{"digest": "x", "size": 1, "mediaType": "y"}]),
        ("layers", {}),
    ],
)
def test_a_plan_from_elsewhere_is_checked(answer: Plan, field: str, value: Any) -> None:
    with pytest.raises(FormatError):
        Plan.from_json({**answer.to_json(), field: value})


@pytest.mark.parametrize("ranges", [[[1550, 3099], [0, 1549]], [[0, 1549], [1549, 3098]], [[0, 3099], [0, -1]]])
def test_the_ranges_of_a_plan_are_in_order(answer: Plan, ranges: list[list[int]]) -> None:
    """Their bytes are as many as the plan says, so that only their order is wrong."""
    good = [[0, 1549], [1551, 3100]]
    assert Plan.from_json({**answer.to_json(), "ranges": good}).ranges == ((0, 1549), (1551, 3100))
    with pytest.raises(FormatError, match=r"not in order|whole number"):
        Plan.from_json({**answer.to_json(), "ranges": ranges})


def test_a_plan_is_an_object() -> None:
    with pytest.raises(FormatError):
        Plan.from_json([])
