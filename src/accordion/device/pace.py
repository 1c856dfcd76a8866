"""What the link has carried in this delivery, and so what it may carry until the deadline."""

from __future__ import annotations

from collections.abc import Callable

from accordion.planning.links import ESTIMATORS, ErrorTable, EstimatedLink, Estimator

__all__ = ["Pace"]

ESTIMATOR = "ewma"
SAMPLE_S = 0.05  # what arrives is taken together over so much time: pieces come in lumps


class Pace:
    """Feeds an estimator with what arrives. Time counts only while a stream flows: waiting for an answer says nothing of the rate.

    `errors` gives the table of the estimator's errors when it is first needed.
    """

    def __init__(self, errors: Callable[[str], ErrorTable], estimator: Estimator = ESTIMATORS[ESTIMATOR]) -> None:
        self._errors = errors
        self.estimator = estimator
        self.rtt_s: float | None = None
        self._since: float | None = None
        self._last = 0.0
        self._count = 0

    def round_trip(self, seconds: float) -> None:
        """A request has taken so long until its answer began: at least one round trip, so the least of them is nearest."""
        if seconds >= 0:
            self.rtt_s = seconds if self.rtt_s is None else min(self.rtt_s, seconds)

    def begin(self) -> None:
        """A stream was asked for: what came before is over, and time counts again from its first piece."""
        self._since, self._count = None, 0

    def received(self, count: int, now: float) -> None:
        """A piece of a stream has arrived at `now` (any clock's seconds; one that goes back says nothing)."""
        if self._since is None:
            self._since = now
            return
        self._count += count
        self._last = now
        if now - self._since >= SAMPLE_S or now < self._since:
            self.estimator = self.estimator.after(self._count, now - self._since)
            self._since, self._count = now, 0

    def link(self) -> EstimatedLink | None:
        """What the link may deliver from now on; None as long as too little is known."""
        estimator = self.estimator
        if self._since is not None and self._count:  # what has come since the last whole sample counts as well
            estimator = estimator.after(self._count, self._last - self._since)
        estimate = estimator.estimate()
        if estimate is None or estimate.rate_bps <= 0:
            return None
        return EstimatedLink(estimate.rate_bps, self._errors(ESTIMATOR), self.rtt_s or 0.0)
