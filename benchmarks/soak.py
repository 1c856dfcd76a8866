"""An endpoint under an hour of mixed light load, watched: `python benchmarks/soak.py [--minutes 60] [--rate 10] [-o FILE]`.

    python benchmarks/soak.py -o benchmarks/results/soak.json --picture benchmarks/results/soak.png
    python benchmarks/soak.py --minutes 2                                     # tried quickly; too short for a slope
    python benchmarks/soak.py --from benchmarks/results/soak.json --picture FILE    # drawn and judged again

`accordion serve` runs in processes of its own over the zoo and a folder of packages; `soak_load.py` and its neighbours say what its
clients do. Memory, descriptors, threads and connections of every process of the endpoint are read every few seconds; its log counts
answers, beside what the clients saw. The verdict: does memory grow after the first quarter (least squares over twelve stretches,
with 95 % interval), are descriptors and threads back to what they were, did a friendly request fail, was anything answered with 500
or more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from documents import put  # type: ignore[import-not-found]
from servers import Server, accordion  # type: ignore[import-not-found]
from trends import block_means, line  # type: ignore[import-not-found]

ROOT = Path(__file__).parents[1]
EVERY_S = 5.0
SETTLE_S = 60.0  # after the load: header time and patience have passed, and every connection that was left is closed
WARM = 0.25  # of the time, before growth counts
STRETCHES = 12
SPARE = 2  # descriptors or threads more than before that are no leak: a thread of a pool, the log being written
COLUMNS = ("rss", "pss", "fds", "threads")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=10.0, help="actions begun a second; one may be several requests")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--document", type=Path, metavar="FILE", help="write the table into it (docs/serving.md)")
    parser.add_argument("--from", dest="given", type=Path, help="a file that -o wrote: judge and draw it, measure nothing")
    arguments = parser.parse_args()
    value = json.loads(arguments.given.read_text()) if arguments.given is not None else measure(arguments)
    value["verdict"] = verdict(value)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(value, separators=(",", ":")) + "\n")
    if arguments.picture is not None:
        picture(value, arguments.picture)
    if arguments.document is not None:
        put(arguments.document, "soak", table(value))
    print(json.dumps({key: one for key, one in value.items() if key != "samples"}, indent=1))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    from soak_load import Load  # type: ignore[import-not-found]
    from soak_publisher import Publisher  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        for part in ("packages", "away", "devices"):
            (folder / part).mkdir()
        publisher = Publisher(folder / "packages", Random(arguments.seed))
        zoo = [path.parent.name for path in sorted((ROOT / "zoo").glob("*/oci-layout"))]
        log = folder / "log"
        options = ("--workers", str(arguments.workers), "--log", "json")
        with log.open("wb") as stderr, accordion(str(folder / "packages"), str(ROOT / "zoo"), *options, stderr=stderr) as endpoint:
            load = Load(endpoint.url, publisher, zoo, folder / "devices", arguments.rate, arguments.seed)
            began = time.time()
            samples, marks = asyncio.run(observed(endpoint, load, arguments.minutes * 60))
        events = [json.loads(row) for row in log.read_text(errors="replace").splitlines() if row.startswith("{")]
        other = [row for row in log.read_text(errors="replace").splitlines() if row and not row.startswith("{")]
    requests = [row for row in events if row.get("event") == "request"]
    tally = load.tally
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT
        ).stdout.strip(),
        "began": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(began)),
        "minutes": arguments.minutes,
        "rate": arguments.rate,
        "workers": arguments.workers,
        "load_average": round(os.getloadavg()[2], 1),
        "actions": {kind: dict(sorted(found.items())) for kind, found in sorted(tally.outcomes.items())},
        "skipped": tally.skipped,
        "failures": tally.failures,
        "statuses_seen": {str(status): count for status, count in sorted(tally.statuses.items())},
        "requests_logged": len(requests),
        "statuses_logged": {str(status): n for status, n in sorted(Counter(row["status"] for row in requests).items())},
        "cut_logged": dict(Counter(row["cut"] for row in requests if "cut" in row)),
        "warnings_logged": Counter(row["event"][:200] for row in events if row.get("level") != "info").most_common(20),
        "other_lines_logged": other[:20],
        "packages_changed": dict(load.changes),
        "marks": marks,
        "columns": COLUMNS,
        "samples": samples,
    }


async def observed(endpoint: Server, load: Any, seconds: float) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Samples from before the load to after it, and when it began and ended, in seconds since the first sample."""
    samples: list[dict[str, Any]] = []
    began = time.monotonic()

    async def watch(for_s: float) -> None:
        end = time.monotonic() + for_s
        while time.monotonic() < end:
            samples.append({"at": round(time.monotonic() - began, 1), **await asyncio.to_thread(sample, endpoint)})
            await asyncio.sleep(EVERY_S)

    await watch(3 * EVERY_S)
    marks = {"load_began": time.monotonic() - began}
    running = asyncio.create_task(load.run())
    await watch(seconds)
    load.stop()
    await running
    marks["load_ended"] = time.monotonic() - began
    print(f"the load has ended after {marks['load_ended']:.0f} s; waiting for the endpoint to settle", file=sys.stderr)
    await watch(SETTLE_S)
    return samples, {name: round(at, 1) for name, at in marks.items()}


