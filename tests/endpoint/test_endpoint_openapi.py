"""The endpoint against its own description: schemathesis makes requests of every kind from it, sound ones and others."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from small_packages import add_version, segment  # type: ignore[import-not-found]

from accordion.artifact.layout import Layout
from accordion.endpoint import create_app
from accordion.endpoint.limits import Limits
from accordion.endpoint.openapi import openapi

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


SEVERAL = 10  # requests of each kind; the seed is fixed, so a run is like the one before
OPERATIONS = [
    (path, method, mode)
    for path, operations in openapi()["paths"].items()
    for method in operations
    for mode in GenerationMode
    # where nothing is asked for, nothing can be wrong
    if method != "parameters" and (mode is GenerationMode.POSITIVE or "parameters" in operations)
]


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The description of an endpoint over the package `net`, which answers in this process."""
    folder = tmp_path_factory.mktemp("described") / "net"
    add_version(Layout.create(folder), "latest", [segment(k) for k in range(3)])
    app = create_app([folder], limits=Limits(body_bytes=2000))
    return schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.mark.parametrize(("path", "method", "mode"), OPERATIONS)
def test_no_request_makes_it_fail_and_every_answer_is_as_described(
    schema: Any, path: str, method: str, mode: GenerationMode
) -> None:
    operation = schema[path][method]

    @hypothesis.seed(1)
    @hypothesis.settings(max_examples=SEVERAL, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode), known=hypothesis.strategies.booleans())
    def holds(case: schemathesis.Case, known: bool) -> None:
        if known and "{name}" in path:  # or nothing but 404 would be seen
            case.path_parameters = {**(case.path_parameters or {}), "name": "net"}
        case.call_and_validate(checks=CHECKS)

    holds()
