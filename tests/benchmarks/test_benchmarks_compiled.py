"""The benchmark of compiled steps compares steps that do the same."""

from __future__ import annotations

import pytest
import torch
from compiled_step import measure  # type: ignore[import-not-found]


def test_compiled_steps_train_as_uncompiled_ones_do() -> None:
    settings = {"depth": 8, "policy": "BlockCoML-05", "batch": 8, "steps": 3, "rounds": 2, "epochs": 2}
    found = measure(["eager"], **settings, device=torch.device("cpu"))
    rows = found["backends"]
    assert list(rows) == ["off", "eager"]
    assert found["failed"] == {}
    assert rows["off"]["times_eager"] == 1
    assert rows["eager"]["last_loss"] == pytest.approx(rows["off"]["last_loss"], rel=1e-3)
    for row in rows.values():
        assert row["training_minutes"] == pytest.approx((2 * 45_000 / row["samples_per_second"] + row["first_steps_s"]) / 60)