def sample(endpoint: Server) -> dict[str, Any]:
    """For each process of the endpoint, by pid: bytes resident, its share of them, descriptors, threads. And all connections."""
    processes = {}
    for pid in endpoint.processes():
        rollup = dict(_rows(Path(f"/proc/{pid}/smaps_rollup")))
        status = dict(_rows(Path(f"/proc/{pid}/status")))
        fds = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        processes[str(pid)] = [_kib(rollup["Rss"]), _kib(rollup["Pss"]), fds, int(status["Threads"])]
    return {"processes": processes, "connections": connections(int(endpoint.url.rpartition(":")[2]))}


def _rows(path: Path) -> list[tuple[str, str]]:
    return [(name, rest.strip()) for name, colon, rest in (row.partition(":") for row in path.read_text().splitlines()) if colon]


def _kib(text: str) -> int:
    return int(text.split()[0]) * 1024


def connections(port: int) -> int:
    """Connections of the endpoint's port that the kernel holds open, or half open, on the endpoint's side."""
    count = 0
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state = row.split()[:4]
        count += int(local.rpartition(":")[2], 16) == port and state not in ("0A", "06")  # listening, or waiting after the end
    return count


def verdict(value: dict[str, Any]) -> dict[str, Any]:
    """What the figures say; see the top of this file."""
    samples, marks = value["samples"], value["marks"]
    rss, pss, fds, threads = (COLUMNS.index(name) for name in COLUMNS)

    def total(column: int, rows: list[dict[str, Any]]) -> list[int]:
        return [sum(one[column] for one in row["processes"].values()) for row in rows]

    before = [row for row in samples if row["at"] < marks["load_began"]]
    after = [row for row in samples if row["at"] > marks["load_ended"]][-3:]
    warm = marks["load_began"] + WARM * (marks["load_ended"] - marks["load_began"])
    steady = [row for row in samples if warm <= row["at"] <= marks["load_ended"]]
    memory: dict[str, Any] = {}
    if len(steady) >= 2 * STRETCHES:
        memory["all, PSS"] = growth([(row["at"], sum(one[pss] for one in row["processes"].values())) for row in steady])
        for pid in steady[0]["processes"]:
            points = [(row["at"], row["processes"][pid][rss]) for row in steady if pid in row["processes"]]
            memory[f"process {list(steady[0]['processes']).index(pid)}, RSS"] = growth(points)
    back = {}
    for name, column in (("descriptors", fds), ("threads", threads)):
        then, now, most = max(total(column, before)), min(total(column, after)), max(total(column, samples))
        back[name] = {"before": then, "after": now, "most": most}
    # Threads of the pools that wait for disks are made when first needed, and stay: bounded, so it is growth that counts.
    half = (warm + marks["load_ended"]) / 2
    early, late = ([row for row in steady if (row["at"] < half) == first] for first in (True, False))
    back["threads"]["more_in_the_last_half"] = max(total(threads, late)) - max(total(threads, early)) if early and late else None
    failed = {kind: found["failed"] for kind, found in value["actions"].items() if "failed" in found}
    answered = {**value["statuses_seen"]}
    errors = max(
        sum(n for status, n in answered.items() if int(status) >= 500),
        sum(n for status, n in value["statuses_logged"].items() if int(status) >= 500),
    )
    grows = [name for name, found in memory.items() if found["mib_an_hour"]["interval"][0] > 0]
    return {
        "memory": memory,
        "memory_grows": grows,
        **back,
        "connections_after": min(row["connections"] for row in after),
        "failed": failed,
        "answers_of_500_or_more": errors,
        "same_processes": set(samples[0]["processes"]) == set(samples[-1]["processes"]),
        "holds": not grows
        and bool(memory)
        and not failed
        and not errors
        and back["descriptors"]["after"] <= back["descriptors"]["before"] + SPARE
        and set(samples[0]["processes"]) == set(samples[-1]["processes"]),
    }


