"""An endpoint in a process of its own, over the golden packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import serving

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def served() -> Iterator[str]:
    """Where it answers: the packages are at /precision, /trees, /cache, /long, /versions and /encodings."""
    with serving(*(GOLDEN / name for name in ("precision", "trees", "cache", "long", "versions", "encodings"))) as url:
        yield url
