"""The endpoint against its own description: schemathesis makes requests of every kind from it, sound ones and others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accordion.endpoint import create_app
from accordion.endpoint.limits import Limits

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture
def described(tmp_path: Path, build: Callable[..., Any]) -> Any:
    """The description of an endpoint over the package `net`."""
    build(tmp_path / "net")
    app = create_app([tmp_path / "net"], limits=Limits(body_bytes=2000))
    return schemathesis.openapi.from_asgi("/openapi.json", app)


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@hypothesis.settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck))
def test_no_request_makes_it_fail_and_every_answer_is_as_described(case: schemathesis.Case) -> None:
    if "{name}" in case.path and case.path_parameters is not None and len(str(case.path_parameters.get("name"))) % 2:
        case.path_parameters["name"] = "net"  # or nothing but 404 would be seen
    case.call_and_validate(checks=CHECKS)
