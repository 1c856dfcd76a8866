"""Keys, what a device trusts, and a shop that it fetches from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mirror import NAME, Shop, opened  # type: ignore[import-not-found]

from accordion.trust import Trust
from accordion.trust.keys import PrivateKey, make_key
from accordion.trust.rules import Rules


@pytest.fixture(scope="session")
def maker() -> PrivateKey:
    """Who makes the packages."""
    return make_key()


@pytest.fixture(scope="session")
def second() -> PrivateKey:
    """Who signs them too."""
    return make_key("ed25519")


@pytest.fixture(scope="session")
def stranger() -> PrivateKey:
    return make_key()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with opened(tmp_path) as made:
        yield made


@pytest.fixture
def trust(tmp_path: Path, maker: PrivateKey) -> Trust:
    """Trusts the maker's key for `net`, and nothing else."""
    made = Trust(tmp_path / "trust.json", Rules())
    made.add_keys([NAME], [maker.public.pem.encode()], None)
    made.save()
    return Trust.open(made.path)
