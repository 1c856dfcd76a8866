"""The golden packages of tests/golden, and the scripts that make them and their broken relatives."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

GOLDEN = Path(__file__).parent.parent / "golden"


def _load(name: str) -> ModuleType:
    known = f"golden_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, GOLDEN / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder with the golden packages."""
    return GOLDEN


@pytest.fixture(scope="session")
def make() -> ModuleType:
    """The script that makes the golden packages."""
    return _load("make")


@pytest.fixture(scope="session")
def broken() -> ModuleType:
    """The script that makes the broken packages."""
    return _load("broken")


@pytest.fixture(scope="session")
def broken_packages(broken: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name → directory of each broken package."""
    made: dict[str, Path] = broken.broken(tmp_path_factory.mktemp("broken"))
    return made
