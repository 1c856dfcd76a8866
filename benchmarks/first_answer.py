"""When does a device answer, and how well: Accordion against plain download of the whole float32 model.

    python benchmarks/first_answer.py PACKAGE INPUTS.npy [--repeat 3] [-o benchmarks/results/first_answer.json]

Both sides go through the same shaped link (token bucket, 50 ms round trips) in one process, one after the other and interleaved:
the peer is one ONNX file with the complete network's weights inside, from a static file server, written to disk, loaded and run. An
answer is the logits for the first of INPUTS. Accordion's time is from the call of fetch to these logits by configuration 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import onnx
import onnxruntime
from aiohttp import web

from accordion.artifact.layout import Layout
from accordion.cli.demo_steps import Endpoint, Steps
from accordion.device import Fetch, Link, Model, Request, fetch, upgrade
from accordion.device.link import Shaper
from accordion.errors import UnmeetableError

RATES = (1e6, 10e6, 100e6)
RTT_S = 0.05
DEADLINES_S = (0.3, 1.0)


def whole_model(source: str, folder: Path) -> Path:
    """The complete network as one file, as it would be shipped without Accordion."""
    fetch(source, folder / "complete")
    with Model.open(folder / "complete") as model:
        last = len(model.ladder) - 1
    upgrade(folder / "complete", to=last)
    with Model.open(folder / "complete") as model:
        graph = folder / "complete" / model.ladder.configurations[-1].graph
    target = folder / "whole.onnx"
    onnx.save(onnx.load(str(graph), load_external_data=True), str(target))
    return target


async def plain(url: str, link: Link, target: Path, x: Any) -> tuple[float, int]:
    """Seconds until the answer, bytes."""
    began, shaper, count = time.monotonic(), Shaper(link), 0
    async with aiohttp.ClientSession() as session:
        await shaper.round_trip()  # connect
        await shaper.round_trip()  # ask
        async with session.get(url) as answer:
            with target.open("wb") as stream:
                async for piece in shaper.shape(answer.content.iter_any()):
                    count += len(piece)
                    stream.write(piece)
    onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"]).run(None, {"input": x})
    return time.monotonic() - began, count


async def progressive(source: str, link: Link, folder: Path, x: Any) -> tuple[float, float, int]:
    """Seconds until the first answer, until the complete network is there, bytes."""
    began, first = time.monotonic(), 0.0
    async with Fetch(source, folder, Request(throughput_bps=link.rate_bps, rtt_s=link.rtt_s), link=link) as delivery:
        async for k, _seconds in delivery:
            if not first:
                with Model.open(folder) as model:
                    await asyncio.to_thread(model.run, x, k)
                first = time.monotonic() - began
    return first, delivery.result.seconds, delivery.result.bytes_received


async def within(source: str, link: Link, folder: Path, deadline_s: float) -> dict[str, Any]:
    request = Request(deadline_s=deadline_s, throughput_bps=link.rate_bps, rtt_s=link.rtt_s)
    try:
        async with Fetch(source, folder, request, link=link) as delivery:
            async for _ in delivery:
                pass
        found = delivery.result
    except UnmeetableError:
        return {"configuration": None, "quality": None, "bytes": None}
    return {"configuration": found.configuration, "quality": found.quality.value, "bytes": found.bytes_received}


async def measure(source: str, package: Path, x: Any, repeat: int) -> dict[str, Any]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = await asyncio.to_thread(whole_model, source, folder)
        runner = web.AppRunner(web.Application())
        runner.app.router.add_static("/", folder)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/{whole.name}"
        for rate in RATES:
            link = Link(rate, RTT_S)
            plains, firsts, totals, sent, peer_bytes = [], [], [], 0, 0
            for round_ in range(repeat):
                seconds, peer_bytes = await plain(url, link, folder / "copy.onnx", x)
                first, total, sent = await progressive(source, link, folder / f"m{rate:g}-{round_}", x)
                plains.append(seconds)
                firsts.append(first)
                totals.append(total)
                print(
                    f"{rate / 1e6:g} Mbps: plain {seconds:.3f} s, first answer {first:.3f} s, complete {total:.3f} s",
                    file=sys.stderr,
                )
            ratios = sorted(p / f for p, f in zip(plains, firsts, strict=True))
            arrived = {}
            for deadline in DEADLINES_S:
                arrived[f"{deadline:g}"] = await within(source, link, folder / f"d{rate:g}-{deadline:g}", deadline)
            rows.append(
                {
                    "rate_bps": rate,
                    "rtt_s": RTT_S,
                    "plain_s": plains,
                    "plain_bytes": peer_bytes,
                    "first_answer_s": firsts,
                    "complete_s": totals,
                    "complete_bytes": sent,
                    "times_sooner": {"min": ratios[0], "median": statistics.median(ratios), "max": ratios[-1]},
                    "within_deadline": arrived,
                }
            )
        await runner.cleanup()
    return {
        "package": Layout.open(package).manifest().digest,
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "repeat": repeat,
        "rows": rows,
    }


def commit() -> str:
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    x = np.load(arguments.inputs)[:1].astype(np.float32)
    with Endpoint(Steps(sys.stderr), str(arguments.package)) as endpoint:
        found = asyncio.run(measure(f"{endpoint.url}/{arguments.package.name}", arguments.package, x, arguments.repeat))
    text = json.dumps(found, indent=1)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")
    print("rate      plain     first answer   times sooner (min to max)   within 0.3 s            within 1 s")
    for row in found["rows"]:
        cells = []
        for deadline in DEADLINES_S:
            got = row["within_deadline"][f"{deadline:g}"]
            cells.append("nothing" if got["configuration"] is None else f"{got['configuration']}, quality {got['quality']:.3f}")
        ratio = row["times_sooner"]
        plain_s, first_s = statistics.median(row["plain_s"]), statistics.median(row["first_answer_s"])
        print(
            f"{row['rate_bps'] / 1e6:>4g} Mbps {plain_s:7.3f} s {first_s:9.3f} s "
            f"{ratio['median']:10.1f} ({ratio['min']:.1f} to {ratio['max']:.1f}) {cells[0]:>24} {cells[1]:>24}"
        )


if __name__ == "__main__":
    main()
