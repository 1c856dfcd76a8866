"""What faults happen to: two versions of a small package, endpoints and devices as real processes, and what must hold after."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np

from accordion.artifact.digest import file_digest
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import Manifest
from accordion.device import Model, verify_model
from accordion.device.exchange import INCOMING, NEXT
from accordion.device.state import State
from accordion.errors import ContentError, UnmeetableError, UsageError
from chain import WIDTH, K, add_version, weights  # type: ignore[import-not-found]
from serving import address_of, start_serving  # type: ignore[import-not-found]

LAST = K - 1
SHARED = 2  # matrices that both versions begin with
SEEDS = {"latest": 0, "v2": 2}
X = np.random.default_rng(3).standard_normal((2, WIDTH)).astype(np.float32)
END_S = 120.0  # a bound for busy machines, not a measurement


def make_package(folder: Path) -> Path:
    """The package `chain` with the versions `latest` and `v2`."""
    add_version(folder / "chain", "latest", 0)
    add_version(folder / "chain", "v2", SEEDS["v2"], shared=SHARED)
    return folder / "chain"


class Endpoint:
    """`accordion serve` over a package, which can be killed and started again at the same port."""

    def __init__(self, *packages: Path) -> None:
        self.packages, self.port = packages, 0
        self.process: Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the (first) package is."""
        return f"http://127.0.0.1:{self.port}/{self.packages[0].name}"

    def start(self) -> None:
        """Returns when it answers."""
        with tempfile.TemporaryFile() as said:
            self.process = start_serving(said, *self.packages, port=self.port)
            self.port = int(address_of(self.process, said).rpartition(":")[2])

    def kill(self) -> None:
        """As the kernel kills: no chance to tidy up."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """In good order."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(END_S)


_PREPARED = multiprocessing.get_context("forkserver")


class Prepared:
    """A command of the device in a process of its own that has its libraries already, so that it begins at once."""

    def __init__(self, *arguments: object) -> None:
        self._said, self._answer = tempfile.NamedTemporaryFile(), tempfile.NamedTemporaryFile()  # noqa: SIM115
        _PREPARED.set_forkserver_preload(["accordion.cli.app", "accordion.device", "onnx", "onnxruntime"])
        words = [*map(str, arguments), "--json"]
        self._process = _PREPARED.Process(target=_command, args=(words, self._answer.name, self._said.name))
        self._process.start()

    def poll(self) -> int | None:
        """The exit code, once there is one."""
        return self._process.exitcode

    def send(self, number: int = signal.SIGKILL) -> None:
        """A signal to it."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self) -> tuple[int, bytes, str]:
        """Exit code, answer, and the last line that it said to people. An error if there is a traceback."""
        self._process.join(END_S)
        code = self._process.exitcode
        assert code is not None, "it does not end"
        with self._answer, self._said:
            return code, self._answer.read(), last_line(self._said.read())


def _command(arguments: list[str], answer: str, said: str) -> None:
    from accordion.cli import main

    for number, path in ((1, answer), (2, said)):
        os.dup2(os.open(path, os.O_WRONLY), number)
    sys.exit(main(arguments))


def run(*arguments: object) -> tuple[int, bytes, str]:
    """Exit code, answer, and the last line that a command of the device says."""
    return Prepared(*arguments).wait()


def last_line(said: bytes) -> str:
    """What a person reads last."""
    text = said.decode()
    assert "Traceback" not in text, text
    return text.strip().splitlines()[-1] if text.strip() else ""


def expected(tag: str, k: int) -> Any:
    """What configuration `k` of a version answers."""
    x = X
    for w in [*weights(0)[:SHARED], *weights(SEEDS[tag])[SHARED:]][: k + 1]:
        x = x + x @ w
    return x


def answers(folder: Path, package: Path) -> tuple[str, int] | None:
    """Which version the folder holds, and up to which configuration it answers, rightly; None if it does not yet.

    An assertion if anything there is wrong: a wrong answer, two versions mixed, a problem that verification finds.
    """
    try:
        model = Model.open(folder)
    except (ContentError, UnmeetableError, UsageError):
        return None
    with model:
        last = model.configuration
        problems = verify_model(folder)
        if last is None:
            assert all("lacks" in line or "no ladder" in line for line in problems), problems
            return None
        assert problems == []
        layout = Layout.open(package)
        (tag,) = [tag for tag in SEEDS if layout.manifest(tag).digest == model.manifest.digest]
        for k in {0, last}:
            np.testing.assert_allclose(model.run(X, k)["y"], expected(tag, k), rtol=1e-4, atol=1e-4)
    return tag, last


def kept(root: Path, manifest: Manifest) -> int:
    """Bytes of a version's layers that are in a folder, in their place or on their way: what must not come again."""
    total = 0
    for place in (root / NEXT, root):
        try:
            state = State.parse((place / "state.json").read_bytes(), "state.json")
        except (OSError, ContentError):
            continue
        held = {entry.layer for entry in state.files.values()}
        if state.manifest == manifest.digest:
            for layer in manifest.layers:
                coming = place / INCOMING / layer.digest.removeprefix("sha256:")
                there = layer.digest in held or (layer.path is not None and is_file(place / layer.path, layer.digest))
                total += layer.size if there else coming.stat().st_size if coming.is_file() else 0
            return total
        if place == root:
            return sum(layer.size for layer in manifest.layers if layer.digest in held)
    return total


def is_file(path: Path, digest: str) -> bool:
    """Whether the file is there with this content."""
    return path.is_file() and file_digest(path) == digest


def weight(root: Path) -> int:
    """Bytes of all files below a folder, those of one content by two names counted once."""
    seen: dict[int, int] = {}
    waiting = [str(root)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        found = entry.stat(follow_symlinks=False)
                        seen[found.st_ino] = found.st_size
        except OSError:
            continue
    return sum(seen.values())


def total(manifest: Manifest, count: int | None = None) -> int:
    """Bytes of the first `count` layers, or of all."""
    return sum(layer.size for layer in manifest.layers[:count])
