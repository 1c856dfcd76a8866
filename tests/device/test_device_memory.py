"""What an upgrade holds in memory at once: what answers, and what answers next."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accordion.device import Model, Request, fetch, upgrade
from chain import WIDTH, K, expected  # type: ignore[import-not-found]

X = np.random.default_rng(7).standard_normal((3, WIDTH)).astype(np.float32)


class Watched:
    """A session, with a memory of how many there were at once, the one in the making counted."""

    def __init__(self, session: Any) -> None:
        self.get_outputs, self.run = session.get_outputs, session.run


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sessions there were whenever another one was made."""
    sessions: weakref.WeakSet[Watched] = weakref.WeakSet()
    counts: list[int] = []
    real = Model._load

    def load(model: Model, k: int, graph: str) -> Any:
        made = Watched(real(model, k, graph))
        sessions.add(made)
        counts.append(len(sessions))
        return made

    monkeypatch.setattr(Model, "_load", load)
    return counts


def test_an_upgrade_step_by_step_holds_two_sessions(endpoint: str, tmp_path: Path, alive: list[int]) -> None:
    fetch(endpoint, tmp_path / "m", Request(max_bytes=60_000))
    with Model.open(tmp_path / "m") as model:
        for k in range(K):
            upgrade(tmp_path / "m", to=k)
            model.refresh()
            np.testing.assert_allclose(model.run(X)["y"], expected(0, X, k), rtol=1e-4, atol=1e-4)
        upgrade(tmp_path / "m", Request(reference="v2"))
        model.refresh()
        assert not np.allclose(model.run(X)["y"], expected(0, X, K - 1), rtol=1e-4, atol=1e-4)
    assert len(alive) == K + 1 and max(alive) == 2


def test_what_ran_last_stays_ready_and_more_if_asked_for(endpoint: str, tmp_path: Path, alive: list[int]) -> None:
    fetch(endpoint, tmp_path / "m")
    for sessions, made in ((2, 3), (3, 3), (1, 6)):
        alive.clear()
        with Model.open(tmp_path / "m", sessions=sessions) as model:
            for k in (0, 5, 0, 5, 0, 3):
                model.run(X, k)
        assert len(alive) == made
        assert max(alive) <= sessions
