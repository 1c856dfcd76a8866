"""What is to be delivered, who wants to hear of it, and what came of it: the values around a delivery."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accordion.artifact.ladder import Quality
from accordion.artifact.manifest import Manifest
from accordion.device.link import Link
from accordion.planning import Request
from accordion.planning.links import LinkModel
from accordion.registry.auth import Credentials
from accordion.registry.reference import Reference
from accordion.trust import Trust

__all__ = ["Delivery", "Goal", "Job", "Observer"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a fetch or an upgrade brought. `bytes_received` counts manifest and layers as they were sent; `bytes_reused` what the
    configuration's layers hold that was here before.

    `configuration` is the largest complete one; `ready` holds (configuration, seconds since the call) of each as it became
    complete, beginning with what was there.
    """

    name: str
    manifest: str
    configuration: int
    quality: Quality
    bytes_received: int
    bytes_reused: int
    seconds: float
    deadline_met: bool
    ready: tuple[tuple[int, float], ...]
    events: tuple[tuple[float, int], ...] = field(default=(), repr=False)
    """(seconds, bytes received so far), for a picture."""

    def to_json(self) -> dict[str, Any]:
        """As the commands write it."""
        return {
            "name": self.name,
            "manifest": self.manifest,
            "configuration": self.configuration,
            "quality": self.quality.to_json(),
            "bytes_received": self.bytes_received,
            "bytes_reused": self.bytes_reused,
            "seconds": self.seconds,
            "deadline_met": self.deadline_met,
            "ready": [{"configuration": k, "seconds": seconds} for k, seconds in self.ready],
        }


@dataclass(frozen=True, slots=True)
class Observer:
    """What a caller wants to hear of while bytes arrive; seconds count from the call.

    `ready`: a configuration is whole and may run from the folder; awaited, so let it be quick or start something. `received`:
    seconds and bytes so far. `say`: a line for people.
    """

    ready: Callable[[int, float], Awaitable[None]] | None = None
    received: Callable[[float, int], None] | None = None
    say: Callable[[str], None] = lambda line: None


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be delivered. `to` names the configuration instead of the request's limits.

    `link` shapes the transfer; `believed` is what the caller knows of the link beforehand, where the request itself says nothing of
    it. `started` is the `time.monotonic()` from which the deadline counts. What `trust` does not admit is not installed. Layers
    come as their `alternate` of this encoding where there is one, it is smaller, and what decodes it is installed.
    """

    root: Path
    target: Reference
    request: Request
    to: int | None = None
    link: Link = Link()  # noqa: RUF009  frozen
    believed: LinkModel | None = None
    credentials: Credentials | None = None
    started: float = field(default_factory=time.monotonic)
    trust: Trust | None = None
    alternate: str | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """Configuration `k` of `manifest`, whose first `layers` layers it needs; `sure` unless the deadline is known to be too near."""

    manifest: Manifest
    k: int
    layers: int
    sure: bool = True
