"""Another version takes the place of the one that is there: whole or not at all, whoever is killed and whoever reads meanwhile."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accordion.device import Model, Request, exchange, fetch, shed, store, upgrade, verify_model
from accordion.errors import FormatError, StorageError
from chain import WIDTH, K, weights  # type: ignore[import-not-found]

X = np.random.default_rng(3).standard_normal((2, WIDTH)).astype(np.float32)
SHARED = 2  # matrices that both versions begin with


class Killed(BaseException):
    """What no code catches, as SIGKILL."""


@pytest.fixture(scope="session")
def fetched(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fetched") / "m"
    fetch(f"{endpoint}:latest", folder)
    return folder


def expected(tag: str, k: int) -> Any:
    x = X
    for w in [*weights(0)[:SHARED], *weights({"latest": 0, "v2": 2}[tag])[SHARED:]][: k + 1]:
        x = x + x @ w
    return x


def which(answer: Any) -> str:
    """Of which version these are the outputs; an error if of none."""
    (tag,) = {
        tag for tag in ("latest", "v2") for k in range(SHARED, K) if np.allclose(answer, expected(tag, k), rtol=1e-4, atol=1e-4)
    }
    return tag


def version_of(folder: Path) -> str:
    """Which version answers; an error if none does."""
    with Model.open(folder) as model:
        return which(model.run(X)["y"])


def killed(patch: pytest.MonkeyPatch, folder: Path, after: int) -> None:
    """From now on the program is killed at step `after` of what it does to the disk once the exchange is decided."""
    left = [after]

    def step(real: Any) -> Any:
        def counted(*arguments: Any, **named: Any) -> Any:
            if (folder / ".next" / "COMMIT").exists():
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
            return real(*arguments, **named)

        return counted

    patch.setattr(exchange, "write_file", step(exchange.write_file))
    patch.setattr(os, "replace", step(os.replace))
    patch.setattr(Path, "unlink", step(Path.unlink))
    patch.setattr(shutil, "rmtree", step(shutil.rmtree))


def test_killed_at_any_step_of_the_exchange(endpoint: str, fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decided = Path(shutil.copytree(fetched, tmp_path / "decided"))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed(patch, decided, 0)
        upgrade(decided, Request(reference="v2"))
    for steps in range(100):
        folder = Path(shutil.copytree(decided, tmp_path / f"m{steps}"))
        with monkeypatch.context() as patch:
            killed(patch, folder, steps)
            try:
                assert version_of(folder) == "v2"  # whoever reads first brings it to its end …
                break
            except Killed:
                pass
        assert version_of(folder) == "v2"  # … or the next one does, before any other fetch
        assert verify_model(folder) == []
        assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
            *("manifest.json", "state.json", "ladder.json"),
            *(f"{k:03}.{kind}" for k in range(K) for kind in ("onnx", "safetensors")),
        }
    assert 10 < steps < 99


def test_files_of_the_old_version_alone_go_even_after_a_kill(
    endpoint: str, fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(fetched, tmp_path / "m"))
    result = upgrade(folder, Request(reference="v2", max_bytes=40_000))  # fewer configurations than the old version had
    assert result.configuration < K - 1
    assert not (folder / f"{K - 1:03}.safetensors").exists()
    assert verify_model(folder) == []


def test_whoever_reads_meanwhile_gets_an_answer(endpoint: str, fetched: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fetched, tmp_path / "m"))
    stop, failures, seen = threading.Event(), [], []

    def read() -> None:
        while not stop.is_set():
            try:
                seen.append(version_of(folder))
            except Exception as error:
                failures.append(error)
            time.sleep(0.02)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for reference in ("v2", "latest", "v2"):
        upgrade(folder, Request(reference=reference))
        shed(folder, 3)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(seen) == {"latest", "v2"}


def test_a_model_that_was_opened_before_goes_on_with_what_is_there(endpoint: str, fetched: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fetched, tmp_path / "m"))
    with Model.open(folder) as model:
        upgrade(folder, Request(reference="v2"))
        assert which(model.run(X)["y"]) == "v2"
        shed(folder, 3)
        assert model.prepare(max_macs=5 * WIDTH**2) == 3  # what is not there any more is not chosen
    with Model.open(folder) as model:
        assert model.configuration == 3


def test_kill_9_at_random_moments_of_an_upgrade(endpoint: str, fetched: Path, tmp_path: Path) -> None:
    rng = random.Random(11)
    folder = Path(shutil.copytree(fetched, tmp_path / "m"))
    command = [sys.executable, "-m", "accordion.cli", "upgrade", str(folder), "--json", "--reference"]
    for turn in range(8):
        process = subprocess.Popen([*command, ("v2", "latest")[turn % 2]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.2, 0.9))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert version_of(folder) in ("latest", "v2")
        assert verify_model(folder) == []


def test_shed_gives_back_a_full_disk(fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(fetched, tmp_path / "m"))
    before, real = sum(path.stat().st_size for path in folder.iterdir()), store.write_file

    def full(path: Path, data: bytes) -> None:
        if before - sum(one.stat().st_size for one in folder.iterdir()) < len(data):
            raise StorageError("the disk is full") from OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    monkeypatch.setattr(store, "write_file", full)
    left, freed = shed(folder, 1)
    assert left == 1 and freed > 4 * 4 * WIDTH**2
    assert verify_model(folder) == []
    with Model.open(folder) as model:
        assert model.configuration == 1


def test_shed_on_a_disk_that_takes_nothing_says_so(fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(fetched, tmp_path / "m"))

    def never(path: Path, data: bytes) -> None:
        raise StorageError("Read-only file system")

    monkeypatch.setattr(store, "write_file", never)
    with pytest.raises(StorageError, match="Read-only"):
        shed(folder, 1)
    monkeypatch.undo()
    assert verify_model(folder) == []


def test_a_new_version_lies_on_the_disk_before_the_old_one_goes(
    endpoint: str, fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(fetched, folder)
    synced: set[str] = set()
    real, decided = os.fsync, exchange.write_file

    def sync(handle: int) -> None:
        synced.add(os.path.realpath(f"/proc/self/fd/{handle}"))
        real(handle)

    def decide(path: Path, data: bytes, **named: Any) -> None:
        if path.name == "COMMIT":
            there = {str(one.resolve()) for one in path.parent.rglob("*") if one.is_file()}
            assert len(there) > K
            assert there <= synced
            assert str(path.parent.resolve()) in synced
            synced.add("decided")
        decided(path, data, **named)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(exchange, "write_file", decide)
    upgrade(folder, Request(reference="v2"))
    assert "decided" in synced
    assert version_of(folder) == "v2"


@pytest.mark.parametrize("damaged", ["COMMIT", "state.json"])
def test_a_decided_version_that_is_damaged_leaves_the_one_before(fetched: Path, tmp_path: Path, damaged: str) -> None:
    folder = tmp_path / "m"
    shutil.copytree(fetched, folder)
    (folder / ".next").mkdir()
    shutil.copy(folder / "state.json", folder / ".next" / "state.json")
    (folder / ".next" / "COMMIT").write_text('{"old": []}')
    (folder / ".next" / damaged).write_text("{")
    assert version_of(folder) == "latest"
    assert not (folder / ".next").exists()
    assert verify_model(folder) == []


def test_where_neither_version_is_whole_it_says_what_to_do(fetched: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(fetched, folder)
    (folder / ".next").mkdir()
    (folder / ".next" / "COMMIT").write_text("{")
    (folder / "000.safetensors").unlink()
    with pytest.raises(FormatError, match="remove it, and fetch the model again"):
        Model.open(folder)


def test_an_inference_beside_a_refresh_is_of_one_version(
    endpoint: str, fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread refreshes to a ladder of other inputs just when a session has been found."""
    folder = tmp_path / "m"
    shutil.copytree(fetched, folder)
    with Model.open(folder) as model:
        model.run(X)
        real = model._prepared

        def prepared(*arguments: Any) -> Any:
            found = real(*arguments)
            monkeypatch.setattr(model, "ladder", replace(model.ladder, inputs=()))
            return found

        monkeypatch.setattr(model, "_prepared", prepared)
        assert which(model.run(X)["y"]) == "latest"
