"""Files that another process sheds between being seen and being read: the reader goes on with what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accordion.artifact import weights
from accordion.device import Model, fetch, shed
from accordion.device import store as stores
from chain import expected  # type: ignore[import-not-found]

X = np.ones((1, 100), np.float32)


@pytest.mark.parametrize("where", ["digest", "segment"])
def test_a_file_that_goes_while_it_is_read(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    folder = tmp_path / "m"
    fetch(f"{endpoint}:latest", folder)
    done: list[int] = []

    def once() -> None:
        if not done:
            done.append(1)
            shed(folder, 2)

    if where == "digest":
        real = stores.file_digest

        def digest(path: Path) -> str:
            if path.name == "005.safetensors":
                once()
            return str(real(path))

        monkeypatch.setattr(stores, "file_digest", digest)
    else:
        before = weights.SegmentFile.at.__func__  # type: ignore[attr-defined]

        def at(cls: Any, path: Path, tensors: Any = None) -> Any:
            if path.name == "005.safetensors":
                once()
            return before(cls, path, tensors)

        monkeypatch.setattr(weights.SegmentFile, "at", classmethod(at))
    with Model.open(folder) as model:
        answer = model.run(X)["y"]
    assert done
    np.testing.assert_allclose(answer, expected(0, X, 2), rtol=1e-4, atol=1e-4)
