"""Is the link the limit of a fetch? `python benchmarks/transfer.py [--rates 10e6 100e6 300e6 1e9] [--sizes 1e6 10e6 100e6]`.

Whole packages come through a paced link (`paced.py`: real TCP connections, a process of its own): fetched, verified, every graph
checked, every layer in its place. The peer, interleaved, is the same HTTP client (aiohttp) that writes the same bytes, the
package's stream, through the same link into one file and checks nothing. Both run in one process that has imported everything
before.

Aimed at: seconds <= 1.05 x bytes / rate + two round trips after the connection's own. `--packages` measures trained packages too.
Rows for the same package and rate in the file of `-o` are replaced, others stay.
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
from paced import paced  # type: ignore[import-not-found]
from packages import write_package  # type: ignore[import-not-found]
from servers import accordion  # type: ignore[import-not-found]

from accordion.artifact.layout import Layout
from accordion.device import Request, fetch
from accordion.planning import make_plan

RATES = (10e6, 100e6, 300e6, 1e9)
SIZES = (1e6, 10e6, 100e6)
RTT_S = 0.02
SEGMENTS = 20
SHARE = 1.05
LONGEST_S = 40.0  # of one cell: what takes longer is repeated less often


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="bits a second (10e6 100e6 300e6 1e9)")
    parser.add_argument("--sizes", type=float, nargs="*", default=SIZES, help="bytes of drawn packages (1e6 10e6 100e6)")
    parser.add_argument("--packages", type=Path, nargs="*", default=(), help="package directories")
    parser.add_argument("--rtt", type=float, default=RTT_S, help="seconds (0.02)")
    parser.add_argument("--repeat", type=int, default=7, help="rounds at most (7)")
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = [write_package(folder / f"drawn-{size / 1e6:g}MB", [int(size / SEGMENTS)] * SEGMENTS) for size in arguments.sizes]
        for package in (*drawn, *arguments.packages):
            with accordion(str(package)) as endpoint:
                for rate in arguments.rates:
                    with paced(endpoint.url, rate, arguments.rtt) as url:
                        rows.append(cell(package, url, rate, arguments.rtt, arguments.repeat, folder))
                        print(line(rows[-1]), file=sys.stderr, flush=True)
    if arguments.out is not None:
        kept = json.loads(arguments.out.read_text()) if arguments.out.exists() else []
        again = {(row["package"], row["rate_bps"]) for row in rows}
        whole = [row for row in kept if (row["package"], row["rate_bps"]) not in again] + rows
        whole.sort(key=lambda row: (row["package"].startswith("drawn"), row["bytes"], row["rate_bps"]))
        arguments.out.write_text(json.dumps(whole, indent=1) + "\n")
    print(HEAD, *map(line, rows), sep="\n")


def cell(package: Path, url: str, rate: float, rtt_s: float, repeat: int, folder: Path) -> dict[str, Any]:
    """One package over one link: seconds of fetches and plain downloads, taking turns."""
    layout = Layout.open(package)
    manifest = layout.manifest()
    ladder = layout.ladder(manifest)
    stream = f"{url}/v2/{package.name}/_accordion/stream/{manifest.digest}"
    # Both get the configuration that the fetches will get, which a plan says before anything is downloaded.
    made = make_plan(package.name, manifest, ladder, Request(throughput_bps=rate, rtt_s=rtt_s))
    size = ladder.configurations[made.configuration].bytes
    rounds = max(1, min(repeat, int(LONGEST_S / (2 * size * 8 / rate))))
    fetched, plain, used, received = [], [], [], 0
    for round_ in range(-1 if size * 8 / rate < LONGEST_S / 8 else 0, rounds):  # what is quick is not counted the first time
        plain_s = asyncio.run(download(stream, size, folder / "stream"))
        with tempfile.TemporaryDirectory(dir=folder) as target:
            before, began = processor_s(), time.monotonic()
            found = fetch(f"{url}/{package.name}", Path(target) / "m", Request(throughput_bps=rate, rtt_s=rtt_s))
            seconds = time.monotonic() - began
        received = found.bytes_received
        if round_ >= 0:
            fetched.append(seconds)
            plain.append(plain_s)
            used.append(processor_s() - before)
    allowed = SHARE * received * 8 / rate + 3 * rtt_s  # the connection's round trip and two more
    return {
        "package": package.name,
        "manifest": manifest.digest,
        "configurations": len(ladder),
        "bytes": received,
        "rate_bps": rate,
        "rtt_s": rtt_s,
        "link_s": received * 8 / rate,
        "allowed_s": allowed,
        "held": statistics.median(fetched) <= allowed,
        "beyond_link": spread([(s - 3 * rtt_s) / (received * 8 / rate) - 1 for s in fetched]),
        "plain_beyond_link": spread([(s - 2 * rtt_s) / (size * 8 / rate) - 1 for s in plain]),
        "fetch_s": fetched,
        "plain_s": plain,
        "fetch_processor_s": statistics.median(used),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip(),
    }


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


async def download(url: str, size: int, target: Path) -> float:
    """Seconds of one plain download of the first `size` bytes into a file."""
    began = time.monotonic()
    async with aiohttp.ClientSession() as session, session.get(url, headers={"Range": f"bytes=0-{size - 1}"}) as answer:
        answer.raise_for_status()
        with target.open("wb") as stream:
            async for piece in answer.content.iter_any():
                stream.write(piece)
    return time.monotonic() - began


def processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


HEAD = "package                bytes  Mbit/s     link     fetch  beyond the link (least to most)  plain, the same        processor"


def line(row: dict[str, Any]) -> str:
    more, plain = row["beyond_link"], row["plain_beyond_link"]
    return (
        f"{row['package']:18} {row['bytes'] / 1e6:7.2f} MB {row['rate_bps'] / 1e6:6g} {row['link_s']:7.3f} s "
        f"{statistics.median(row['fetch_s']):7.3f} s {more['median']:+7.1%} ({more['least']:+.1%} to {more['most']:+.1%}) "
        f"{plain['median']:+7.1%} ({plain['least']:+.1%} to {plain['most']:+.1%}) {row['fetch_processor_s']:6.3f} s "
        f"{'held' if row['held'] else 'missed'}"
    )


if __name__ == "__main__":
    main()
