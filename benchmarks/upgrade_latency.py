"""What an upgrade costs a device that answers meanwhile: `python benchmarks/upgrade_latency.py PACKAGE… [--threads 1 2]`.

A device process answers without a pause in one thread, one input at a time. Step by step every configuration of the package
arrives over a paced link (`paced.py`), in the same process (`upgrade`) or in another one (`accordion upgrade`), and takes over: by
`advance`, which makes its session beside the answers, or (once, to compare) by `refresh`, where the next answer makes it. Link and
endpoint run at the lowest priority, since they stand for other machines. Each step has four windows:

- steady: nothing else happens;
- transfer: from the beginning of the upgrade to its end;
- switch: from the call of `advance` (or `refresh`) until it has returned and the first answer of the new configuration is there;
- after: the next ten answers.

Each answer's time is divided by the steady p99 of the configuration that gave it; reported is the p99 of these ratios over all
steps (the first answer of a new configuration is held against the longer of the two). Aimed at: at most 2, and no answer that fails
or is neither the old configuration's nor the new one's. How long the thread stood ready and had no processor, as Linux counts it,
is taken off in a second figure: on a machine that others use, most of it is theirs. Peak memory of each step is held against the
running configuration plus the next, each measured alone in a process of its own (`upgrade_memory.py`). What the file of `-o` says
of other packages and ways stays.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from paced import paced  # type: ignore[import-not-found]
from servers import accordion  # type: ignore[import-not-found]
from upgrade_memory import forget_peak, measured, resident  # type: ignore[import-not-found]

WINDOWS = ("transfer", "switch", "after")
STEADY_S = 0.4
AFTER = 10
RATE_BPS, RTT_S = 20e6, 0.02


class Answering:
    """A thread that answers again and again. `answers` holds (begin, end, outputs, seconds without a processor) of each, `failures`
    what went wrong.
    """

    def __init__(self, model: Any, feed: Any) -> None:
        self.model, self.feed = model, feed
        self.answers: list[tuple[float, float, int, float]] = []
        self.failures: list[str] = []
        self._stop = False
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Answering:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop = True
        self._thread.join()

    def _work(self) -> None:
        with open(f"/proc/self/task/{threading.get_native_id()}/schedstat") as scheduler:  # noqa: PTH123

            def waited_s() -> float:
                scheduler.seek(0)
                return int(scheduler.read().split()[1]) * 1e-9

            while not self._stop:
                waited, begin = waited_s(), time.perf_counter()
                try:
                    found = self.model.run(self.feed)
                except Exception as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                    continue
                end, outputs = time.perf_counter(), hash(b"".join(array.tobytes() for array in found.values()))
                self.answers.append((begin, end, outputs, waited_s() - waited))


def device(url: str, folder: Path, threads: int, transfer: str, how: str, most: int) -> dict[str, Any]:
    """The process that is measured: a row for each step."""
    import numpy as np

    from accordion.device import Model, Request, fetch, upgrade

    fetch(url, folder, Request(max_bytes=most))
    with Model.open(folder, threads=threads) as model:
        shapes = {spec.name: [1 if isinstance(n, str) else n for n in spec.shape] for spec in model.ladder.inputs_of(0)}
        feed = {name: np.random.default_rng(0).random(shape, dtype=np.float32) for name, shape in shapes.items()}
        base, rows = resident("VmRSS"), []
        before = model.prepare()
        with Answering(model, feed) as answering:
            time.sleep(STEADY_S)
            for k in range(before + 1, len(model.ladder)):
                forget_peak()
                marks = [time.perf_counter()]
                time.sleep(STEADY_S)
                marks.append(time.perf_counter())
                if transfer == "same":
                    upgrade(folder, to=k)
                else:
                    command = [sys.executable, "-m", "accordion.cli", "upgrade", str(folder), "--to", str(k)]
                    subprocess.run(command, check=True, capture_output=True)
                marks.append(time.perf_counter())
                model.refresh() if how == "refresh" else model.advance()
                marks.append(time.perf_counter())
                while answering.answers[-1][0] <= marks[-1]:
                    time.sleep(0.001)
                first = next(row for row in answering.answers if row[0] > marks[-1])
                while len([row for row in answering.answers[-2 * AFTER :] if row[0] > marks[-1]]) < AFTER + 1:
                    time.sleep(0.001)
                rows.append({"configuration": k, "marks": [*marks, first[1]], "peak": resident("VmHWM") - base})
            time.sleep(STEADY_S)
        return {"rows": rows, "answers": answering.answers, "failures": answering.failures}


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Steps:
    """Answers of one process, by step and window."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in WINDOWS}  # and without waits for a processor
        self.steady: list[dict[str, float]] = []
        self.switch_s: list[float] = []
        self.strange = 0
        rows, answers = found["rows"], found["answers"]
        windows = []
        for index, row in enumerate(rows):
            steady, begun, brought, _, first = row["marks"]
            end = rows[index + 1]["marks"][1] if index + 1 < len(rows) else answers[-1][1]
            following = [one for one in answers if first < one[1] <= end]
            windows.append(
                {
                    "steady": [one for one in answers if steady <= one[0] and one[1] <= begun],
                    "transfer": [one for one in answers if begun < one[1] and one[0] <= brought],
                    "switch": [one for one in answers if brought < one[0] and one[1] <= first],
                    "after": following[:AFTER],
                    "next": following[AFTER:],
                }
            )
        for row, window in zip(rows, windows, strict=True):
            old, new = ([end - begin for begin, end, *_ in window[name]] for name in ("steady", "next"))
            normal = quantile(old, 0.99), quantile(new, 0.99)
            known = {one[2] for one in window["steady"]}, {one[2] for one in window["next"]}
            self.steady.append({"configuration": row["configuration"] - 1, "p50_s": quantile(old, 0.5), "p99_s": normal[0]})
            self.switch_s.append(row["marks"][3] - row["marks"][2])
            for name, compared in (("transfer", normal[0]), ("switch", max(normal)), ("after", normal[1])):
                for begin, end, outputs, waited in window[name]:
                    is_new = name == "after" or (name == "switch" and begin > row["marks"][3])
                    bound = compared if is_new or name == "transfer" else normal[0]
                    self.ratios[name].append(((end - begin) / bound, (end - begin - waited) / bound))
                    self.strange += outputs not in (known[0] | known[1] if name == "switch" else known[name == "after"])


