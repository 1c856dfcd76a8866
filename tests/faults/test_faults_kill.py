"""Kill -9 at random moments. `benchmarks/faults.py` does the same a hundred times each."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from kills import KINDS, Scene, kill_a_device, kill_an_endpoint  # type: ignore[import-not-found]

ROUNDS = 2  # of each kind


@pytest.mark.parametrize("kind", KINDS)
def test_kill_9_of_a_device(scene: Scene, tmp_path: Path, kind: str) -> None:
    rng = Random(f"{kind} 41")
    for turn in range(ROUNDS):
        outcome = kill_a_device(scene, kind, rng, tmp_path / str(turn))
        assert outcome.received > 0 or outcome.held == ("v2", 5)


def test_kill_9_of_an_endpoint(scene: Scene, tmp_path: Path) -> None:
    rng = Random(43)
    for turn in range(ROUNDS):
        kill_an_endpoint(scene, rng, tmp_path / str(turn))
