"""Time and memory of every operation against size: `python benchmarks/growth.py [-o FILE] [--picture FILE]`.

    python benchmarks/growth.py --prepare --scratch /dev/shm/growth          # makes the packages, which takes longest
    python benchmarks/growth.py --scratch /dev/shm/growth --part bytes -o benchmarks/results/growth.json
    python benchmarks/growth.py --largest 64MB --longest 25 --most 100       # all of it, small and quick
    python benchmarks/growth.py --from benchmarks/results/growth.json --picture benchmarks/results/growth.png

Three parts, each varying one size: the *bytes* of a package (eight configurations, the first and the last of 100 kB), the
configurations of a *ladder* (20 kB each), and the packages of a *catalog* (three configurations; blobs are hard links). Every
figure comes from a process of its own, after the same operation on the smallest; files lie in memory (/dev/shm) where there is such
a place, so that the program is measured and not the disk. Times are the median of a few; peaks of memory are above what the process
held before, and the smallest of a few. What was measured is written after each figure, so that a call may be cut off.

What is said of growth is the exponent of a power fitted to the largest sizes, where the fixed cost of an operation no longer hides
it, with its 95 % interval: 0 is no growth, 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from documents import put  # type: ignore[import-not-found]
from packages import write_package  # type: ignore[import-not-found]
from trends import Trend, power, scales  # type: ignore[import-not-found]

from accordion.units import parse_bytes

ROOT = Path(__file__).parents[1]
BYTES = (1, 4, 16, 64, 128, 256, 512, 1024, 2048)  # MB
LADDERS = (3, 6, 12, 25, 50, 100, 200)
CATALOGS = (1, 10, 100, 312, 1000, 3160, 10_000)
EDGE = 100_000  # bytes of the first and the last segment of a package that is large
RUNG = 20_000  # bytes of each segment of a ladder that is long
UPPER = {"bytes": 32, "ladder": 8, "catalog": 32}  # the fit looks at sizes from the largest divided by this on
LEAST_PEAK = 2**20  # bytes: less than that is the allocator's business, and counts as this
REPEAT = 3
ONCE = 128_000_000  # bytes: larger packages are measured once
OVER_HTTP = "plan over HTTP"
PARTS = ("bytes", "ladder", "catalog")
# What is allowed: the exponent of time, where it is not 1, and of memory.
_CONSTANT = {
    "bytes": ("open", "plan", "first answer", "load at the endpoint", "plan over HTTP"),
    "catalog": ("reload of one", "plan over HTTP", "reload of one over HTTP"),
}
TIME_MOST = {(part, name): 0.0 for part, names in _CONSTANT.items() for name in names}
# The graphs of a ladder of K have K (K + 1) / 2 links of the chain between them, one graph for each configuration (decision 1). Who
# checks them all has so much to do, and is held against that.
ALL_GRAPHS = ("verify", "whole fetch", "upgrade from the smallest")
MEMORY_MOST = {"bytes": 0.0, "ladder": 1.0, "catalog": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; the others stay as -o has them")
    parser.add_argument("--only", action="append", metavar="OPERATION", help="only this operation")
    parser.add_argument("--largest", type=parse_bytes, default=2_048_000_000, metavar="SIZE", help="package (2048MB)")
    parser.add_argument("--longest", type=int, default=200, metavar="K", help="ladder (200)")
    parser.add_argument("--most", type=int, default=10_000, metavar="N", help="packages in a catalog (10000)")
    parser.add_argument("--repeat", type=int, default=REPEAT)
    parser.add_argument("--scratch", type=Path, help="where packages are made, and found again; left out: made, and removed")
    parser.add_argument("--prepare", action="store_true", help="make the packages, measure nothing")
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--document", type=Path, metavar="FILE", help="write the tables into it (docs/serving.md)")
    parser.add_argument("--from", dest="given", type=Path, help="a file that -o wrote: judge and draw it, measure nothing")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.only or ()) - operations()):
        parser.error(f"there is no operation {unknown[0]!r}: choose {', '.join(sorted(operations()))}")
    value: dict[str, Any] = {"parts": {}}
    known = arguments.given or arguments.out
    if known is not None and known.exists():
        value = json.loads(known.read_text())
    if arguments.given is None:
        with scratch(arguments.scratch) as folder:
            for part in arguments.part or PARTS:
                sizes = sizes_of(part, arguments)
                prepare(folder / part, part, sizes)
                if not arguments.prepare:
                    measure(folder, part, sizes, arguments, value)
    write(value, None if arguments.prepare else arguments.out)
    if arguments.picture is not None:
        picture(value, arguments.picture)
    tables = "\n\n".join(table(part, value["parts"][part]) for part in PARTS if part in value["parts"])
    print(tables)
    if arguments.document is not None:
        put(arguments.document, "growth", tables)


def operations() -> set[str]:
    """The names of all that is measured."""
    from growth_catalog import NAMES  # type: ignore[import-not-found]
    from growth_operations import OPERATIONS  # type: ignore[import-not-found]

    return {*OPERATIONS, OVER_HTTP, *NAMES}


def sizes_of(part: str, arguments: argparse.Namespace) -> list[int]:
    """The sizes of a part, up to what was asked for."""
    every, most = {
        "bytes": ([size * 1_000_000 for size in BYTES], arguments.largest),
        "ladder": (LADDERS, arguments.longest),
        "catalog": (CATALOGS, arguments.most),
    }[part]
    return [size for size in every if size <= most]


@contextmanager
def scratch(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="growth-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        yield Path(name)


# Packages -------------------------------------------------------------------------------------------------------------------


def prepare(folder: Path, part: str, sizes: list[int]) -> None:
    """Makes what is not there yet."""
    for size in sizes:
        path = folder / f"{size}"
        if (path / "done").exists():
            continue
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        print(f"making {part} {size}", file=sys.stderr)
        if part == "bytes":
            write_package(path / "net", [EDGE, *[max(EDGE, size - 2 * EDGE) // 6] * 6, EDGE])
        elif part == "ladder":
            write_package(path / "net", [RUNG] * size)
        else:
            make_catalog(path, size)
        (path / "done").touch()


def make_catalog(path: Path, count: int) -> None:
    """`count` packages over the same blobs."""
    first = write_package(path / "template" / "net", [10_000, 20_000, 30_000])
    blobs = list((first / "blobs" / "sha256").iterdir())
    for index in range(count):
        package = path / "packages" / f"net-{index:05}"
        (package / "blobs" / "sha256").mkdir(parents=True)
        for blob in blobs:
            os.link(blob, package / "blobs" / "sha256" / blob.name)
        for name in ("oci-layout", "index.json"):
            shutil.copyfile(first / name, package / name)


# Measuring ------------------------------------------------------------------------------------------------------------------


def write(value: dict[str, Any], out: Path | None) -> None:
    """With what the figures say, by what is now allowed."""
    for part, found in value["parts"].items():
        found["fits"] = {name: judged(part, name, row) for name, row in found["operations"].items()}
    if out is not None:
        out.write_text(json.dumps(value, separators=(",", ":")) + "\n")


def measure(folder: Path, part: str, sizes: list[int], arguments: argparse.Namespace, value: dict[str, Any]) -> None:
    """Fills a part of `value`; an operation that is measured again begins anew."""
    from growth_catalog import measure_catalog  # type: ignore[import-not-found]

    before = value["parts"].get(part, {"operations": {}})["operations"]
    rows: dict[str, dict[str, list[list[float]]]] = {}
    value["parts"][part] = {
        "operations": before,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT
        ).stdout.strip(),
        "load": round(os.getloadavg()[0], 1),
        "files_in_memory": str(folder.resolve()).startswith("/dev/shm/"),
    }

    def note(operation: str, size: int, seconds: float, peak_bytes: float | None, processor_s: float = 0.0) -> None:
        row = [float(f"{seconds:.4g}"), peak_bytes or 0, float(f"{processor_s:.4g}")]
        rows.setdefault(operation, {}).setdefault(str(size), []).append(row)
        value["parts"][part]["operations"] = before | rows
        write(value, arguments.out)
        memory = "" if peak_bytes is None else f", {peak_bytes / 2**20:.1f} MiB"
        print(f"{part} {size}: {operation}: {seconds:.4g} s, {processor_s:.4g} s of a processor{memory}", file=sys.stderr)

    if part == "catalog":
        measure_catalog(folder / part, sizes, arguments.repeat, arguments.only, note)
    else:
        measure_packages(folder, part, sizes, arguments, note)


def measure_packages(folder: Path, part: str, sizes: list[int], arguments: argparse.Namespace, note: Any) -> None:
    import onnx  # noqa: F401  so that no fork has to
    import onnxruntime  # noqa: F401
    from growth_operations import OPERATIONS, Stage, asked_plans, empty, in_a_fork  # type: ignore[import-not-found]
    from servers import accordion, stock_registry  # type: ignore[import-not-found]

    turn = 0
    for size in sizes:
        with ExitStack() as stack:
            small = stack.enter_context(accordion(str(folder / part / str(sizes[0]) / "net")))
            endpoint = stack.enter_context(accordion(str(folder / part / str(size) / "net")))
            registry = stack.enter_context(stock_registry(empty(folder / "registry")))
            for name, operation in OPERATIONS.items():
                if (arguments.only and name not in arguments.only) or (name == "push" and registry is None):
                    continue
                for _ in range(1 if part == "bytes" and size > ONCE else arguments.repeat):
                    turn += 1
                    places = [empty(folder / "work" / f"{kind}-{turn}") for kind in ("warm", "work")]
                    stages = [
                        Stage(folder / part / str(which) / "net", place, server.url, registry)
                        for which, place, server in zip((sizes[0], size), places, (small, endpoint), strict=True)
                    ]
                    endpoint.forget_peak()
                    held = endpoint.resident_bytes()
                    found = in_a_fork((operation, stages[0]), (operation, stages[1]))
                    peak = endpoint.peak_bytes() - held if name == "stream" else found.peak_bytes
                    note(name, size, found.seconds, peak, found.processor_s)
                    shutil.rmtree(folder / "work")
            if not arguments.only or OVER_HTTP in arguments.only:
                stage = Stage(folder / part / str(size) / "net", folder, endpoint.url, None)
                for _ in range(arguments.repeat):
                    note(OVER_HTTP, size, statistics.median(asked_plans(stage)), None)
        shutil.rmtree(folder / "registry", ignore_errors=True)


# Saying it ------------------------------------------------------------------------------------------------------------------


def judged(part: str, name: str, row: dict[str, list[list[float]]]) -> dict[str, Any]:
    """The exponents over the largest sizes, and whether they keep to what is allowed.

    Times of what checks all graphs of a ladder are held against the nodes of these graphs (`by_nodes`), others against the size.
    """
    by_nodes = part == "ladder" and name in ALL_GRAPHS
    largest = max(map(int, row))
    upper = {int(size): found for size, found in row.items() if int(size) * UPPER[part] >= largest}
    made: dict[str, Any] = {"largest": largest, "seconds": statistics.median(one[0] for one in row[str(largest)])}
    if len(upper) < 2:
        return made
    work = {size: size * (size + 1) / 2 if by_nodes else size for size in upper}
    time_trend = power([(work[size], one[0]) for size, found in upper.items() for one in found])
    most = TIME_MOST.get((part, name), 1.0)
    made |= {"by_nodes": by_nodes, "time": time_trend.to_json(), "time_allowed": most, "time_held": scales(time_trend, most)}
    used = [(work[size], one[2]) for size, found in upper.items() for one in found]
    if all(seconds > 0 for _, seconds in used):  # on a busy machine this says more
        made["processor"] = power(used).to_json()
    peaks = {size: min(one[1] for one in found) for size, found in upper.items()}
    if any(peaks.values()):
        memory = power([(size, max(LEAST_PEAK, peak)) for size, peak in peaks.items()])
        most = MEMORY_MOST[part]
        made |= {"peak_mib": round(peaks[largest] / 2**20, 1), "memory": memory.to_json(), "memory_allowed": most}
        made["memory_held"] = scales(memory, most)
    return made


def table(part: str, found: dict[str, Any]) -> str:
    """Markdown, as docs/serving.md shows it."""
    unit = {"bytes": "bytes", "ladder": "configurations", "catalog": "packages"}[part]
    lines = [
        f"| against {unit} | at the largest | exponent of time | of processor time | peak of memory | exponent of memory |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, fit in found["fits"].items():
        took = f"{fit['seconds'] * 1e3:.3g} ms" if fit["seconds"] < 1 else f"{fit['seconds']:.3g} s"
        peak = f"{fit['peak_mib']:g} MiB" if "peak_mib" in fit else "–"
        told = [_told(fit, what) for what in ("time", "processor", "memory")]
        # Memory is held against the size, whatever the times are held against.
        times = [f"{one}, by nodes of all graphs" if fit.get("by_nodes") and one != "–" else one for one in told[:2]]
        lines.append(f"| {name} | {took} | {times[0]} | {times[1]} | {peak} | {told[2]} |")
    return "\n".join(lines)


def _told(fit: dict[str, Any], what: str) -> str:
    if what not in fit:
        return "–"
    bounds = fit[what]["interval"]
    interval = f" ({bounds[0]:.2f} to {bounds[1]:.2f})" if bounds else ""
    return f"{fit[what]['slope']:.2f}{interval}{'' if fit.get(f'{what}_held', True) else ' **above**'}"


def picture(value: dict[str, Any], path: Path) -> None:
    """Time and memory against size, both logarithmic, a column for each part."""
    import matplotlib

    from accordion.pictures.style import COLOURS, GREY, MARKERS, SETTINGS, new_figure, plain

    parts = [part for part in PARTS if part in value["parts"]]
    labels = {"bytes": "bytes of the package", "ladder": "configurations", "catalog": "packages in the catalog"}
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(4.6 * len(parts), 8.4)
        grid = figure.subplots(2, len(parts), squeeze=False)
        for column, part in enumerate(parts):
            for index, (name, row) in enumerate(value["parts"][part]["operations"].items()):
                sizes = sorted(map(int, row))
                style = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index // len(COLOURS)], "ms": 3, "lw": 1}
                times = [statistics.median(one[0] for one in row[str(size)]) for size in sizes]
                peaks = [min(one[1] for one in row[str(size)]) / 2**20 for size in sizes]
                grid[0][column].plot(sizes, times, label=name, **style)
                if any(peaks):
                    grid[1][column].plot(sizes, [max(peak, 0.1) for peak in peaks], label=name, **style)
            for axes, unit in ((grid[0][column], "seconds"), (grid[1][column], "MiB more than before, at most")):
                axes.set(xscale="log", yscale="log", xlabel=labels[part], ylabel=unit if column == 0 else "")
                slope_one(axes, GREY)
                axes.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=4, frameon=False)
                plain(axes)
        figure.savefig(path, dpi=110, metadata={"Software": None})


def slope_one(axes: Any, colour: str) -> None:
    """A dotted line that grows linearly, to hold others against."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    axes.plot([left, right], [low, low * right / left], color=colour, lw=0.8, ls=":", label="linear")
    axes.set(xlim=(left, right), ylim=(low, high * 30))


__all__ = ["Trend", "judged", "sizes_of", "table"]

if __name__ == "__main__":
    main()
