"""Kill -9 at random moments of a device, or of an endpoint, and what must be true after each."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from scene import LAST, Endpoint, Prepared, answers, kept, total, weight  # type: ignore[import-not-found]

from accordion.artifact.layout import Layout
from accordion.device import Request, fetch

__all__ = ["KINDS", "Outcome", "Scene", "kill_a_device", "kill_an_endpoint"]

RATE = "1.6Mbps"  # a whole version in a little more than a second
LOOK_S = 0.002
GIVE_UP_S = 120.0
KINDS = ("fetch", "grow", "change", "exchange")
"""What a device is doing: fetching from nothing, fetching more, fetching another version, or putting that in its place."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`moment`: bytes that had come when it was killed, None if it had ended before. `held`: what the folder answered then.

    `known`: bytes of the layers that were there, `received`: what the next fetch brought, `twice`: what of that was there already.
    """

    kind: str
    moment: int | None
    held: tuple[str, int] | None
    known: int
    received: int
    twice: int


@dataclass(frozen=True, slots=True)
class Scene:
    """A package, its endpoint, and two folders to begin with: one that holds a little of `latest`, one that holds all."""

    package: Path
    endpoint: Endpoint
    little: Path
    whole: Path
    manifest_bytes: dict[str, int]

    @classmethod
    def make(cls, package: Path, endpoint: Endpoint, folder: Path) -> Scene:
        """With folders below `folder`."""
        layout = Layout.open(package)
        fetch(f"{endpoint.url}:latest", folder / "little", Request(max_bytes=100_000))  # configuration 1
        sizes = {}
        for tag, place in (("latest", folder / "whole"), ("v2", folder / "other")):
            came = fetch(f"{endpoint.url}:{tag}", place).bytes_received
            sizes[tag] = came - total(layout.manifest(tag))  # what crosses the network beside the layers
        return cls(package, endpoint, folder / "little", folder / "whole", sizes)


def kill_a_device(scene: Scene, kind: str, rng: Random, folder: Path) -> Outcome:
    """One round in `folder`, which is made. AssertionError if anything is not as promised."""
    tag = "v2" if kind in ("change", "exchange") else "latest"
    if kind != "fetch":
        shutil.copytree(scene.little if kind == "grow" else scene.whole, folder, copy_function=shutil.copyfile)
    before, manifest = weight(folder), Layout.open(scene.package).manifest(tag)
    missing = total(manifest) - (kept(folder, manifest) if kind != "fetch" else 0)
    goal = None if kind == "exchange" else int(rng.random() * missing)
    limit = [] if goal is None else ["--limit-rate", RATE]
    process = Prepared("fetch", f"{scene.endpoint.url}:{tag}", "-o", folder, *limit)
    moment = _strike(process, folder, before, goal, rng)
    held = answers(folder, scene.package)
    allowed = {None: ("fetch",), "latest": KINDS, "v2": ("change", "exchange")}
    assert kind in allowed[held[0] if held else None], f"{kind}: the folder holds {held}"
    if kind == "grow":
        assert held is not None and held[1] >= 1
    if kind in ("change", "exchange"):
        assert held in (("latest", LAST), ("v2", LAST)), f"neither the old version nor the new one, but {held}"
    return _finish(scene, kind, tag, folder, moment, held)


def kill_an_endpoint(scene: Scene, rng: Random, folder: Path) -> Outcome:
    """One round: the endpoint dies while a device fetches; it is started again at its port, and the fetch completed."""
    manifest = Layout.open(scene.package).manifest("latest")
    process = Prepared("fetch", f"{scene.endpoint.url}:latest", "-o", folder, "--limit-rate", RATE)
    _wait(process, folder, int(rng.random() * total(manifest)))
    moment = None if process.poll() is not None else weight(folder)
    scene.endpoint.kill()
    code, _, said = process.wait()
    assert code in (0, 1), f"exit code {code}: {said}"
    assert code == 0 or "127.0.0.1" in said
    held = answers(folder, scene.package)
    scene.endpoint.start()
    return _finish(scene, "endpoint", "latest", folder, moment, held)


def _finish(scene: Scene, kind: str, tag: str, folder: Path, moment: int | None, held: tuple[str, int] | None) -> Outcome:
    """The next fetch completes, and nothing comes that was here."""
    manifest = Layout.open(scene.package).manifest(tag)
    known = kept(folder, manifest)
    result = fetch(f"{scene.endpoint.url}:{tag}", folder)
    lacking = total(manifest) - known
    twice = max(0, result.bytes_received - lacking - scene.manifest_bytes[tag])
    assert lacking <= result.bytes_received and not twice, f"{result.bytes_received} bytes came, {lacking} were missing"
    assert answers(folder, scene.package) == (tag, LAST)
    return Outcome(kind, moment, held, known, result.bytes_received, twice)


def _strike(process: Prepared, folder: Path, before: int, goal: int | None, rng: Random) -> int | None:
    """Kills once `goal` bytes have come, or, without one, soon after an exchange of versions was decided."""
    _wait(process, folder, None if goal is None else before + goal)
    time.sleep(rng.random() * (0.02 if goal is not None else 0.005))
    if process.poll() is not None:
        process.wait()
        return None
    process.send()
    process.wait()
    return max(0, weight(folder) - before)


def _wait(process: Prepared, folder: Path, goal: int | None) -> None:
    marker = folder / ".next" / "COMMIT"
    end = time.monotonic() + GIVE_UP_S
    while process.poll() is None and time.monotonic() < end:
        if marker.exists() if goal is None else weight(folder) > goal:
            return
        if goal is not None:
            time.sleep(LOOK_S)