def growth(points: list[tuple[float, float]]) -> dict[str, Any]:
    """MiB an hour over points (seconds, bytes), and the means of the first and the last stretch."""
    means = block_means([(at / 3600, size / 2**20) for at, size in points], STRETCHES)
    return {"mib_an_hour": line(means).to_json(), "first_mib": round(means[0][1], 2), "last_mib": round(means[-1][1], 2)}


def table(value: dict[str, Any]) -> str:
    """Markdown, as docs/serving.md shows it."""
    found = value["verdict"]
    lines = ["| what | seen |", "|---|---|"]
    lines.append(
        f"| asked, in {value['minutes']:g} minutes | {value['requests_logged']} requests, "
        f"{sum(sum(one.values()) for one in value['actions'].values())} actions of {len(value['actions'])} kinds |"
    )
    for name, memory in found["memory"].items():
        slope = memory["mib_an_hour"]
        low, high = slope["interval"]
        lines.append(
            f"| memory, {name}, after a quarter of the time | {memory['first_mib']:.1f} to {memory['last_mib']:.1f} MiB: "
            f"{slope['slope']:+.2f} MiB an hour ({low:+.2f} to {high:+.2f}) |"
        )
    for name in ("descriptors", "threads"):
        row = found[name]
        lines.append(f"| {name}, before, at most, after | {row['before']}, {row['most']}, {row['after']} |")
    lines.append(f"| connections left | {found['connections_after']} |")
    lines.append(f"| answers of 500 or more | {found['answers_of_500_or_more']} |")
    failed = ", ".join(f"{kind}: {count}" for kind, count in found["failed"].items()) or "none"
    lines.append(f"| failed requests of friendly clients | {failed} |")
    changes = ", ".join(f"{count} × {kind}" for kind, count in sorted(value["packages_changed"].items()))
    lines.append(f"| packages meanwhile | {changes} |")
    return "\n".join(lines)


def picture(value: dict[str, Any], path: Path) -> None:
    """Memory of each process, descriptors and connections against time."""
    import matplotlib

    from accordion.pictures.style import COLOURS, GREY, SETTINGS, new_figure, plain

    rss, _, fds, threads = (COLUMNS.index(name) for name in COLUMNS)
    samples, marks = value["samples"], value["marks"]
    minutes = [row["at"] / 60 for row in samples]
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(8, 5.6)
        above, below = figure.subplots(2, 1, sharex=True)
        for index, pid in enumerate(samples[0]["processes"]):
            rows = [row["processes"].get(pid) for row in samples]
            sizes = [float("nan") if row is None else row[rss] / 2**20 for row in rows]
            above.plot(minutes, sizes, color=COLOURS[index % len(COLOURS)], lw=1, label=f"process {index}")
        above.set(ylabel="resident memory, MiB", ylim=(0, None))
        above.legend(fontsize=7, loc="lower right")
        totals = {
            "descriptors": [sum(one[fds] for one in row["processes"].values()) for row in samples],
            "threads": [sum(one[threads] for one in row["processes"].values()) for row in samples],
            "connections": [row["connections"] for row in samples],
        }
        for index, (name, counts) in enumerate(totals.items()):
            below.plot(minutes, counts, color=COLOURS[index], lw=1, label=name)
        below.set(ylabel="of all processes together", xlabel="minutes", ylim=(0, None))
        below.legend(fontsize=7, loc="upper right")
        for axes in (above, below):
            plain(axes)
            for at in marks.values():
                axes.axvline(at / 60, color=GREY, lw=0.6, ls=":")
        figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
