"""What a plan costs: `python benchmarks/planning.py PACKAGE [-o benchmarks/results/planning.json]`.

Times one plan over the package's ladder for each kind of request, as an endpoint makes them: the table is built once for each
version, a plan is what a request costs. The peer, in the same run and interleaved, is `json.loads` of the same request and
`json.dumps` of the plan, which any answer needs. A package of 55 configurations is made in a minute by

    accordion train --dataset digits --network resnet18-18-19 --epochs 1 -o runs/55
    accordion profile runs/55
    accordion package runs/55 -o packages/55
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accordion.artifact.layout import Layout
from accordion.planning import Held, PlanTable, Request
from accordion.planning.links import link_from

TRACES = Path(__file__).parents[2] / "shared" / "data" / "traces"
ROUNDS, CALLS = 200, 20  # each round times so many calls of each kind, in turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--traces", type=Path, default=TRACES)
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    layout = Layout.open(arguments.package)
    manifest = layout.manifest()
    ladder = layout.ladder(manifest)
    began = time.perf_counter()
    table = PlanTable(manifest, ladder)
    built = time.perf_counter() - began
    kinds = requests(manifest.digest, len(ladder), arguments.traces)
    calls: dict[str, Callable[[], object]] = {name: planned(table, request) for name, request in kinds.items()}
    plan = table.plan("net", kinds["deadline and throughput"])
    text, answer = json.dumps(kinds["deadline and throughput"].to_json()), plan.to_json()
    calls["peer: the request's and the answer's JSON"] = lambda: (json.loads(text), json.dumps(answer))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(CALLS):
                call()
            times[name].append((time.perf_counter() - began) / CALLS * 1e6)
    rows = {
        name: {
            "median_us": round(statistics.median(found), 2),
            "p10_us": round(statistics.quantiles(found, n=10)[0], 2),
            "p90_us": round(statistics.quantiles(found, n=10)[-1], 2),
        }
        for name, found in times.items()
    }
    value: dict[str, Any] = {
        "configurations": len(ladder),
        "layers": len(manifest.layers),
        "table_us": round(built * 1e6, 1),
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load": round(os.getloadavg()[0], 1),
        "requests": rows,
    }
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(value, indent=1) + "\n")
    print(f"{len(ladder)} configurations, {len(manifest.layers)} layers; the table once: {value['table_us']:.0f} µs")
    for name, row in rows.items():
        print(f"{name:45} {row['median_us']:7.1f} µs ({row['p10_us']:.1f} to {row['p90_us']:.1f})")


def planned(table: PlanTable, request: Request) -> Callable[[], object]:
    return lambda: table.plan("net", request)


def requests(digest: str, count: int, traces: Path) -> dict[str, Request]:
    """One request of each kind; the link in a few numbers, as a device puts it into its request."""
    files = [(name, (traces / name).read_bytes(), None) for name in ("lumos5g-4g.jsonl", "tmobile-5g-rtt.jsonl")]
    promised = link_from(files).into(Request(deadline_s=1.0, confidence=0.9))
    return {
        "nothing asked": Request(),
        "deadline and throughput": Request(deadline_s=0.3, throughput_bps=2e7, rtt_s=0.05),
        "least quality": Request(min_quality=0.05),
        "most bytes and MACs": Request(max_bytes=2_000_000, max_macs=100_000_000),
        "an upgrade from the middle": Request(held=Held(digest, count // 2), deadline_s=0.3, throughput_bps=2e7, rtt_s=0.05),
        "most energy": Request(max_energy_j=2.0, throughput_bps=2e7, rtt_s=0.05),
        "a promise over measured traces": promised,
    }


if __name__ == "__main__":
    main()
