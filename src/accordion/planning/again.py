"""Looking at a plan again while it is carried out, with what has been seen of the link meanwhile."""

from __future__ import annotations

from dataclasses import replace

from accordion.artifact.ladder import Ladder
from accordion.artifact.manifest import Manifest
from accordion.artifact.quality import Quality
from accordion.errors import UnmeetableError
from accordion.planning.arrival import Overhead
from accordion.planning.links import LinkModel
from accordion.planning.request import Held, Request
from accordion.planning.table import make_plan

__all__ = ["further", "not_worse"]

LEAST_S = 0.02  # with less time left there is nothing to plan
ANOTHER = Overhead(setup_round_trips=0.0)  # the connection stands: one round trip for the next stream


def further(
    name: str,
    manifest: Manifest,
    ladder: Ladder,
    request: Request,
    held: Held,
    link: LinkModel,
    left_s: float,
    sent: int,
) -> int | None:
    """The better configuration that still arrives in `left_s` seconds, or None. All limits of the request hold on.

    `sent` bytes were sent already, which `max_bytes` bounds together with what follows. The link's `confidence` is the request's.
    """
    if left_s < LEAST_S:
        return None
    room = None if request.max_bytes is None else request.max_bytes - sent
    if room is not None and room < 1:
        return None
    asked = replace(request, deadline_s=left_s, held=held, max_bytes=room, throughput_bps=None, rtt_s=None, link=None)
    try:
        plan = make_plan(name, manifest, ladder, link.into(asked, round_trips=1.0), overhead=ANOTHER)
    except UnmeetableError:
        return None
    return plan.configuration if plan.bytes_to_send else None


def not_worse(quality: Quality, than: Quality) -> bool:
    """Whether a quality is as good as another by the same metric, or better; False where they can't be compared."""
    sign = 1.0 if than.direction == "higher" else -1.0
    return quality.comparable(than) and sign * quality.value >= sign * than.value
