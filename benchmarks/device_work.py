"""What the device does beside waiting for the link: `python benchmarks/device_work.py PACKAGE [--rate 100e6] [--repeat 7]`.

Fetches the whole package through a shaped link (token bucket, round trips) and compares with what the link alone takes: bytes ÷
rate + three round trips (the connection, the plan, the stream). The peer, interleaved in the same process, downloads the package's
stream as one plain file through the same link: what any client on this machine takes more than the link does. All that comes is
verified, every graph checked, every layer put into its place.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from accordion.artifact.layout import Layout
from accordion.cli.demo_steps import Endpoint, Steps
from accordion.device import Link, Request, fetch
from accordion.device.link import Shaper

ROUND_TRIPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--rate", type=float, default=100e6, help="bits a second (100e6)")
    parser.add_argument("--rtt", type=float, default=0.05, help="seconds (0.05)")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    link = Link(arguments.rate, arguments.rtt)
    layout = Layout.open(arguments.package)
    manifest = layout.manifest()
    rows: list[dict[str, float]] = []
    with Endpoint(Steps(sys.stderr), str(arguments.package)) as endpoint, tempfile.TemporaryDirectory() as name:
        base = f"{endpoint.url}/{arguments.package.name}"
        stream = f"{endpoint.url}/v2/{arguments.package.name}/_accordion/stream/{manifest.digest}"
        for round_ in range(-1, arguments.repeat):  # the first, in which everything is imported, does not count
            peer_s, peer_bytes = asyncio.run(download(stream, link, Path(name) / "stream"))
            before = processor_s()
            began = time.monotonic()
            found = fetch(base, Path(name) / f"m{round_}", Request(throughput_bps=link.rate_bps, rtt_s=link.rtt_s), link=link)
            seconds = time.monotonic() - began
            row = {
                "fetch_s": seconds,
                "fetch_bytes": found.bytes_received,
                "fetch_link_s": found.bytes_received * 8 / arguments.rate + ROUND_TRIPS * arguments.rtt,
                "fetch_processor_s": processor_s() - before,
                "peer_s": peer_s,
                "peer_link_s": peer_bytes * 8 / arguments.rate + 2 * arguments.rtt,
            }
            if round_ >= 0:
                rows.append(row)
    more = {name: [row[f"{name}_s"] / row[f"{name}_link_s"] - 1 for row in rows] for name in ("fetch", "peer")}
    value: dict[str, Any] = {
        "package": manifest.digest,
        "rate_bps": arguments.rate,
        "rtt_s": arguments.rtt,
        "bytes": rows[0]["fetch_bytes"],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip(),
        "beyond_the_link": {
            name: {"median": statistics.median(of), "least": min(of), "most": max(of)} for name, of in more.items()
        },
        "rows": rows,
    }
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(value, indent=1) + "\n")
    print(f"{rows[0]['fetch_bytes'] / 1e6:.2f} MB at {arguments.rate / 1e6:g} Mbit/s, round trips of {arguments.rtt * 1e3:g} ms")
    for name, found_ in value["beyond_the_link"].items():
        print(f"{name:6} {found_['median']:+.1%} beyond the link ({found_['least']:+.1%} to {found_['most']:+.1%})")
    print(f"processor seconds of a fetch: {statistics.median(row['fetch_processor_s'] for row in rows):.3f}")


async def download(url: str, link: Link, target: Path) -> tuple[float, int]:
    """Seconds and bytes of one plain download into a file."""
    began, shaper, count = time.monotonic(), Shaper(link), 0
    async with aiohttp.ClientSession() as session:
        await shaper.round_trip()  # connect
        await shaper.round_trip()  # ask
        async with session.get(url) as answer:
            answer.raise_for_status()
            with target.open("wb") as stream:
                async for piece in shaper.shape(answer.content.iter_any()):
                    count += len(piece)
                    stream.write(piece)
    return time.monotonic() - began, count


def processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
