"""When does a device answer, and how well: Accordion against plain download of the whole float32 model.

    python benchmarks/first_answer.py --package zoo/resnet56-cifar10 [zoo/resnet56-cifar10-compact …] [--inputs INPUTS.npy]
        [--rates 1e6 10e6 100e6] [--error 0.6] [--repeat 3] [-o benchmarks/results/first_answer.json]

The first package is the float32 one; others are smaller forms of the same network. All go through the same shaped link (token
bucket, 50 ms round trips) in one process, interleaved: the peer is one ONNX file with the complete network's
weights inside, from a static file server, written to disk, loaded and run. An answer is the logits for the first of INPUTS (drawn
numbers, if left out). Accordion's time is from the call of fetch to these logits by the first configuration that arrives with at
most the error of `--error` (left out: by configuration 0); its error is what the ladder states.
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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import onnx
import onnxruntime
from aiohttp import web

from accordion.artifact.ladder import Ladder, Quality
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


async def progressive(source: str, link: Link, folder: Path, x: Any, least: int) -> tuple[float, float, int]:
    """Seconds until the first answer by configuration `least` or a larger one, until all is there, bytes."""
    began, first = time.monotonic(), 0.0
    async with Fetch(source, folder, Request(throughput_bps=link.rate_bps, rtt_s=link.rtt_s), link=link) as delivery:
        async for k, _seconds in delivery:
            if not first and k >= least:
                with Model.open(folder) as model:
                    await asyncio.to_thread(model.run, x, k)
                first = time.monotonic() - began
    return first, delivery.result.seconds, delivery.result.bytes_received


def ladder_of(package: Path) -> Ladder:
    layout = Layout.open(package)
    return layout.ladder(layout.manifest())


def error_of(quality: Quality) -> float:
    return 1 - quality.value if quality.direction == "higher" else quality.value


def good_enough(ladder: Ladder, error: float | None) -> int:
    """The first configuration with at most this error."""
    found = [rung.index for rung in ladder.configurations if error is None or error_of(rung.quality) <= error]
    if not found:
        raise SystemExit(f"no configuration has an error of at most {error:g}")
    return found[0]


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


async def measure(sources: list[str], arguments: argparse.Namespace, x: Any) -> dict[str, Any]:
    """A row for each rate and package."""
    packages: list[Path] = arguments.package
    ladders = [ladder_of(package) for package in packages]
    least = [good_enough(ladder, arguments.error) for ladder in ladders]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = await asyncio.to_thread(whole_model, sources[0], folder)
        runner = web.AppRunner(web.Application())
        runner.app.router.add_static("/", folder)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/{whole.name}"
        for rate in arguments.rates:
            link = Link(rate, RTT_S)
            plains, peer_bytes = [], 0
            told: list[list[tuple[float, float, int]]] = [[] for _ in packages]
            for round_ in range(arguments.repeat):
                seconds, peer_bytes = await plain(url, link, folder / "copy.onnx", x)
                plains.append(seconds)
                for index, source in enumerate(sources):
                    told[index].append(await progressive(source, link, folder / f"m{index}-{rate:g}-{round_}", x, least[index]))
                firsts = ", ".join(f"{rows_[-1][0]:.3f} s" for rows_ in told)
                print(f"{rate / 1e6:g} Mbps: plain {seconds:.3f} s, first answers {firsts}", file=sys.stderr)
            for index, package in enumerate(packages):
                ratios = sorted(p / first for p, (first, _, _) in zip(plains, told[index], strict=True))
                rung = ladders[index].configurations[least[index]]
                arrived = {}
                for deadline in DEADLINES_S:
                    target = folder / f"d{index}-{rate:g}-{deadline:g}"
                    arrived[f"{deadline:g}"] = await within(sources[index], link, target, deadline)
                rows.append(
                    {
                        "package": package.name,
                        "manifest": Layout.open(package).manifest().digest,
                        "rate_bps": rate,
                        "rtt_s": RTT_S,
                        "plain_s": plains,
                        "plain_bytes": peer_bytes,
                        "answers_by": {"configuration": rung.index, "bytes": rung.bytes, "quality": rung.quality.to_json()},
                        "error": error_of(rung.quality),
                        "first_answer_s": [first for first, _, _ in told[index]],
                        "complete_s": [total for _, total, _ in told[index]],
                        "complete_bytes": told[index][-1][2],
                        "times_sooner": {"min": ratios[0], "median": statistics.median(ratios), "max": ratios[-1]},
                        "within_deadline": arrived,
                    }
                )
        await runner.cleanup()
    return {
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "most_error": arguments.error,
        "repeat": arguments.repeat,
        "rows": rows,
    }


def commit() -> str:
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, nargs="+", required=True, help="the float32 package, and smaller forms of it")
    parser.add_argument("--inputs", type=Path, help=".npy; its first row is asked about")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="bits a second (1e6 10e6 100e6)")
    parser.add_argument("--error", type=float, help="the most error that an answer may come with, such as 0.6")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        sources = []
        for package in arguments.package:
            endpoint = stack.enter_context(Endpoint(Steps(sys.stderr), str(package)))
            sources.append(f"{endpoint.url}/{package.resolve().name}")
        (spec,) = ladder_of(arguments.package[0]).inputs_of(0)
        shape = [1, *(1 if isinstance(size, str) else size for size in spec.shape[1:])]
        x = np.random.default_rng(0).random(shape) if arguments.inputs is None else np.load(arguments.inputs)[:1]
        found = asyncio.run(measure(sources, arguments, x.astype(np.float32)))
    text = json.dumps(found, indent=1)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")
    print("package                       rate       plain      answer by k (error)   first answer  times sooner (min to max)")
    for row in found["rows"]:
        ratio, plain_s, first_s = row["times_sooner"], statistics.median(row["plain_s"]), statistics.median(row["first_answer_s"])
        print(
            f"{row['package']:26} {row['rate_bps'] / 1e6:>4g} Mbps {plain_s:8.3f} s {row['answers_by']['configuration']:10} "
            f"({row['error']:.2%}) {first_s:13.3f} s {ratio['median']:10.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})"
        )
        for deadline in DEADLINES_S:
            got = row["within_deadline"][f"{deadline:g}"]
            what = (
                "nothing" if got["configuration"] is None else f"configuration {got['configuration']}, quality {got['quality']:.3f}"
            )
            print(f"    within {deadline:g} s: {what}")


if __name__ == "__main__":
    main()
