from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accordion.errors import UsageError
from accordion.planning import Held, Request, RequestError

DIGEST = "sha256:" + "a" * 64
NUMBERS = (
    "deadline_s",
    "throughput_bps",
    "rtt_s",
    "confidence",
    "min_quality",
    "max_bytes",
    "max_macs",
    "max_energy_j",
    "inferences",
)


def test_every_field_survives_json() -> None:
    data = {
        "reference": "v1.0",
        "deadline_s": 0.3,
        "throughput_bps": 240e6,
        "rtt_s": 0.05,
        "confidence": 0.95,
        "min_quality": 0.9,
        "max_bytes": 10_000_000,
        "max_macs": 10**9,
        "max_energy_j": 0.5,
        "radio": "5g-low",
        "inferences": 1000,
        "held": {"manifest": DIGEST, "configuration": 3},
    }
    request = Request.from_json(data)
    assert request.held == Held(DIGEST, 3)
    assert request.to_json() == data
    assert Request.from_json(request.to_json()) == request


def test_nothing_is_needed_and_null_is_nothing() -> None:
    assert Request.from_json({}) == Request()
    assert Request.from_json(dict.fromkeys(Request().__slots__)) == Request()
    assert Request().to_json() == {}


@pytest.mark.parametrize("value", ["", "LTE", "6g", 5, ["lte"], {}, "x" * 10_000])
def test_a_radio_is_one_of_those_with_figures(value: Any) -> None:
    with pytest.raises(RequestError, match=r"^radio: must be one of lte, 5g-low") as caught:
        Request.from_json({"radio": value})
    assert len(str(caught.value)) < 200


def test_a_whole_number_may_be_written_as_a_float() -> None:
    assert Request.from_json({"max_bytes": 1e7}).max_bytes == 10_000_000


@pytest.mark.parametrize("field", NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, False, "1", [1], {}, 10**400, -(10**400), 1e300])
def test_what_is_no_number_is_refused(field: str, value: Any) -> None:
    with pytest.raises(RequestError) as caught:
        Request.from_json({field: value})
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("field", [name for name in NUMBERS if name != "min_quality"])
def test_negative_is_refused(field: str) -> None:
    with pytest.raises(RequestError, match=f"^{field}: "):
        Request.from_json({field: -1})


@pytest.mark.parametrize("field", [name for name in NUMBERS if name not in ("min_quality", "rtt_s")])
def test_zero_is_refused(field: str) -> None:
    with pytest.raises(RequestError, match=f"^{field}: "):
        Request.from_json({field: 0})


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"confidence": 1}, "confidence"),
        ({"max_bytes": 1.5}, "max_bytes"),
        ({"max_macs": 0.5}, "max_macs"),
        ({"throughput_bps": 0.5}, "throughput_bps"),
        ({"reference": ""}, "reference"),
        ({"reference": "../x"}, "reference"),
        ({"reference": "a\n"}, "reference"),
        ({"reference": 3}, "reference"),
        ({"reference": "x" * 129}, "reference"),
        ({"reference": "sha256:abc"}, "reference"),
        ({"deadline": 1}, "deadline"),
        ({1: 1}, "1"),
        ({"held": 3}, "held"),
        ({"held": {}}, "held.manifest"),
        ({"held": {"manifest": DIGEST}}, "held.configuration"),
        ({"held": {"manifest": DIGEST, "configuration": -1}}, "held.configuration"),
        ({"held": {"manifest": DIGEST, "configuration": True}}, "held.configuration"),
        ({"held": {"manifest": DIGEST, "configuration": 1.0}}, "held.configuration"),
        ({"held": {"manifest": DIGEST.upper(), "configuration": 1}}, "held.manifest"),
        ({"held": {"manifest": DIGEST, "configuration": 1, "more": 1}}, "held.more"),
        ([], "request"),
        (None, "request"),
    ],
)
def test_the_wrong_field_is_named(data: Any, field: str) -> None:
    with pytest.raises(UsageError) as caught:
        Request.from_json(data)
    assert isinstance(caught.value, RequestError)
    assert caught.value.field == field


def test_a_request_made_in_python_is_checked_too() -> None:
    with pytest.raises(RequestError, match=r"^deadline_s: "):
        Request(deadline_s=-1.0)
    with pytest.raises(RequestError, match=r"^held: "):
        Request(held={"manifest": DIGEST, "configuration": 0})  # type: ignore[arg-type]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*NUMBERS, "reference", "held", "other"]), json_values, max_size=4))
def test_anything_is_a_request_or_refused(data: dict[str, Any]) -> None:
    try:
        request = Request.from_json(data)
    except RequestError as error:
        assert error.field.partition(".")[0] in data
    else:
        assert Request.from_json(request.to_json()) == request
