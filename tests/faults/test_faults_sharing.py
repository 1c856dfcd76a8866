"""One folder, several processes: who writes is alone, who reads is never disturbed."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kills import Scene  # type: ignore[import-not-found]
from scene import LAST, SEEDS, Prepared, X, answers, expected, run  # type: ignore[import-not-found]

from accordion.device import Model, Request, fetch, lock, shed, upgrade
from accordion.errors import StorageError

READERS, CHANGES = 3, ("v2", "latest", "v2")


def test_two_fetches_into_one_folder(scene: Scene, tmp_path: Path) -> None:
    """The second says so and leaves the first alone; nothing is fetched twice, nothing is mixed."""
    folder, slow = tmp_path / "m", ["--limit-rate", "1Mbps"]
    first = Prepared("fetch", f"{scene.endpoint.url}:latest", "-o", folder, *slow)
    while not (folder / "state.json").exists() and first.poll() is None:
        time.sleep(0.005)
    for command in (["fetch", f"{scene.endpoint.url}:v2", "-o", folder], ["fetch", f"{scene.endpoint.url}:latest", "-o", folder]):
        code, _, said = run(*command)
        assert code == 1 and "another fetch, upgrade or shed is at work" in said
    assert first.wait()[0] == 0
    assert answers(folder, scene.package) == ("latest", LAST)


def test_many_fetches_into_one_folder_at_once(scene: Scene, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    several = [Prepared("fetch", f"{scene.endpoint.url}:latest", "-o", folder) for _ in range(4)]
    ended = [one.wait() for one in several]
    assert 0 in [code for code, _, _ in ended]
    assert all(code == 0 or "is at work in" in said for code, _, said in ended)
    assert answers(folder, scene.package) == ("latest", LAST)


def test_a_lock_file_that_was_taken_away_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking it, another fetch, of which nothing came, removes folder and lock file."""
    folder, real, turns = tmp_path / "m", lock.fcntl.flock, [0]

    def taken_away(handle: Any, how: int) -> None:
        if not turns[0]:
            shutil.rmtree(folder)
        turns[0] += 1
        real(handle, how)

    monkeypatch.setattr(lock.fcntl, "flock", taken_away)
    with lock.locked(folder):
        assert (folder / ".lock").exists()
        with pytest.raises(StorageError, match="at work"), lock.locked(folder):
            pass
    assert turns[0] == 3


def test_what_a_killed_write_left_goes_everywhere(tmp_path: Path) -> None:
    (tmp_path / "graphs").mkdir()
    (tmp_path / "state.json").write_text("{")
    for place in (tmp_path / ".new-1", tmp_path / "graphs" / ".new-2"):
        place.write_bytes(b"half")
    with lock.locked(tmp_path):
        pass
    assert not list(tmp_path.rglob(".new-*"))


def _read(folder: str, stop: Any, said: Any) -> None:
    """A process that answers from the folder, again and again: opened once, and opened anew."""
    known = {tag: [expected(tag, k) for k in range(LAST + 1)] for tag in SEEDS}
    count, failed, seen = 0, "", set()
    with Model.open(folder) as model:
        while not stop.is_set() and not failed:
            try:
                model.refresh()
                with Model.open(folder) as other:
                    for one in (model, other):
                        answer = one.run(X)["y"]
                        fits = {
                            tag for tag, rows in known.items() for row in rows if np.allclose(answer, row, rtol=1e-4, atol=1e-4)
                        }
                        assert fits, "a wrong answer"
                        seen |= fits
                count += 1
            except Exception as error:
                failed = f"{type(error).__name__}: {error}"
    said.put((count, failed, sorted(seen)))


def test_processes_that_read_while_others_change_the_folder(scene: Scene, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    folder = Path(shutil.copytree(scene.whole, tmp_path / "m"))
    stop, said = context.Event(), context.Queue()
    readers = [context.Process(target=_read, args=(str(folder), stop, said)) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    for tag in CHANGES:
        upgrade(folder, Request(reference=tag))
        shed(folder, 3)
        fetch(f"{scene.endpoint.url}:{tag}", folder)
    process = Prepared("upgrade", folder, "--reference", "latest", "--limit-rate", "2Mbps")
    time.sleep(0.3)
    process.send(signal.SIGKILL)
    process.wait()
    stop.set()
    ended = [said.get(timeout=120) for _ in readers]
    for reader in readers:
        reader.join()
    assert [failed for _, failed, _ in ended] == [""] * READERS
    assert all(count > 0 for count, _, _ in ended)
