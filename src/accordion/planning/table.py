"""Choosing a configuration: what each would cost to send, which limits it keeps, and which of those left is best.

Where energy is bounded or scarce, a configuration costs what `energy` says of receiving it in the time expected, and of its
inferences.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import attrgetter

from accordion.artifact.ladder import Ladder
from accordion.artifact.manifest import Descriptor, Manifest
from accordion.artifact.quality import Quality
from accordion.errors import UnmeetableError, UsageError
from accordion.planning.arrival import DEFAULT_THROUGHPUT_BPS, STANDARD_OVERHEAD, Arrival, Overhead, rate_terms
from accordion.planning.energy import ladder_j, radio
from accordion.planning.energy_figures import DEFAULT_RADIO
from accordion.planning.plan import Plan
from accordion.planning.request import Held, Request, RequestError

__all__ = ["DEFAULT_THROUGHPUT_BPS", "Overhead", "PlanTable", "make_plan"]


@dataclass(frozen=True, slots=True)
class _Limit:
    """One limit: `costs[k]` must not exceed `bound`."""

    field: str
    costs: Sequence[float]
    bound: float
    said: str  # the limit for people


class PlanTable:
    """All that planning needs of one version, worked out once: make one for each version and ask it many times.

    Raises:
        FormatError: ladder and manifest contradict each other.
    """

    def __init__(self, manifest: Manifest, ladder: Ladder) -> None:
        ladder.check_against(manifest)
        self.manifest, self.ladder = manifest, ladder
        rungs = ladder.configurations
        sign = 1.0 if rungs[0].quality.direction == "higher" else -1.0
        worse_end = 0 if sign > 0 else 1
        self._sign = sign
        self._layers = [rung.layers for rung in rungs]
        self._repeats = len({layer.digest for layer in manifest.layers}) < len(manifest.layers)
        self._bytes = [rung.bytes for rung in rungs]
        self._macs = [rung.macs for rung in rungs]
        self._inference_j = [joules.value for joules in ladder_j(ladder)]
        # As "badness", so that every limit is an upper one.
        self._badness = [-sign * rung.quality.value for rung in rungs]
        self._cautious_badness = [-sign * rung.quality.interval[worse_end] for rung in rungs]
        self._best_up_to = _best_up_to(self._badness, self._bytes)
        self._any_negative = any(min(rung.quality.value, *rung.quality.interval) < 0 for rung in rungs)

    def __len__(self) -> int:
        """K, the number of configurations."""
        return len(self._bytes)

    def plan(
        self,
        name: str,
        request: Request,
        *,
        held: tuple[Manifest, Ladder] | None = None,
        default_throughput_bps: float = DEFAULT_THROUGHPUT_BPS,
        overhead: Overhead = STANDARD_OVERHEAD,
        at_least: Quality | None = None,
    ) -> Plan:
        """The plan for a request; `held` is the version that `request.held` names, needed when it is another than this one.

        With an upper limit (deadline, bytes, MACs, energy), or none at all, the best quality that the limits allow, ties to the
        fewer bytes; with `min_quality` alone, the fewest bytes that reach it. Quality need not rise with every step, and what
        the device holds costs nothing, so the configuration can lie below the held one: then nothing is sent.

        With `prefer`, of all configurations that are not measurably worse than the best of these (or than `at_least`, where that
        is better), the one that needs least of what is preferred; with `min_quality` alone, of all that reach it.

        Raises:
            UnmeetableError: no configuration keeps all limits; it names one of them, and the nearest plan.
            RequestError: the request makes no sense for this version.
            UsageError: the default throughput is no rate.
        """
        if not 0 < default_throughput_bps < float("inf"):
            raise UsageError(f"a link can't be believed to have {default_throughput_bps:g} bits a second")
        if (plain := self._plain(name, request, overhead, default_throughput_bps)) is not None:
            return plain
        missing, held_index = self._missing(request.held, held)
        ends = self._missing_ends(missing, held_index)
        known = request.held is not None and request.held.manifest == self.manifest.digest
        fixed_bytes = overhead.extra_bytes + (0 if known else self.manifest.size)
        arrival = Arrival.of(
            request, ends, fixed_bytes=fixed_bytes, overhead=overhead, default_throughput_bps=default_throughput_bps
        )
        counted = request.max_energy_j is not None or request.prefer == "energy"
        energies = self._energies(request, ends, fixed_bytes, arrival.expected) if counted else None
        limits = self._limits(request, arrival, ends, energies)
        fitting: Sequence[int] = range(len(ends))
        for limit in limits:
            bound, costs = limit.bound, limit.costs
            fitting = [k for k in fitting if costs[k] <= bound]

        fewest = len(limits) == 1 and limits[0].field == "min_quality"
        order: tuple[Sequence[float], ...] = (ends, self._badness) if fewest else (self._badness, ends)
        if request.prefer is not None:
            scarce: Sequence[float] = ends if request.prefer == "bytes" else self._macs
            if request.prefer == "energy" and energies is not None:
                scarce = energies
            if fitting and not fewest:
                fitting = self._as_good(fitting, at_least)
            order = (scarce, *order)

        def made(k: int) -> Plan:
            rung = self.ladder.configurations[k]
            count = rung.layers
            if missing is None:
                first = 0 if held_index < 0 else self._layers[held_index]
                begin, end = self.manifest.offsets[min(first, count)], rung.bytes
                ranges: tuple[tuple[int, int], ...] = ((begin, end - 1),) if end > begin else ()
                layers = self.manifest.layers[first:count]
            else:
                ranges, layers = self._pieces(missing, count)
            return Plan(
                name=name,
                manifest=self.manifest.digest,
                configuration=k,
                quality=rung.quality,
                bytes_to_send=ends[k],
                bytes_total=rung.bytes,
                expected_s=arrival.expected[k],
                ranges=ranges,
                layers=layers,
                promised=arrival.promised(ends[k]),
                expected_j=None if energies is None else energies[k],
            )

        if fitting:
            return made(_least(fitting, order, held_index))
        limit, near = _failed(limits, range(len(ends)))
        plan = made(_least(near, (limit.costs, *order), held_index))
        raise UnmeetableError(
            f"{limit.field}: no configuration of {name} keeps {limit.said}{' beside the other limits' if len(limits) > 1 else ''}; "
            f"the nearest is configuration {plan.configuration} ({plan.quality.metric} {plan.quality.value:g}, "
            f"{plan.bytes_to_send} bytes to send, {plan.expected_s:.3g} s expected)",
            limit=limit.field,
            nearest=plan.to_json(),
        )

    def fixed_bytes(self, overhead: Overhead) -> int:
        """What travels to a device that holds nothing, beside the layers."""
        return overhead.extra_bytes + self.manifest.size

    def best_within(
        self, terms: tuple[float, float, float], deadline_s: float | None, max_bytes: int | None
    ) -> tuple[int, float] | None:
        """The best configuration that a device which holds nothing has by a deadline and within so many bytes, and when it has it.

        Both bound the bytes, and bytes only grow with the configuration, so the last that fits is found by halving, and the best up
        to it is known beforehand. `terms` are `rate_terms`. None where nothing fits, and where some bytes stand in the version
        twice, which are sent once.
        """
        if self._repeats:
            return None
        setup_s, stream_s, byte_s = terms

        def expected(count: int) -> float:
            return setup_s + (stream_s + count * byte_s if count else 0.0)

        count = len(self._bytes)
        if max_bytes is not None:
            count = bisect_right(self._bytes, max_bytes)
        if deadline_s is not None:
            count = bisect_right(self._bytes, deadline_s, 0, count, key=expected)
        if not count:
            return None
        k = self._best_up_to[count - 1]
        return k, expected(self._bytes[k])

    def _plain(self, name: str, request: Request, overhead: Overhead, default_throughput_bps: float) -> Plan | None:
        """The plan of most requests: a device that holds nothing asks for the best by a deadline, or within so many bytes.

        None where the request says anything else, or nothing fits: then the long way decides.
        """
        if _OTHER_THAN_PLAIN(request) != _NOTHING or self._repeats:
            return None
        throughput_bps, rtt_s = request.throughput_bps or default_throughput_bps, request.rtt_s or 0.0
        terms = rate_terms(throughput_bps, rtt_s, self.fixed_bytes(overhead), overhead)
        if (found := self.best_within(terms, request.deadline_s, request.max_bytes)) is None:
            return None
        k, expected_s = found
        rung = self.ladder.configurations[k]
        return Plan(
            name=name,
            manifest=self.manifest.digest,
            configuration=k,
            quality=rung.quality,
            bytes_to_send=rung.bytes,
            bytes_total=rung.bytes,
            expected_s=expected_s,
            ranges=((0, rung.bytes - 1),) if rung.bytes else (),
            layers=self.manifest.layers[: rung.layers],
        )

    def _missing(self, held: Held | None, version: tuple[Manifest, Ladder] | None) -> tuple[list[bool] | None, int]:
        """Which layers have to be sent (None: all but the first ones, which it holds), and the held configuration or -1."""
        have: set[str] = set()
        same = held is not None and held.manifest == self.manifest.digest
        if not self._repeats and (held is None or same):
            if held is not None:
                _check_held(held, len(self))
            return None, -1 if held is None else held.configuration
        if held is not None:
            manifest, ladder = (self.manifest, self.ladder) if same else version or (None, None)
            if manifest is None or ladder is None or manifest.digest != held.manifest:
                raise RequestError("held.manifest", f"the version {held.manifest} is not known here")
            _check_held(held, len(ladder))
            have = {layer.digest for layer in manifest.layers[: ladder.configurations[held.configuration].layers]}
        missing = []
        for layer in self.manifest.layers:
            missing.append(layer.digest not in have)
            have.add(layer.digest)  # the same bytes at another path are not sent twice
        return missing, held.configuration if held is not None and same else -1

    def _missing_ends(self, missing: list[bool] | None, held_index: int) -> list[int]:
        """Bytes to send for each configuration."""
        if missing is None:
            if held_index < 0:
                return self._bytes
            have = self._bytes[held_index]
            return [count - have if count > have else 0 for count in self._bytes]
        sizes = (layer.size if lacks else 0 for layer, lacks in zip(self.manifest.layers, missing, strict=True))
        sums = list(accumulate(sizes, initial=0))
        return [sums[count] for count in self._layers]

    def _pieces(self, missing: list[bool], count: int) -> tuple[tuple[tuple[int, int], ...], tuple[Descriptor, ...]]:
        """The missing ones of the first `count` layers: as ranges of the stream, neighbours merged, and as layers."""
        ranges: list[tuple[int, int]] = []
        layers: list[Descriptor] = []
        offsets = self.manifest.offsets
        for index in range(count):
            if not missing[index]:
                continue
            layers.append(self.manifest.layers[index])
            start, end = offsets[index], offsets[index + 1] - 1
            if end < start:
                continue
            if ranges and ranges[-1][1] + 1 == start:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((start, end))
        return tuple(ranges), tuple(layers)

    def scarce(self, plan: Plan, prefer: str) -> float:
        """What a plan of this version needs of what is preferred."""
        if prefer == "energy":
            return plan.expected_j or 0.0
        return plan.bytes_to_send if prefer == "bytes" else self._macs[plan.configuration]

    def _energies(self, request: Request, ends: Sequence[int], fixed_bytes: int, expected: Sequence[float]) -> list[float]:
        """Joules for each configuration: receiving what the device lacks, and the inferences. Nothing to send costs nothing."""
        receiver, times = radio(request.radio or DEFAULT_RADIO), request.inferences or 1
        base_w, byte_j = receiver.base_w.value, 8 * receiver.bit_j.value
        return [
            (seconds * base_w + (count + fixed_bytes) * byte_j if count else 0.0) + times * joules
            for count, seconds, joules in zip(ends, expected, self._inference_j, strict=True)
        ]

    def _as_good(self, fitting: Sequence[int], at_least: Quality | None) -> Sequence[int]:
        """Those whose quality lies within the interval of the best, as it was measured, or beyond it."""
        best = min(fitting, key=lambda k: self._badness[k])
        bound = self._cautious_badness[best]
        if at_least is not None:
            bound = min(bound, -self._sign * at_least.interval[0 if self._sign > 0 else 1])
        return [k for k in fitting if self._badness[k] <= bound] or [best]

    def _limits(self, request: Request, arrival: Arrival, ends: Sequence[int], energies: Sequence[float] | None) -> list[_Limit]:
        """The limits given, in the order in which they are blamed: what gives way first stands first."""
        limits = []
        if (wanted := request.min_quality) is not None:
            if wanted < 0 and not self._any_negative:
                metric = self.ladder.configurations[0].quality.metric
                raise RequestError("min_quality", f"{wanted:g} makes no sense: {metric} is never negative here")
            cautious = request.confidence is not None
            said = f"{'a surely measured' if cautious else 'a'} quality of {wanted:g} or better"
            limits.append(_Limit("min_quality", self._cautious_badness if cautious else self._badness, -self._sign * wanted, said))
        if request.deadline_s is not None:
            limits.append(_Limit("deadline_s", arrival.late, arrival.latest, arrival.said))
        if request.max_bytes is not None:
            limits.append(_Limit("max_bytes", ends, request.max_bytes, f"{request.max_bytes} bytes to send"))
        if request.max_macs is not None:
            limits.append(_Limit("max_macs", self._macs, request.max_macs, f"{request.max_macs} multiply-accumulates"))
        if request.max_energy_j is not None and energies is not None:
            limits.append(_Limit("max_energy_j", energies, request.max_energy_j, f"{request.max_energy_j:g} J"))
        return limits


_OTHER_THAN_PLAIN = attrgetter("held", "link", "prefer", "min_quality", "max_macs", "max_energy_j")
_NOTHING = (None,) * 6


def _best_up_to(badness: Sequence[float], ends: Sequence[int]) -> list[int]:
    """For each k, which of 0 to k is best: the least badness, then the fewest bytes, then the lowest."""
    made: list[int] = []
    best = 0
    for k, cost in enumerate(zip(badness, ends, strict=True)):
        if cost < (badness[best], ends[best]):
            best = k
        made.append(best)
    return made


def _check_held(held: Held, count: int) -> None:
    if held.configuration >= count:
        raise RequestError("held.configuration", f"that version has the configurations 0 to {count - 1}, not {held.configuration}")


def _least(indices: Sequence[int], order: Sequence[Sequence[float]], held_index: int) -> int:
    """The index of the least cost; ties are broken by the next costs in `order`, then by keeping what is held, then downwards."""
    for costs in order:
        least = min([costs[k] for k in indices])
        indices = [k for k in indices if costs[k] == least]
    return next((k for k in indices if k >= held_index), indices[0])


def _failed(limits: Sequence[_Limit], indices: Sequence[int]) -> tuple[_Limit, Sequence[int]]:
    """The limit to blame where nothing keeps all, and the configurations among which the nearest is.

    A limit that nothing keeps even alone is to blame before one that only contradicts the others; the device's hard limits
    before its wish for quality. Of limits that contradict each other, the wish for quality gives way first.
    """
    blamed = next((one for one in reversed(limits) if all(one.costs[k] > one.bound for k in indices)), None)
    candidates = limits if blamed is None else [blamed]
    for limit in candidates:
        others = [k for k in indices if all(one.costs[k] <= one.bound for one in limits if one is not limit)]
        if others:
            return limit, others
    return candidates[0], indices


def make_plan(
    name: str,
    manifest: Manifest,
    ladder: Ladder,
    request: Request,
    *,
    held: tuple[Manifest, Ladder] | None = None,
    default_throughput_bps: float = DEFAULT_THROUGHPUT_BPS,
    overhead: Overhead = STANDARD_OVERHEAD,
) -> Plan:
    """One plan, as `PlanTable.plan`, which is quicker where many are made for one version."""
    table = PlanTable(manifest, ladder)
    return table.plan(name, request, held=held, default_throughput_bps=default_throughput_bps, overhead=overhead)
