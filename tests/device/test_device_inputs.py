"""What a model refuses to be given: a network answers anything, so nothing else would show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accordion.device import Model, fetch
from accordion.errors import UsageError
from chain import WIDTH, add_version  # type: ignore[import-not-found]
from serving import serving


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranged")
    add_version(folder / "chain", "latest", 0, takes=(0.0, 1.0))
    with serving(folder / "chain") as url:
        fetch(f"{url}/chain", folder / "m")
    return folder / "m"


def pixels(scale: float) -> Any:
    return (np.linspace(0, 1, 2 * WIDTH).reshape(2, WIDTH) * scale).astype(np.float32)


@pytest.mark.parametrize("given", [pixels(255.0), pixels(-1.0), pixels(float("nan"))])
def test_values_beyond_the_ladders_range_are_refused(model: Path, given: Any) -> None:
    with Model.open(model) as opened, pytest.raises(UsageError, match=r"what was given for 'x' holds values from .* takes 0 to 1"):
        opened.run(given)


def test_values_at_the_ranges_ends_are_taken_whatever_arithmetic_did_to_them(model: Path) -> None:
    with Model.open(model) as opened:
        for scale in (1.0, 1.0 + 5e-7):
            assert opened.run({"x": pixels(scale)})["y"].shape == (2, WIDTH)


def test_what_is_no_number_at_all_is_left_to_the_runtime_to_name(model: Path) -> None:
    with Model.open(model) as opened, pytest.raises(UsageError, match="can't take these inputs"):
        opened.run(np.full((2, WIDTH), "1"))
