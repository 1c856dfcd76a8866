"""Who publishes while `soak.py` runs: packages made anew, taken away, brought back, and broken for a while."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from pathlib import Path

from packages import write_package  # type: ignore[import-not-found]

from accordion.artifact.layout import Layout
from accordion.artifact.manifest import Manifest

__all__ = ["PUBLISH_S", "Publisher"]

SIZES = (60_000, 200_000, 400_000)  # bytes of a package's first segments; the last one is another in each version
STEADY, MOVING = 8, 4  # packages that stay, and that come and go
KEPT = 3  # versions whose blobs stay when a newer one comes
PUBLISH_S = 20.0  # between two changes of packages


class Publisher:
    """Packages in a folder: made at first, then published anew, taken away and brought back, and broken for a while."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder, self._rng = folder, rng
        self.names = [f"steady-{k}" for k in range(STEADY)] + [f"team/moving-{k}" for k in range(MOVING)]
        self.versions: dict[str, list[Manifest]] = {name: [] for name in self.names}
        self.away: dict[str, float] = {}  # moving packages that are gone, or broken, and since when
        self.returned: dict[str, float] = {}
        self._made = 0
        for name in self.names:
            self._publish(name)

    def may_be_gone(self, name: str, began: float) -> bool:
        """Whether a package was away at some moment since `began`."""
        return name in self.away or self.returned.get(name, -1e9) >= began - 5.0

    def knows(self, name: str, digest: str) -> bool:
        """Whether the blobs of this version are still there."""
        return name not in self.versions or digest in {one.digest for one in self.versions[name]}

    async def change(self) -> str:
        """One change; says which."""
        for name in list(self.away):
            if time.monotonic() - self.away[name] > PUBLISH_S / 2:
                await asyncio.to_thread(self._bring_back, name)
                self.returned[name] = time.monotonic()
                del self.away[name]
                return "brought back"
        name = self._rng.choice(self.names)
        moving = name not in self.names[:STEADY]
        if moving and self._rng.random() < 0.6:
            self.away[name] = time.monotonic()
            if self._rng.random() < 0.3:
                (self.folder / name / "index.json").write_text("{")  # not in one step, as a careless person would
                return "broken"
            (self.folder / name).rename(self.folder.parent / "away" / name.replace("/", "+"))
            return "taken away"
        await asyncio.to_thread(self._publish, name)
        return "published"

    def _bring_back(self, name: str) -> None:
        aside = self.folder.parent / "away" / name.replace("/", "+")
        if aside.exists():
            aside.rename(self.folder / name)
        else:
            (self.folder / name / "index.json").unlink()
            (self.folder / name / "oci-layout").unlink()
            for left in (self.folder / name).iterdir():
                shutil.rmtree(left)
            self.versions[name] = []
        self._publish(name)

    def _publish(self, name: str) -> None:
        self._made += 1
        path, last = self.folder / name, 300_000 + 256 * (self._made % 1000)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_package(path, [*SIZES, last], seed=self.names.index(name))
        kept = self.versions[name]
        kept.append(Layout.open(path).manifest("latest"))
        for one in kept[:-KEPT]:
            wanted = {layer.digest for other in kept[-KEPT:] for layer in (other.config, *other.layers)}
            for digest in {one.digest, *(layer.digest for layer in (one.config, *one.layers))} - wanted:
                Layout(path).blob_path(digest).unlink(missing_ok=True)
        del kept[:-KEPT]
