"""What the clients of `soak.py` have in common: a tally of outcomes, and requests whose answers are held against what is due.

`failed` is what should not have happened: a friendly client that did not get what it was promised, or an answer of 500 or above to
anybody.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from soak_publisher import Publisher  # type: ignore[import-not-found]

from accordion.artifact.manifest import Manifest

__all__ = ["Clients", "Tally", "Unexpected"]


class Unexpected(Exception):  # noqa: N818  becomes a failure in the tally
    """What should not have happened."""


@dataclass(slots=True)
class Tally:
    """Actions by kind and outcome, the first failures in words, and answers by status as the clients saw them."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    skipped: int = 0

    def count(self, kind: str, outcome: str) -> None:
        self.outcomes.setdefault(kind, Counter())[outcome] += 1

    def fail(self, kind: str, error: BaseException) -> None:
        self.count(kind, "failed")
        if len(self.failures) < 100:
            self.failures.append(f"{kind}: {type(error).__name__}: {error}"[:300])

    def answered(self, status: int) -> int:
        self.statuses[status] += 1
        if status >= 500:
            raise Unexpected(f"answered {status}")
        return status


class Clients:
    """Clients of one endpoint, who share a session, a tally and a stream of random numbers."""

    session: aiohttp.ClientSession

    def __init__(self, url: str, publisher: Publisher, zoo: list[str], rng: random.Random, tally: Tally) -> None:
        self.url, self.publisher, self.rng, self.tally = url, publisher, rng, tally
        self.host, port = url.removeprefix("http://").split(":")
        self.port = int(port)
        self.names = [*publisher.names, *zoo]
        self.big = zoo[0]

    async def get(self, path: str, **how: Any) -> tuple[int, bytes, Any]:
        async with self.session.get(self.url + path, **how) as answer:
            body = await answer.read()
            return self.tally.answered(answer.status), body, answer.headers

    def expect(self, status: int, good: tuple[int, ...], name: str, began: float) -> bool:
        """Whether it is good; False for a package that is away at the moment."""
        if status in good:
            return True
        if status == 404 and self.publisher.may_be_gone(name, began):
            return False
        raise Unexpected(f"{name}: answered {status}")

    async def manifest_of(self, name: str, began: float) -> Manifest | None:
        status, body, headers = await self.get(f"/v2/{name}/manifests/latest", headers={"Accept-Encoding": "identity"})
        if not self.expect(status, (200,), name, began):
            return None
        return Manifest.parse(body, digest=headers["Docker-Content-Digest"])
