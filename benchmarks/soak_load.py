"""The load of `soak.py`: actions of friendly and hostile clients, drawn by weight, and somebody who publishes meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
from soak_clients import Tally  # type: ignore[import-not-found]
from soak_friendly import Friendly  # type: ignore[import-not-found]
from soak_hostile import BAD_REQUESTS, Hostile  # type: ignore[import-not-found]
from soak_publisher import PUBLISH_S, Publisher  # type: ignore[import-not-found]

__all__ = ["Load"]

AT_ONCE = 300  # actions; what would be more is not begun, and counted
ANSWER_S = 60.0  # for one answer, on a busy machine


class Load:
    """Begins an action about `rate` times a second until it is stopped."""

    def __init__(self, url: str, publisher: Publisher, zoo: list[str], folder: Path, rate: float, seed: int) -> None:
        self.publisher, self.rate, self.rng = publisher, rate, random.Random(seed)
        self.tally = Tally()
        self.friendly = Friendly(url, publisher, zoo, self.rng, self.tally, folder)
        self.hostile = Hostile(url, publisher, zoo, self.rng, self.tally)
        self.changes: Counter[str] = Counter()
        self._going: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """No new actions; those under way end."""
        self._stopping.set()

    async def run(self) -> None:
        """Returns when it was stopped and all actions have ended."""
        # Idle connections are given up before the endpoint closes them: a request that is on its way just then is lost, and nobody
        # may repeat a POST without knowing what it does.
        connector = aiohttp.TCPConnector(limit=60, keepalive_timeout=10)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as session:
            self.friendly.session = self.hostile.session = session
            publishing = asyncio.create_task(self._publish())
            actions = self._actions()
            kinds, weights = list(actions), [weight for weight, _ in actions.values()]
            while not self._stopping.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), self.rng.expovariate(self.rate))
                    break
                if len(self._going) >= AT_ONCE:
                    self.tally.skipped += 1
                    continue
                kind = self.rng.choices(kinds, weights)[0]
                task = asyncio.create_task(self._act(kind, actions[kind][1]))
                self._going.add(task)
                task.add_done_callback(self._going.discard)
            publishing.cancel()
            await asyncio.gather(publishing, *self._going, return_exceptions=True)

    async def _publish(self) -> None:
        while True:
            await asyncio.sleep(PUBLISH_S * self.rng.uniform(0.5, 1.5))
            try:
                self.changes[await self.publisher.change()] += 1
            except Exception as error:  # a soak in which nothing changes any more would say too much
                self.tally.fail("publishing", error)

    async def _act(self, kind: str, action: Callable[[], Awaitable[str]]) -> None:
        try:
            self.tally.count(kind, await action())
        except Exception as error:  # whatever it is, it is what the soak is for
            self.tally.fail(kind, error)

    def _actions(self) -> dict[str, tuple[float, Callable[[], Awaitable[str]]]]:
        kind, cruel = self.friendly, self.hostile
        return {
            "plan": (30, kind.plan),
            "manifest": (8, kind.manifest),
            "whole blob": (8, kind.blob),
            "stream": (6, lambda: kind.stream(cut=False)),
            "stream, cut and resumed": (8, lambda: kind.stream(cut=True)),
            "lists": (6, kind.lists),
            "health, metrics": (4, kind.health),
            "device": (8, kind.device),
            "unknown name": (4, cruel.unknown),
            "bad path": (6, cruel.bad_path),
            "bad plan": (5, cruel.bad_plan),
            "bad HTTP": (3, lambda: cruel.raw(self.rng.choice(BAD_REQUESTS))),
            "wrong method": (1, cruel.wrong_method),
            "body too long": (1, cruel.long_body),
            "many ranges": (1, cruel.many_ranges),
            "left open": (1, lambda: cruel.lingering(b"")),
            "slow head": (1, lambda: cruel.lingering(b"GET /v2/ HTTP/1.1\r\n", b"X-Slow: 1\r\n")),
            "slow body": (1, cruel.slow_body),
            "slow reader": (1, cruel.slow_reader),
        }
