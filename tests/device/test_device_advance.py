"""The next configuration is made ready beside the one that answers, and takes its place in one step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from accordion.device import Model, Request, fetch, shed, upgrade
from accordion.device.rebuilding import Rebuilder
from accordion.errors import DigestError, UnmeetableError
from chain import WIDTH, K, expected  # type: ignore[import-not-found]

X = np.random.default_rng(7).standard_normal((3, WIDTH)).astype(np.float32)


class Loads:
    """Sessions that were made, by configuration; while `held`, the next one waits in the making."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.made: list[int] = []
        self.go, self.begun = threading.Event(), threading.Event()
        self.go.set()
        real = Model._load

        def load(model: Model, k: int, graph: str) -> Any:
            self.begun.set()
            self.go.wait()
            self.made.append(k)
            return real(model, k, graph)

        patch.setattr(Model, "_load", load)

    @contextmanager
    def held(self, work: Any) -> Iterator[None]:
        """`work` goes on in a thread, and is in the middle of making a session meanwhile."""
        self.go.clear()
        self.begun.clear()
        thread = threading.Thread(target=work)
        thread.start()
        assert self.begun.wait(60)
        try:
            yield
        finally:
            self.go.set()
            thread.join()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    return Loads(monkeypatch)


def answers(model: Model, k: int, seed: int = 0) -> bool:
    return np.allclose(model.run(X)["y"], expected(seed, X, k), rtol=1e-4, atol=1e-4)


def test_what_answers_goes_on_until_the_next_one_is_ready(endpoint: str, tmp_path: Path, loads: Loads) -> None:
    fetch(endpoint, tmp_path / "m", Request(max_bytes=60_000))
    with Model.open(tmp_path / "m") as model:
        assert answers(model, 0)
        upgrade(tmp_path / "m", to=3)
        with loads.held(model.advance):
            assert all(answers(model, 0) for _ in range(5))
            assert model.configuration == 0
        assert answers(model, 3)
        assert loads.made == [0, 3]


def test_another_version_as_well(endpoint: str, tmp_path: Path, loads: Loads) -> None:
    fetch(endpoint, tmp_path / "m")
    with Model.open(tmp_path / "m") as model:
        assert answers(model, K - 1)
        before = model.manifest.digest
        upgrade(tmp_path / "m", Request(reference="v2"))
        with loads.held(model.advance):
            assert answers(model, K - 1)
            assert model.manifest.digest == before
        assert not answers(model, K - 1)
        assert model.manifest.digest != before
        assert loads.made == [K - 1, K - 1]


def test_one_thread_makes_a_session_while_another_answers(endpoint: str, tmp_path: Path, loads: Loads) -> None:
    fetch(endpoint, tmp_path / "m")
    with Model.open(tmp_path / "m") as model:
        assert answers(model, K - 1)
        with loads.held(lambda: model.prepare(2)):
            assert answers(model, K - 1)
        assert loads.made == [K - 1, 2]


def test_two_threads_that_want_the_same_make_it_once(endpoint: str, tmp_path: Path, loads: Loads) -> None:
    fetch(endpoint, tmp_path / "m")
    with Model.open(tmp_path / "m") as model:
        with loads.held(lambda: model.prepare(2)):
            second = threading.Thread(target=model.prepare, args=(2,))
            second.start()
        second.join()
        assert loads.made == [2]


def test_two_sessions_at_most_and_the_running_one_among_them(endpoint: str, tmp_path: Path, loads: Loads) -> None:
    fetch(endpoint, tmp_path / "m", Request(max_bytes=60_000))
    for sessions in (2, 1):
        with Model.open(tmp_path / "m", sessions=sessions) as model:
            shed(tmp_path / "m", 0)
            model.refresh()
            assert answers(model, 0)
            for k in range(1, K):
                upgrade(tmp_path / "m", to=k)
                with loads.held(model.advance):
                    assert answers(model, k - 1)
                assert answers(model, k)
                assert len(model._sessions) == 2
    assert loads.made == [*range(K), *range(K)]


def test_what_can_not_be_made_ready_changes_nothing(endpoint: str, tmp_path: Path, loads: Loads) -> None:
    fetch(endpoint, tmp_path / "m", Request(max_bytes=60_000))
    with Model.open(tmp_path / "m") as model:
        assert answers(model, 0)
        upgrade(tmp_path / "m", to=1)
        segment = tmp_path / "m" / str(model.manifest.layers[model.ladder.configurations[1].layers - 1].path)
        segment.write_bytes(bytes(segment.stat().st_size))
        with pytest.raises(DigestError, match="is corrupt"):
            model.advance()
        assert model.configuration == 0 and answers(model, 0)
        with pytest.raises(UnmeetableError, match="no configuration here runs in 1 "):
            model.advance(max_macs=1)
        assert model.configuration == 0 and answers(model, 0)
        assert loads.made == [0]


def test_limits_choose_what_is_made_ready(endpoint: str, tmp_path: Path, loads: Loads) -> None:
    fetch(endpoint, tmp_path / "m")
    with Model.open(tmp_path / "m") as model:
        few = model.ladder.configurations[1].macs
        assert model.advance(max_macs=few) == 1
        model.run(X, max_macs=few)
        assert model.advance(max_macs=few) == 1
        assert loads.made == [1]


def test_a_model_of_which_nothing_is_whole_has_nothing_to_make_ready(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m", Request(max_bytes=60_000))
    with Model.open(tmp_path / "m") as model:
        rung = model.ladder.configurations[0]
        for layer in model.manifest.layers[1 : rung.layers]:
            model._store.withdraw(model.manifest.layers.index(layer))
        model._store.save()
        assert model.advance() is None
        assert model.configuration is None


@pytest.mark.parametrize("threads", [1, 2])
def test_sessions_without_threads_of_their_own_are_made_at_a_lower_priority(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """What ONNX Runtime does, and only that: what holds the interpreter must not wait for a processor."""
    fetch(endpoint, tmp_path / "m")
    names: list[str] = []
    real, rebuild = onnxruntime.InferenceSession, Rebuilder.rebuild

    def made(*args: Any, **options: Any) -> onnxruntime.InferenceSession:
        names.append(threading.current_thread().name)
        return real(*args, **options)

    def rebuilt(*args: Any) -> Any:
        names.append(threading.current_thread().name)
        return rebuild(*args)

    with Model.open(tmp_path / "m", threads=threads) as model:
        model.prepare(0)
        monkeypatch.setattr(onnxruntime, "InferenceSession", made)
        monkeypatch.setattr(Rebuilder, "rebuild", rebuilt)
        model.advance()
    here = threading.current_thread().name
    assert names == [here, "accordion-lowered" if threads == 1 else here]


def test_graphs_of_one_version_are_followed_once(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(endpoint, tmp_path / "m")
    with Model.open(tmp_path / "m") as model:
        model.run(X)
        asked = []
        real = onnx.shape_inference.infer_node_outputs
        monkeypatch.setattr(onnx.shape_inference, "infer_node_outputs", lambda *a, **b: asked.append(a) or real(*a, **b))
        shed(tmp_path / "m", 2)
        assert model.advance() == 2
        assert answers(model, 2)
    assert asked == []
