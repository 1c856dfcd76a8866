"""Files that describe links, as text: which kind it is, and what it says. Reading the disk is somebody else's work.

Five kinds are told apart by their content:

- JSON lines with `mbps`: measured rates, one trace a line (`{id, dt_s, mbps: […]}`, Mbit/s; also `connect_rtt_ms`);
- JSON lines with `rtt_ms`: measured round trips in milliseconds, `null` where none came back;
- CSV with `downlink_mbps` and `latency_ms`: speed tests;
- Mahimahi: a line for each 1500-byte packet that may pass, the milliseconds at which it may;
- the link file of this project: one JSON object with `accordion_link: 1`.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from accordion.artifact.strict_json import parse_object
from accordion.errors import FormatError, UsageError
from accordion.planning.links.model import ConstantLink, LinkModel, RateLink
from accordion.planning.links.trace import LEAST_DT_S, Trace, TraceLink

__all__ = ["FILE_LIMIT", "Found", "LinkError", "link_from", "parse_link_file", "parse_mahimahi", "to_mahimahi"]

FILE_LIMIT = 256 * 2**20  # bytes of a file that describes a link
LINE_LIMIT = 64 * 2**20
MOST_TRACES = 100_000
PACKET_BYTES = 1500  # what one line of a Mahimahi trace stands for
MAHIMAHI_DT_S = 0.1  # in intervals of this, opportunities are counted
_FIELDS = {
    "constant": ("throughput_bps", "rtt_s"),
    "distribution": ("throughput_bps", "rtt_s", "weights"),
    "estimate": ("throughput_bps", "rtt_s", "errors"),
    "traces": ("traces", "rtt_s", "fresh"),
}


class LinkError(UsageError):
    """A file that describes no link: where, and what is wrong."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one file says: rates in one of three forms, or round trips alone."""

    link: LinkModel | None = None
    traces: tuple[Trace, ...] = ()
    rtts_s: tuple[float, ...] = field(default=())


def link_from(files: Sequence[tuple[str, bytes, str | None]], *, fresh: bool = True) -> LinkModel:
    """One link from files given as (name for people, content, selection), which together say its rates and round trips.

    A selection is the id of a trace, or for speed tests `carrier/radio[/connections]`. Of several traces the link is one whose
    trace was not measured (`fresh`, see `TraceLink`); of a single one, that one. Files of round trips lend them to the others.

    Raises:
        LinkError: a file makes no sense, or together they give no link.
    """
    found = [parse_link_file(content, name, choice) for name, content, choice in files]
    links = [one.link for one in found if one.link is not None]
    traces = tuple(trace for one in found for trace in one.traces)
    pool = tuple(value for one in found for value in one.rtts_s)
    names = " and ".join(name for name, _, _ in files)
    if len(links) + bool(traces) != 1:
        raise LinkError(f"{names}: {'there are only round trips, no rates' if not links else 'name one link, not several kinds'}")
    if traces:
        return TraceLink(traces, pool or (0.0,), fresh=fresh and len(traces) > 1)
    return with_round_trips(links[0], pool) if pool else links[0]


def with_round_trips(link: LinkModel, rtts_s: Sequence[float]) -> LinkModel:
    """The same rates with these round trips, instead of what it says of them itself."""
    if isinstance(link, ConstantLink):
        return RateLink((link.rate_bps,) * len(rtts_s), tuple(rtts_s)) if len(rtts_s) > 1 else replace(link, rtt_s=rtts_s[0])
    if isinstance(link, RateLink):
        return replace(link, rtts_s=tuple(rtts_s))
    if isinstance(link, TraceLink):
        return link.with_round_trips(rtts_s)
    raise LinkError("this link takes no other round trips")


def parse_link_file(content: bytes, name: str, choice: str | None = None) -> Found:
    """What one file says; `choice` selects of it. LinkError if it is none of the kinds, or breaks the rules of its kind."""
    if len(content) > FILE_LIMIT:
        raise LinkError(f"{name} has {len(content)} bytes, more than the {FILE_LIMIT} allowed")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise LinkError(f"{name} is no text: a link is described by JSON, JSON lines, CSV or a Mahimahi trace") from None
    if not text.strip():
        raise LinkError(f"{name} is empty")
    try:
        if text.lstrip().startswith("{"):
            return _json(text, name, choice)
        if "downlink_mbps" in text.partition("\n")[0]:
            return _speed_tests(text, name, choice)
        return Found(traces=(parse_mahimahi(text, name),))
    except LinkError:
        raise
    except UsageError as error:
        raise LinkError(f"{name}: {error}") from error


def parse_mahimahi(text: str, name: str, dt_s: float = MAHIMAHI_DT_S) -> Trace:
    """Packet opportunities, counted in intervals of `dt_s`. The trace lasts until the interval of the last one ends."""
    moments: list[int] = []
    before = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not (word := line.strip()):
            continue
        if not (word.isascii() and word.isdigit() and len(word) < 13):
            raise LinkError(
                f"{name}, line {number}: {word[:40]!r} is no number of milliseconds (nor is this any other file of a link)"
            )
        if (moment := int(word)) < before:
            raise LinkError(f"{name}, line {number}: {moment} ms comes after {before} ms, but time does not run backwards")
        moments.append(before := moment)
    if not moments or not moments[-1]:
        raise LinkError(f"{name} is a trace that takes no time")
    if not LEAST_DT_S <= dt_s < float("inf"):
        raise LinkError(f"{name}: the intervals of a trace can't be {dt_s:g} s long")
    step_ms = dt_s * 1000
    count = math.floor(moments[-1] / step_ms) + 1
    if count > 10**8:
        raise LinkError(f"{name} takes {moments[-1] / 1000:.3g} s: too long for a trace")
    packets = np.bincount(np.floor(np.asarray(moments) / step_ms).astype(np.int64), minlength=count)
    return Trace(name, dt_s, packets.astype(np.float64) * (PACKET_BYTES * 8 / dt_s))


def to_mahimahi(trace: Trace) -> str:
    """The trace as Mahimahi's packet opportunities: one wherever another half packet more than before has crossed.

    The format knows no end but its last opportunity, so an outage at the end is lost.
    """
    total = int(trace.edges[-1] / PACKET_BYTES + 0.5)
    if not total:
        raise UsageError(f"trace {trace.name} lets no packet pass")
    wanted = (np.arange(total) + 0.5) * PACKET_BYTES
    # The interval in which each falls, which is one in which something crosses, and the moment within it.
    index = np.minimum(np.searchsorted(trace.edges, wanted, side="right"), len(trace.rates_bps)) - 1
    while np.any(idle := trace.rates_bps[index] <= 0):  # the last one, if the trace ends with an outage
        index = np.where(idle, index - 1, index)
    moments = (index + (wanted - trace.edges[index]) * 8 / (trace.rates_bps[index] * trace.dt_s)) * trace.dt_s
    return "".join(f"{math.floor(moment * 1000 + 1e-6)}\n" for moment in moments)


def _json(text: str, name: str, choice: str | None) -> Found:
    try:
        whole = parse_object(text.encode(), name, FILE_LIMIT)
    except FormatError as error:
        if "\n" not in text.strip():
            raise LinkError(str(error)) from error
    else:
        if "accordion_link" in whole:
            return _own(whole, name, choice)
    return _lines(text, name, choice)


def _lines(text: str, name: str, choice: str | None) -> Found:
    traces, pool, names = [], [], []
    for where, row in _objects(text, name):
        identity = row.get("id", where)
        if not isinstance(identity, str) or len(identity) > 1000:
            raise LinkError(f"{where}: 'id' is not a text")
        names.append(identity)
        if choice is not None and identity != choice:
            continue
        if "mbps" in row:
            traces.append(_trace(row, identity, where))
        elif "rtt_ms" in row:
            pool += [value / 1e3 for value in _numbers(row, "rtt_ms", where, nulls=True)]
        else:
            raise LinkError(f"{where} has neither 'mbps' nor 'rtt_ms': it is no trace")
    if not traces and not pool:
        known = f"; there are {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
        raise LinkError(f"{name} has no trace {choice!r}{known}" if choice is not None else f"{name} holds no measurement")
    return Found(traces=tuple(traces), rtts_s=tuple(pool))


def _objects(text: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        if number > MOST_TRACES:
            raise LinkError(f"{name} has more than {MOST_TRACES} traces")
        try:
            yield where, parse_object(line.encode(), where, LINE_LIMIT)
        except FormatError as error:
            raise LinkError(str(error)) from error


def _trace(row: dict[str, Any], identity: str, where: str) -> Trace:
    dt = row.get("dt_s")
    if isinstance(dt, bool) or not isinstance(dt, int | float) or not 0 < dt < 1e6:
        raise LinkError(f"{where}: 'dt_s' is not a number of seconds above 0")
    rates = np.asarray(_numbers(row, "mbps", where)) * 1e6
    rtts = tuple(value / 1e3 for value in _numbers(row, "rtt_ms", where, nulls=True)) if "rtt_ms" in row else ()
    if not rtts and row.get("connect_rtt_ms") is not None:
        rtts = tuple(value / 1e3 for value in _numbers({"connect_rtt_ms": [row["connect_rtt_ms"]]}, "connect_rtt_ms", where))
    try:
        return Trace(identity, float(dt), rates, rtts)
    except UsageError as error:
        raise LinkError(f"{where}: {error}") from error


def _numbers(row: dict[str, Any], key: str, where: str, *, nulls: bool = False) -> list[float]:
    values = row[key]
    if not isinstance(values, list):
        raise LinkError(f"{where}: {key!r} is not a list of numbers")
    made = []
    for value in values:
        if value is None and nulls:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
            raise LinkError(f"{where}: {key!r} holds {str(value)[:40]!r}, not a number from 0 up")
        made.append(float(value))
    return made


def _speed_tests(text: str, name: str, choice: str | None) -> Found:
    rows = csv.DictReader(text.splitlines(), strict=True)
    wanted = choice.split("/") if choice is not None else []
    rates, rtts = [], []
    kinds: set[str] = set()
    try:
        for number, row in enumerate(rows, 2):
            kind = [str(row.get(key) or "") for key in ("carrier", "radio_type", "connections")]
            kinds.add("/".join(kind))
            if any(asked not in ("*", have) for asked, have in zip(wanted, kind, strict=False)):
                continue
            rates.append(_cell(row, "downlink_mbps", f"{name}, line {number}") * 1e6)
            rtts.append(_cell(row, "latency_ms", f"{name}, line {number}") / 1e3)
    except csv.Error as error:
        raise LinkError(f"{name}: {error}") from error
    if not rates:
        known = f"; there are {', '.join(sorted(kinds)[:12])}"
        raise LinkError(f"{name} has no test of {choice!r}{known}" if choice is not None else f"{name} holds no test")
    return Found(link=RateLink(tuple(rates), tuple(rtts)))


def _cell(row: dict[str, Any], key: str, where: str) -> float:
    text = str(row.get(key))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e12:
        raise LinkError(f"{where}: {key!r} holds {text[:40]!r}, not a number from 0 up")
    return value


def _own(data: dict[str, Any], name: str, choice: str | None) -> Found:
    if data["accordion_link"] != 1:
        raise LinkError(f"{name} is a link file of version {str(data['accordion_link'])[:40]!r}; this program reads 1")
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise LinkError(f"{name}: 'kind' is not one of {', '.join(_FIELDS)}")
    for key in data:
        if key not in ("accordion_link", "kind", *_FIELDS[kind]):
            raise LinkError(f"{name}: a link of kind {kind} has no {str(key)[:60]!r}; there are {', '.join(_FIELDS[kind])}")
    if choice is not None and kind != "traces":
        raise LinkError(f"{name} holds no traces, so there is no {choice!r} in it")
    pool = tuple(_several(data, "rtt_s", name)) if data.get("rtt_s") is not None else (0.0,)
    if kind == "traces":
        return _own_traces(data, name, choice, pool if data.get("rtt_s") is not None else ())
    rates = _several(data, "throughput_bps", name)
    if kind == "constant":
        if len(rates) != 1 or len(pool) != 1:
            raise LinkError(f"{name}: a constant link has one throughput and one round trip")
        return Found(link=ConstantLink(rates[0], pool[0]))
    if kind == "distribution":
        weights = tuple(_several(data, "weights", name)) if data.get("weights") is not None else None
        return Found(link=RateLink(tuple(rates), pool, weights))
    if len(rates) != 1:
        raise LinkError(f"{name}: an estimate has one throughput")
    errors = _several(data, "errors", name, least=-1.0)
    if min(errors) <= -1:
        raise LinkError(f"{name}: 'errors' are shares of what really was, so they lie above -1")
    return Found(link=RateLink(tuple(rates[0] / (1 + error) for error in errors), pool))


def _own_traces(data: dict[str, Any], name: str, choice: str | None, pool: tuple[float, ...]) -> Found:
    rows, fresh = data.get("traces"), data.get("fresh", True)
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_TRACES or not all(isinstance(row, dict) for row in rows):
        raise LinkError(f"{name}: 'traces' is not a list of traces")
    if not isinstance(fresh, bool):
        raise LinkError(f"{name}: 'fresh' is neither true nor false")
    found = _lines("\n".join(json.dumps(row) for row in rows), name, choice)
    if not found.traces:
        raise LinkError(f"{name}: 'traces' holds no rates")
    several = fresh and len(found.traces) > 1
    return Found(link=TraceLink(found.traces, pool or found.rtts_s or (0.0,), fresh=several))


def _several(data: dict[str, Any], key: str, name: str, *, least: float = 0.0) -> list[float]:
    value = data.get(key)
    values: list[Any] = value if isinstance(value, list) else [value]
    for one in values:
        if isinstance(one, bool) or not isinstance(one, int | float) or not least <= one < 1e18:
            raise LinkError(f"{name}: {key!r} holds {str(one)[:40]!r}, not a number from {least:g} up")
    if not values:
        raise LinkError(f"{name}: {key!r} is empty")
    return [float(one) for one in values]
