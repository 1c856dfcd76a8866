"""Many devices at one endpoint: `python benchmarks/many_devices.py PACKAGE [--devices 1000] [--workers 1] [-o FILE]`.

Every device has a rate (spread evenly over the logarithm from 0.5 to 20 Mbit/s), a deadline (0.3 to 5 s) and a moment at which it
asks (spread over two seconds); it asks for a plan, reads the ranges of the plan no faster than its rate, and checks every layer's
digest. That is the transfer of `accordion fetch` without its disk and its ONNX Runtime, for which a thousand devices would not
share one machine. The endpoint is a process of its own, the devices another, on the same cores.

Reported: how many got what their plan said, how many failed, how many plans could not be met (409: asked for too much), and the
time to configuration 0 and to the planned configuration beyond what plan and rate allow (p50, p99), for slow and fast devices.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import resource
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from servers import accordion  # type: ignore[import-not-found]

from accordion.artifact.layout import Layout
from accordion.device import Link
from accordion.device.link import Shaper

SLOWEST_BPS, FASTEST_BPS = 5e5, 20e6
SHORTEST_S, LONGEST_S = 0.3, 5.0
SPREAD_S = 2.0


@dataclass(slots=True)
class Outcome:
    """What one device saw. Seconds count from its request for a plan."""

    rate_bps: float
    deadline_s: float
    planned: int | None = None
    bytes: int = 0
    first_s: float | None = None
    whole_s: float | None = None
    allowed_first_s: float = 0.0  # what its rate alone takes for configuration 0
    allowed_s: float = 0.0
    failure: str | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    files = max(4096, 2 * arguments.devices)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, most), most))
    layout = Layout.open(arguments.package)
    manifest = layout.manifest()
    ladder = layout.ladder(manifest)
    load = round(os.getloadavg()[0], 1)  # afterwards it would be this benchmark's own, too
    with accordion(str(arguments.package), "--workers", str(arguments.workers)) as endpoint:
        base = f"{endpoint.url}/v2/{arguments.package.name}/_accordion"
        before = endpoint.processor_s()
        began = time.monotonic()
        outcomes = asyncio.run(everyone(base, arguments.devices, ladder.configurations[0].bytes))
        seconds = time.monotonic() - began
        used = endpoint.processor_s() - before
    value = {
        "package": manifest.digest,
        "devices": arguments.devices,
        "workers": arguments.workers,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_before": load,
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip(),
        "seconds": round(seconds, 2),
        "endpoint_processor_s": round(used, 2),
        **summary(outcomes),
    }
    text = json.dumps(value, indent=1)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n")
    print(text)


async def everyone(base: str, count: int, first: int) -> list[Outcome]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120)) as session:
        return list(await asyncio.gather(*(device(session, base, index, count, first) for index in range(count))))


async def device(session: aiohttp.ClientSession, base: str, index: int, count: int, first: int) -> Outcome:
    # Rates, deadlines and moments are spread by different steps through 0..count, so that every rate meets every deadline.
    share, other, moment = index / count, (index * 0.6180339887) % 1, (index * 0.7548776662) % 1
    rate = SLOWEST_BPS * (FASTEST_BPS / SLOWEST_BPS) ** share
    found = Outcome(rate, SHORTEST_S + (LONGEST_S - SHORTEST_S) * other)
    await asyncio.sleep(SPREAD_S * moment)
    began, shaper = time.monotonic(), Shaper(Link(rate, 0.0))
    try:
        request = {"deadline_s": found.deadline_s, "throughput_bps": rate, "rtt_s": 0.0}
        async with session.post(f"{base}/plan", json=request) as answer:
            plan = await answer.json()
        if answer.status == 409:
            return found
        if answer.status != 200:
            raise ValueError(f"the plan was answered {answer.status}")
        found.planned = plan["configuration"]
        found.allowed_first_s, found.allowed_s = first * 8 / rate, plan["bytes_to_send"] * 8 / rate
        layers = list(plan["layers"])
        digest, missing = hashlib.sha256(), layers[0]["size"]
        for start, end in plan["ranges"]:
            headers = {"Range": f"bytes={start}-{end}"}
            async with session.get(f"{base}/stream/{plan['manifest']}", headers=headers) as stream:
                if stream.status != 206:
                    raise ValueError(f"the stream was answered {stream.status}")
                async for piece in shaper.shape(stream.content.iter_any()):
                    found.bytes += len(piece)
                    while piece:
                        part, piece = piece[:missing], piece[missing:]
                        digest.update(part)
                        missing -= len(part)
                        while not missing and layers:
                            layer = layers.pop(0)
                            if f"sha256:{digest.hexdigest()}" != layer["digest"]:
                                raise ValueError("a layer is not what was promised")
                            digest, missing = hashlib.sha256(), layers[0]["size"] if layers else 0
                    if found.first_s is None and found.bytes >= first:
                        found.first_s = time.monotonic() - began
        if layers or found.bytes != plan["bytes_to_send"]:
            raise ValueError(f"{found.bytes} bytes came of {plan['bytes_to_send']}")
        found.whole_s = time.monotonic() - began
    except (TimeoutError, aiohttp.ClientError, ValueError, KeyError) as error:
        found.failure = f"{type(error).__name__}: {error}"
    return found


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    served = [one for one in outcomes if one.whole_s is not None]
    failures = [one.failure for one in outcomes if one.failure]
    middle = (SLOWEST_BPS * FASTEST_BPS) ** 0.5
    groups = {
        "all": served,
        "slow": [one for one in served if one.rate_bps < middle],
        "fast": [one for one in served if one.rate_bps >= middle],
    }
    return {
        "got_what_was_planned": len(served),
        "in_time": sum(one.whole_s <= one.deadline_s for one in served if one.whole_s is not None),
        "could_not_be_met": sum(one.planned is None and one.failure is None for one in outcomes),
        "failed": len(failures),
        "failures": sorted(set(failures))[:10],
        "bytes": sum(one.bytes for one in outcomes),
        "groups": {name: times(found) for name, found in groups.items() if len(found) > 1},
    }


def times(found: list[Outcome]) -> dict[str, Any]:
    first = [one.first_s for one in found if one.first_s is not None]
    late_first = [one.first_s - one.allowed_first_s for one in found if one.first_s is not None]
    late = [one.whole_s - one.allowed_s for one in found if one.whole_s is not None]
    rows = {"first_s": first, "first_beyond_rate_s": late_first, "planned_beyond_rate_s": late}
    return {
        "devices": len(found),
        **{name: {"p50": round(statistics.median(row), 4), "p99": round(percentile(row, 0.99), 4)} for name, row in rows.items()},
    }


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    main()
