"""The golden packages through serve, fetch, run, upgrade and verify: the device knows no kind of network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accordion.device import Model, Request, fetch, upgrade, verify_model

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = ("precision", "trees", "cache", "long")


def tensor(value: dict[str, Any]) -> Any:
    return np.array(value["values"], value["dtype"]).reshape(value["shape"])


def check(folder: Path, rows: list[dict[str, Any]], k: int) -> None:
    with Model.open(folder) as model:
        outputs = model.run({name: tensor(value) for name, value in rows[k]["inputs"].items()}, k)
    for name, value in rows[k]["outputs"].items():
        np.testing.assert_allclose(outputs[name], tensor(value), rtol=1e-5, atol=1e-5)


def expected(name: str, tag: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((GOLDEN / name / "expected.json").read_text())["versions"][tag]
    return rows


@pytest.mark.parametrize("name", NAMES)
def test_first_configuration_then_upgraded_to_the_end(name: str, served: str, tmp_path: Path) -> None:
    rows = expected(name, "latest")

    with Model.open(_fetched(f"{served}/{name}", tmp_path / "whole")) as model:
        small = model.ladder.configurations[0].bytes
        count = len(model.ladder)
    result = fetch(f"{served}/{name}", tmp_path / "m", Request(max_bytes=small))
    assert result.configuration == 0
    check(tmp_path / "m", rows, 0)
    assert upgrade(tmp_path / "m", to=count - 1).configuration == count - 1
    for k in sorted({0, count // 2, count - 1}):
        check(tmp_path / "m", rows, k)
    assert verify_model(tmp_path / "m") == []


def test_from_one_version_to_the_other_and_back(served: str, tmp_path: Path) -> None:
    fetch(f"{served}/versions:v1", tmp_path / "m")
    rows = {tag: expected("versions", tag) for tag in ("v1", "v2")}
    check(tmp_path / "m", rows["v1"], 0)
    for tag in ("v2", "v1", "v2"):
        result = upgrade(tmp_path / "m", Request(reference=tag))
        assert result.bytes_reused > 0
        check(tmp_path / "m", rows[tag], result.configuration)
        assert verify_model(tmp_path / "m") == []


def _fetched(source: str, folder: Path) -> Path:
    fetch(source, folder)
    return folder
