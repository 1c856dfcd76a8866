"""An endpoint in a process of its own, over the golden packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from serving import serving

# A busy machine is no failure.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def served() -> Iterator[str]:
    """Where it answers: the packages are at /precision, /trees, /cache, /long, /versions and /encodings."""
    with serving(*(GOLDEN / name for name in ("precision", "trees", "cache", "long", "versions", "encodings"))) as url:
        yield url


@pytest.fixture(scope="session", autouse=True)
def trusting_nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the person at this machine is configured to trust is not the tests' concern."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ACCORDION_TRUST", raising=False)
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield
