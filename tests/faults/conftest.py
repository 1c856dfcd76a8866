"""The package, its endpoint, and folders to begin with, once for all faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kills import Scene  # type: ignore[import-not-found]
from scene import Endpoint, make_package  # type: ignore[import-not-found]


@pytest.fixture(scope="session")
def chain_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with the versions `latest` and `v2`."""
    return make_package(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="session")
def scene(chain_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """With an endpoint that a test may kill if it starts it again."""
    endpoint = Endpoint(chain_package)
    endpoint.start()
    try:
        yield Scene.make(chain_package, endpoint, tmp_path_factory.mktemp("folders"))
    finally:
        endpoint.stop()
