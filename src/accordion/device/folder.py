"""The model folder during a delivery: what it holds, where the new version grows, and when that takes its place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from accordion.artifact.manifest import Manifest
from accordion.device.disk import is_full
from accordion.device.ending import in_thread
from accordion.device.job import Job
from accordion.device.placing import Batch
from accordion.device.state import State
from accordion.device.store import Store
from accordion.errors import ContentError, DigestError, StorageError, UnmeetableError, UsageError
from accordion.planning import Held
from accordion.trust import Proof

__all__ = ["Folder"]

FETCH_AGAIN = ("; fetch it again", ": fetch it again")
"""What messages end with for people who do not fetch already."""


class Folder:
    """`running` is what the folder holds, `store` where the goal grows: the same, or the next version beside it.

    `tell` hears of each configuration that may run now, and of which version it is.
    """

    def __init__(self, job: Job, say: Callable[[str], None], tell: Callable[[str, int], Awaitable[None]]) -> None:
        self.job, self.say, self.tell = job, say, tell
        self.running: Store | None = None
        self.store: Store | None = None
        self.told: set[tuple[str, int]] = set()

    async def take_stock(self) -> None:
        """Looks at what is there; what is broken is forgotten and comes again."""
        try:
            self.running = Store.open(self.job.root)
        except (ContentError, UsageError) as error:
            if (self.job.root / "state.json").exists():
                self.say(f"{_without_advice(error)}: fetching it anew")
            return
        if (trust := self.job.trust) is not None:
            try:
                for warning in trust.vouch(self.running.state.name, self.running.manifest.digest, self.running.proof()):
                    self.say(warning)
            except ContentError as error:
                # Nothing of it may run, but its files may be what the next version needs.
                self.say(f"{_without_advice(error)}: fetching it anew")
                self.running = None
                return
            self.running.provable = True
        if broken := await in_thread(self.running.repair):
            self.say(f"no longer what was fetched, so it comes again: {', '.join(broken[:5])}")
        held = self.held()
        if held is not None and self.running.state.name == self.job.target.name:  # another model's is nothing that was asked for
            await self._tell(held.manifest, held.configuration)

    def held(self) -> Held | None:
        """The largest configuration that may run."""
        if self.running is None:
            return None
        try:
            complete = self.running.complete(self.running.ladder())
        except (ContentError, UnmeetableError):
            return None
        return None if complete is None else Held(self.running.manifest.digest, complete)

    @property
    def growing(self) -> Store:
        """Where the goal grows, once it was chosen."""
        if self.store is None:
            raise RuntimeError("nothing was chosen yet")
        return self.store

    def begin(self, manifest: Manifest, reference: str | None, proof: Proof | None = None) -> None:
        """Chooses where the version grows. `proof` is what vouches for it; left out, what is there does, or nothing has to."""
        if self.store is not None and self.store.manifest.digest == manifest.digest:
            return
        about = {"name": self.job.target.name, "url": self.job.target.base, "reference": reference}
        if self.running is None or self.running.manifest.digest == manifest.digest or self.held() is None:
            self.store = Store.begin(self.job.root, manifest, **about)  # type: ignore[arg-type]
            seen = self.running if self.running is not None and self.running.manifest.digest == manifest.digest else None
            if seen is not None:
                self.store.state = replace(self.store.state, files=seen.state.files)
                self.store.provable = seen.provable
            if proof is not None:
                self.store.keep(proof)
            if seen is None or self.store.provable != seen.provable:  # else `take_stock` has just read every file
                self.store.repair()
            self.running = self.store
        else:
            self.store = self.running.next_version(manifest, **about)  # type: ignore[arg-type]
            if proof is not None:
                self.store.keep(proof)
            self.store.repair()
        self.store.save()

    async def take(self, batch: Batch, check: Callable[[], None] = lambda: None) -> None:
        """Puts verified layers into their place, and tells of each configuration that has become whole with them.

        `check` is called when the ladder has come, and may raise to end the transfer.
        """
        store = self.growing
        whole: list[int] = []
        try:
            await in_thread(partial(self._take, store, batch, check, whole))
        finally:
            if store is self.running:
                for k in whole:
                    await self._tell(store.manifest.digest, k)

    @staticmethod
    def _take(store: Store, batch: Batch, check: Callable[[], None], whole: list[int]) -> None:
        """Fills `whole`; what was placed before something went wrong is remembered all the same.

        On a full disk, what came later makes room for what came earlier, and the transfer ends with that.
        """
        before, written = _complete(store), store.state
        placed: list[int] = []
        full: StorageError | None = None
        try:
            try:
                for index, source in batch:
                    if full is not None and not source.exists():
                        break
                    full = _with_room(store, index, partial(store.add, index, source)) or full
                    placed.append(index)
                    if index == 0:
                        check()
            finally:
                for k in range(before + 1, _complete(store) + 1):
                    store.check_graph(store.ladder(), k)
                    whole.append(k)
        except ContentError:
            _take_back(store, placed, whole[-1] if whole else before)
            raise
        finally:
            full = _remember(store, placed, whole, written) or full
        if full is not None:
            raise full

    async def arrived(self) -> None:
        """The goal is whole: another version takes its place now."""
        store = self.growing
        if store is not self.running:
            ladder = store.ladder()
            k = store.complete(ladder)
            if k is None:
                raise DigestError(f"{store.root} lacks what was fetched: the disk lost it")
            await asyncio.to_thread(store.check_configuration, ladder, k)  # which changes nothing: it may be left
            store.save(k)
            try:
                await in_thread(partial(self._exchange, store))
            finally:
                if self.running is self.store:  # also where a deadline struck meanwhile: it is what is there now
                    await self._tell(store.manifest.digest, k)
        else:
            k = store.complete(store.ladder())
            store.save(k)
            if k is not None and (store.manifest.digest, k) not in self.told:
                await self._tell(store.manifest.digest, k)

    def _exchange(self, store: Store) -> None:
        self.running = self.store = store.exchange()

    async def _tell(self, digest: str, k: int) -> None:
        self.told.add((digest, k))
        await self.tell(digest, k)


def _with_room(store: Store, index: int, write: Callable[[], None]) -> StorageError | None:
    """Writes; on a full disk again, as often as something that arrived after layer `index` can go. The error, if there was one."""
    full: StorageError | None = None
    while True:
        try:
            write()
            return full
        except StorageError as error:
            if not is_full(error) or not store.make_room(index):
                raise
            full = error


def _take_back(store: Store, placed: list[int], last: int) -> None:
    """Takes the newest layers out again until `last` is the largest complete configuration: what broke a rule would else be taken
    for the best that is there.
    """
    while placed and _complete(store) > last:
        store.withdraw(placed.pop())


def _remember(store: Store, placed: list[int], whole: list[int], written: State) -> StorageError | None:
    """Saves the state; if need be, without the newest layers of the batch. The error, if the disk was full.

    Where it can't be saved at all, what was `written` before is what is there, for this delivery as for all others.
    """
    full: StorageError | None = None
    while True:
        try:
            last = placed[-1] if placed else -1
            return _with_room(store, last, lambda: store.save(whole[-1] if whole else None)) or full
        except StorageError as error:
            if not is_full(error) or not placed:
                store.state = written
                whole.clear()
                raise
            full = error
            store.withdraw(placed.pop())
            while whole and whole[-1] > _complete(store):
                whole.pop()


def _complete(store: Store) -> int:
    """The largest complete configuration; -1 where there is none."""
    k = None if store.missing(1) else store.complete(store.ladder())
    return -1 if k is None else k


def _without_advice(error: Exception) -> str:
    text = str(error)
    return next((text.removesuffix(end) for end in FETCH_AGAIN if text.endswith(end)), text)
