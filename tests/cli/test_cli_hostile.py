"""Packages that would become too large, too slow or nonsense on the device, or whose ladder lies about them: every command refuses them, code 4, one line."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from accordion.artifact.graph import check_graph
from accordion.cli import main
from accordion.device import layers, store
from serving import serving

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = (
    "graph that makes a terabyte",
    "graph that works more than stated",
    "graph with a loop",
    "index out of range",
    "delivered index out of range",
    "odd number of codes",
    "scale that is no number",
    "infinite scale in an archive",
    "input of another name",
    "output that is not there",
    "input of other axes",
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name → package directory."""
    spec = importlib.util.spec_from_file_location("golden_broken_packages", GOLDEN / "broken.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    made = module.broken(tmp_path_factory.mktemp("hostile"))
    return {name: made[name] for name in NAMES}


@pytest.fixture(scope="module")
def endpoint(hostile: dict[str, Path]) -> Iterator[str]:
    with serving(*hostile.values()) as url:
        yield url


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 4
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    last = said.err.strip().splitlines()[-1]
    assert len(last) < 400
    return last


@pytest.mark.parametrize("name", NAMES)
def test_verify_fetch_and_run_refuse_it(
    hostile: dict[str, Path],
    endpoint: str,
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused(capsys, "verify", str(hostile[name]))
    url, model = f"{endpoint}/{hostile[name].name}", tmp_path / "m"
    why = refused(capsys, "fetch", url, "-o", str(model))
    with monkeypatch.context() as careless:  # as if it had been fetched by a program that does not look
        careless.setattr(store, "check_graph", lambda *_: None)
        careless.setattr(layers, "check_segment", lambda *_: {})
        careless.setattr(layers, "check_segment_bytes", lambda *_: {})
        assert main(["fetch", url, "-o", str(model)]) == 0
        capsys.readouterr()
    assert store.check_graph is check_graph
    np.save(tmp_path / "x.npy", np.ones((1, 4), np.float32))
    assert refused(capsys, "run", str(model), str(tmp_path / "x.npy"), "--configuration", "0")
    assert refused(capsys, "verify", str(model))
    assert why
