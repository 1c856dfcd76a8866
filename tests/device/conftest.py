"""The chain package, two versions of it, and a real endpoint in front."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chain import add_version  # type: ignore[import-not-found]
from serving import serving


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packages") / "chain"
    add_version(path, "latest", 0)
    add_version(path, "v2", 2, shared=2)
    return path


@pytest.fixture(scope="session")
def endpoint(package: Path) -> Iterator[str]:
    with serving(package) as url:
        yield f"{url}/chain"
