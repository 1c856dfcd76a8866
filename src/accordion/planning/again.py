"""Looking at a plan again while it is carried out, with what has been seen of the link meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accordion.artifact.ladder import Ladder
from accordion.artifact.manifest import Manifest
from accordion.artifact.quality import Quality
from accordion.errors import UnmeetableError
from accordion.planning.arrival import EVEN, Overhead
from accordion.planning.links import LinkModel
from accordion.planning.request import Held, Request
from accordion.planning.table import make_plan

__all__ = ["further", "lower"]

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


def lower(ladder: Ladder, needs: Sequence[int], link: LinkModel, left_s: float, request: Request, worst: Quality) -> int | None:
    """The best of the first configurations of a new version that is whole in `left_s` seconds; None if none is, or none is needed.

    `needs[k]` are the bytes that configuration k still lacks. `worst` is what the device has without the new version: nothing worse
    than that takes its place.
    """
    confidence = request.confidence or EVEN
    allowed = 0.0 if left_s < LEAST_S else link.bytes_within(left_s).guaranteed(confidence)
    if needs[-1] <= allowed:
        return None
    sign = 1.0 if worst.direction == "higher" else -1.0
    fitting = [
        k
        for k, count in enumerate(needs)
        if count <= allowed
        and ladder.configurations[k].quality.comparable(worst)
        and sign * ladder.configurations[k].quality.value >= sign * worst.value
    ]
    return max(fitting, key=lambda k: sign * ladder.configurations[k].quality.value, default=None)