def summed_up(found: list[dict[str, Any]]) -> dict[str, Any]:
    """One way of upgrading, over several processes."""
    steps = [Steps(one) for one in found]
    ratios = {name: [pair for one in steps for pair in one.ratios[name]] for name in WINDOWS}
    switches = [seconds for one in steps for seconds in one.switch_s]
    steady = [row for one in steps for row in one.steady]
    return {
        "upgrades": len(switches),
        "answers": sum(len(one["answers"]) for one in found),
        "failed": sum(len(one["failures"]) for one in found),
        "failures": sorted({text for one in found for text in one["failures"]})[:5],
        "neither_old_nor_new": sum(one.strange for one in steps),
        "steady_p50_s": [min(row["p50_s"] for row in steady), max(row["p50_s"] for row in steady)],
        "steady_p99_over_p50": quantile([row["p99_s"] / row["p50_s"] for row in steady], 0.5),
        "switch_s": {"median": quantile(switches, 0.5), "most": max(switches)},
        "over_steady_p99": {name: {"answers": len(pairs), **spread(pairs)} for name, pairs in ratios.items()},
    }


def spread(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    whole, own = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return {
        "p50": quantile(whole, 0.5),
        "p99": quantile(whole, 0.99),
        "most": max(whole),
        "p99_without_waits_for_a_processor": quantile(own, 0.99),
    }


def memory(found: list[dict[str, Any]], alone: list[int]) -> dict[str, Any]:
    """Peaks of the steps against the running configuration and the next."""
    rows = [
        {
            "configuration": row["configuration"],
            "peak": max(one["rows"][index]["peak"] for one in found),
            "running_and_next": alone[row["configuration"]] + alone[row["configuration"] - 1],
        }
        for index, row in enumerate(found[0]["rows"])
    ]
    return {"held": all(row["peak"] <= row["running_and_next"] for row in rows), "steps": rows}


def main() -> None:
    if sys.argv[1:2] == ["--device"]:
        url, folder, threads, transfer, how, most = sys.argv[2:]
        print(json.dumps(device(url, Path(folder), int(threads), transfer, how, int(most))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="of one inference (1)")
    parser.add_argument("--transfer", nargs="+", choices=("same", "other"), default=["same", "other"], help="which process fetches")
    parser.add_argument("--rate", type=float, default=RATE_BPS, help="bits a second (20e6)")
    parser.add_argument("--repeat", type=int, default=1, help="processes of each kind")
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    results = []
    for package in arguments.packages:
        with ExitStack() as stack:
            place = Place(package, arguments.rate, stack)
            kinds = [(threads, transfer, "advance") for threads in arguments.threads for transfer in arguments.transfer]
            for kind in (*kinds, (arguments.threads[0], arguments.transfer[0], "refresh")):
                results.append(place.way(*kind, arguments.repeat))
                print(line(results[-1]), file=sys.stderr, flush=True)
    if arguments.out is not None:
        kept = json.loads(arguments.out.read_text()) if arguments.out.exists() else []
        again = {key(row) for row in results}
        whole = sorted([row for row in kept if key(row) not in again] + results, key=key)
        arguments.out.write_text(json.dumps(whole, indent=1) + "\n")
    print(HEAD, *map(line, results), sep="\n")


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What was measured: a row for the same is replaced."""
    return row["package"], row["how"], row["threads"], row["transfer"] != "same"


class Place:
    """One package behind a paced link."""

    def __init__(self, package: Path, rate_bps: float, stack: ExitStack) -> None:
        from accordion.artifact.layout import Layout

        layout = Layout.open(package)
        self.name, self.manifest = package.resolve().name, layout.manifest()
        self.ladder = layout.ladder(self.manifest)
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        endpoint = stack.enter_context(accordion(str(package)))
        for pid in endpoint.processes():  # it stands for another machine: it must not take the device's processors
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(task.name), 19)
        self.url = f"{stack.enter_context(paced(endpoint.url, rate_bps, RTT_S, nice=19))}/{self.name}"
        self.rate_bps = rate_bps
        self.alone: list[int] = []

    def way(self, threads: int, transfer: str, how: str, repeat: int) -> dict[str, Any]:
        """Upgrades in one way by `repeat` processes."""
        found = []
        for round_ in range(repeat):
            target = self.folder / f"{threads}-{transfer}-{how}-{round_}"
            command = [sys.executable, __file__, "--device", self.url, str(target), str(threads), transfer, how]
            command.append(str(self.ladder.configurations[0].bytes + 2**12))
            found.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
            if not self.alone:
                self.alone = [measured(target, [k])[0] for k in range(len(self.ladder))]
        kind = {"package": self.name, "manifest": self.manifest.digest, "threads": threads, "transfer": transfer, "how": how}
        return {
            **kind,
            "rate_bps": self.rate_bps,
            "rtt_s": RTT_S,
            **summed_up(found),
            "memory": memory(found, self.alone),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "load": round(os.getloadavg()[0], 1),
            "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip(),
        }


HEAD = "p99 of answers, in steady p99s (without waits for a processor); memory against the running configuration and the next"


def line(row: dict[str, Any]) -> str:
    over = row["over_steady_p99"]
    tight = max(step["peak"] / step["running_and_next"] for step in row["memory"]["steps"])
    told = (f"{name} {one['p99']:.2f} ({one['p99_without_waits_for_a_processor']:.2f})" for name, one in over.items())
    return (
        f"{row['package']}, threads {row['threads']}, fetched by the {row['transfer']} process, {row['how']}: "
        f"{row['upgrades']} upgrades, {row['answers']} answers, {row['failed']} failed, {row['neither_old_nor_new']} strange; "
        f"{', '.join(told)}; switch {row['switch_s']['median'] * 1e3:.0f} ms; memory {tight:.2f}"
    )


if __name__ == "__main__":
    main()
