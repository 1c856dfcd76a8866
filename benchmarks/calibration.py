"""Are promises kept? Observed share of arrivals in time against the probability promised, on traces that were not looked at before.

    python benchmarks/calibration.py [--data ../shared/data/traces] [-o benchmarks/results/calibration.json] [--picture FILE]
    python benchmarks/calibration.py --errors src/accordion/planning/links/errors.json

Three questions, each of traces that were split by their id; what is promised comes from one part, what is observed from the other:

- *moments*: a download begins at a random moment of a new trace. How many bytes are promised within 0.3 to 5 s, and how often have
  they arrived? Ten folds for each file, and halves of all traces together. Also across files: from all others to this one.
- *plans*: the same for whole plans of the ladder of zoo/resnet56-cifar10, its bytes multiplied until the link binds, round trips
  included: how often does the planned configuration arrive in time, against what the plan says (`promised`)?
- *estimates*: an estimator watches the link for 0.2 to 2 s, and promises the next seconds.

`--errors` writes the table of estimation errors that the device uses, from all traces. Every number follows from the seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from accordion.artifact.ladder import Ladder
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import Manifest
from accordion.errors import UnmeetableError
from accordion.link_files import read_link, read_traces
from accordion.planning import PlanTable, Request
from accordion.planning.links import ESTIMATORS, Distribution, Trace, TraceLink

FILES = (
    "tmobile-5g-crosscountry-500ms",
    "tmobile-5g-100ms",
    "lumos5g-mmwave-5g",
    "lumos5g-4g",
    "irish-5g-download",
    "mahimahi-lte-100ms",
)
PROMISES = (0.8, 0.9, 0.95, 0.99)
DEADLINES_S = (0.3, 1.0, 2.0, 5.0)
FOLDS, REPEATS, PLAN_REPEATS, SEED = 10, 20, 2, 7
WATCHED_S = (0.2, 0.5, 1.0, 2.0)
AHEAD_S = (0.3, 1.0, 3.0)
STARTS = 24  # moments of each trace at which an estimator is asked
STEP_S = 0.1  # how often an estimator hears of what has arrived
LEVELS = (*(round(0.02 * k, 2) for k in range(1, 50)), 0.99, 0.995)
PACKAGE = Path(__file__).parents[1] / "zoo" / "resnet56-cifar10"
SCALES = (1, 10, 100)  # of the ladder's bytes: 3.5 MB, 35 MB, 350 MB

Windows = list[np.ndarray[Any, Any]]  # for each trace the bytes that arrive from each of its moments, ascending


def promise(windows: Windows, p: float) -> float:
    """What a new trace of this kind delivers with probability p: each of n traces weighs 1/(n+1)."""
    share = 1 / (len(windows) + 1)
    weights = np.concatenate([np.full(len(one), share / len(one)) for one in windows])
    return Distribution.of(np.concatenate(windows), weights).guaranteed(p)


def kept(windows: Windows, count: float) -> float:
    """How often `count` bytes (or more) arrive, each trace weighing alike."""
    return float(np.mean([(one >= count).mean() for one in windows]))


def splits(count: int, rng: np.random.Generator, *, folds: int) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    order = rng.permutation(count)
    for fold in range(folds):
        held = order[fold::folds]
        yield np.setdiff1d(order, held), held


def judge(windows: Windows, rng: np.random.Generator, *, folds: int, repeats: int) -> list[dict[str, Any]]:
    """For each probability: observed share, and how many of the splits could promise more than nothing."""
    rows = []
    for p in PROMISES:
        observed, promised, tried = [], [], 0
        for _ in range(repeats):
            for fitted, held in splits(len(windows), rng, folds=folds):
                tried += 1
                count = promise([windows[k] for k in fitted], p)
                if count > 0:
                    observed.append(kept([windows[k] for k in held], count))
                    promised.append(count)
        rows.append(row_of(p, observed, tried, {"bytes": float(np.mean(promised)) if promised else 0.0}))
    return rows


def row_of(p: float, observed: Sequence[float], tried: int, more: dict[str, Any]) -> dict[str, Any]:
    share = float(np.mean(observed)) if observed else None
    return {"promised": p, "observed": share, "splits": tried, "promising": len(observed), **more}


def moments(sets: dict[str, tuple[Trace, ...]]) -> list[dict[str, Any]]:
    rows = []
    for deadline in DEADLINES_S:
        by_file = {name: windows_of(traces, deadline) for name, traces in sets.items()}
        together = [one for windows in by_file.values() for one in windows]
        rng = np.random.default_rng(SEED)
        rows.append(
            {
                "from": "half of all",
                "to": "the other half",
                "seconds": deadline,
                "rows": judge(together, rng, folds=2, repeats=REPEATS),
            }
        )
        for name, windows in by_file.items():
            if len(windows) >= 2 * FOLDS:
                found = judge(windows, rng, folds=FOLDS, repeats=2)
                rows.append({"from": f"nine tenths of {name}", "to": "the rest of it", "seconds": deadline, "rows": found})
            others = [one for other, found_there in by_file.items() if other != name for one in found_there]
            found = []
            for p in PROMISES:
                count = promise(others, p)
                found.append(row_of(p, [kept(windows, count)] if count > 0 else [], 1, {"bytes": count}))
            rows.append({"from": "all other files", "to": name, "seconds": deadline, "rows": found})
    return rows


def windows_of(traces: Sequence[Trace], seconds: float) -> Windows:
    return [np.sort(TraceLink((trace,)).bytes_within(seconds).values) for trace in traces if trace.seconds >= seconds]


def plans(sets: dict[str, tuple[Trace, ...]], rtts: tuple[float, ...]) -> list[dict[str, Any]]:
    """Whole plans: the configuration that is planned, on moments of traces that the plan has not seen."""
    layout = Layout.open(PACKAGE)
    manifest = layout.manifest(None)
    ladder = layout.ladder(manifest)
    everything = [trace for traces in sets.values() for trace in traces]
    rng = np.random.default_rng(SEED)
    rows = []
    for scale in SCALES:
        table = PlanTable(*scaled(manifest, ladder, scale))
        for deadline in DEADLINES_S:
            usable = [trace for trace in everything if trace.seconds >= deadline]
            for p in PROMISES:
                observed, stated, tried, chosen = [], [], 0, []
                for fitted, held in (one for _ in range(PLAN_REPEATS) for one in splits(len(usable), rng, folds=2)):
                    tried += 1
                    link = TraceLink(tuple(usable[k] for k in fitted), rtts[::2], fresh=True)
                    request = link.into(Request(deadline_s=deadline, confidence=p))
                    try:
                        plan = table.plan("resnet56", request)
                    except UnmeetableError:
                        continue
                    seen = TraceLink(tuple(usable[k] for k in held), rtts[1::2]).bytes_within(deadline, 3.0)
                    observed.append(seen.at_least(plan.bytes_to_send + table.manifest.size))
                    stated.append(float(plan.promised or 0))
                    chosen.append(plan.configuration)
                more = {"stated": float(np.mean(stated)) if stated else None, "configurations": chosen}
                rows.append({"bytes_times": scale, "seconds": deadline, **row_of(p, observed, tried, more)})
    return rows


def scaled(manifest: Manifest, ladder: Ladder, times: int) -> tuple[Manifest, Ladder]:
    """The same version with every layer so many times as large."""
    layers = [replace(layer, size=layer.size * times) for layer in manifest.layers]
    rungs = tuple(replace(rung, bytes=rung.bytes * times) for rung in ladder.configurations)
    return Manifest.build(manifest.config, layers, manifest.annotations), replace(ladder, configurations=rungs)


def estimates(traces: Sequence[Trace], name: str, rng: np.random.Generator) -> dict[float, Windows]:
    """For each time ahead, and each trace: how much of the estimate really came, ascending, and 0 where there was no estimate."""
    found: dict[float, Windows] = {ahead: [] for ahead in AHEAD_S}
    for trace in traces:
        fine = [one for one in WATCHED_S if one >= 2 * trace.dt_s]  # within one sample of a trace nothing is known
        for ahead in AHEAD_S:
            shares = []
            for start in rng.uniform(0, max(0.0, trace.seconds - ahead - WATCHED_S[-1]), STARTS):
                if not fine or ahead < 2 * trace.dt_s - 1e-9 or trace.seconds < ahead + WATCHED_S[-1]:
                    break
                watched = float(rng.choice(fine))
                estimator = ESTIMATORS[name]
                for edge in np.arange(round(watched / STEP_S)) * STEP_S + start:
                    estimator = estimator.after(trace.between(edge, edge + STEP_S), STEP_S)
                estimate = estimator.estimate()
                if estimate is not None and estimate.rate_bps > 0:
                    begin = start + watched
                    shares.append(trace.between(begin, begin + ahead) * 8 / ahead / estimate.rate_bps)
            if shares:
                found[ahead].append(np.sort(shares))
    return found


def online(sets: dict[str, tuple[Trace, ...]]) -> list[dict[str, Any]]:
    rows = []
    for name in ESTIMATORS:
        by_file = {file: estimates(traces, name, np.random.default_rng(SEED)) for file, traces in sets.items()}
        for ahead in AHEAD_S:
            rng = np.random.default_rng(SEED)
            together = [one for windows in by_file.values() for one in windows[ahead]]
            found = judge(together, rng, folds=2, repeats=REPEATS)
            rows.append({"estimator": name, "from": "half of all", "to": "the other half", "seconds": ahead, "rows": found})
            for file, windows in by_file.items():
                others = [one for other, there in by_file.items() if other != file for one in there[ahead]]
                if not windows[ahead] or not others:
                    continue
                found = []
                for p in PROMISES:
                    share = promise(others, p)
                    found.append(row_of(p, [kept(windows[ahead], share)] if share > 0 else [], 1, {"bytes": share}))
                rows.append({"estimator": name, "from": "all other files", "to": file, "seconds": ahead, "rows": found})
    return rows


def error_tables(sets: dict[str, tuple[Trace, ...]]) -> dict[str, Any]:
    """For each estimator the shares of its estimates that came, from all traces."""
    everything = [trace for traces in sets.values() for trace in traces]
    tables = {}
    for name in ESTIMATORS:
        found = estimates(everything, name, np.random.default_rng(SEED))
        shares = [[round(promise(found[ahead], level), 4) for ahead in AHEAD_S] for level in LEVELS]
        tables[name] = {"seconds": list(AHEAD_S), "levels": list(LEVELS), "shares": shares}
    return {"made_by": "python benchmarks/calibration.py --errors", "traces": len(everything), "estimators": tables}


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["what is promised, to whom                                        within    80 %    90 %    95 %    99 %"]
    for row in rows:
        label = f"{row.get('estimator', '')} {row['from']} -> {row['to']}".strip()
        cells = ["      -" if one["observed"] is None else f"{100 * one['observed']:7.1f}" for one in row["rows"]]
        lines.append(f"{label:<64} {row['seconds']:>5g} s {' '.join(cells)}")
    return "\n".join(lines)


def markdown(data: dict[str, Any]) -> str:
    """The rows in short, as docs/links.md shows them."""
    lines = ["| promise | within | 80 % | 90 % | 95 % | 99 % |", "|---|---:|---:|---:|---:|---:|"]
    rows = [("at a random moment", row) for row in data["moments"] if row["from"] != "all other files"]
    rows += [(f"after watching, {row['estimator']}", row) for row in data["estimates"] if row["from"] == "half of all"]
    rows = [(label, row) for label, row in rows if row.get("estimator", "ewma") in ("ewma", "harmonic")]
    for label, row in rows:
        cells = ["–" if one["observed"] is None else f"{100 * one['observed']:.1f}" for one in row["rows"]]
        lines.append(f"| {label}: from {row['from']} to {row['to']} | {row['seconds']:g} s | {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(data: dict[str, Any], path: Path) -> None:
    """Observed against promised: on the diagonal, promises are kept exactly; above it, more than kept."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4.6), sharex=True, sharey=True)
    for axis, key, title in zip(
        axes, ("moments", "plans", "estimates"), ("bytes, at a random moment", "whole plans", "bytes, after watching"), strict=True
    ):
        axis.plot([75, 100], [75, 100], color="0.5", lw=1)
        axis.fill_between([75, 100], [73, 98], [77, 102], color="0.9", label="within 2 points")
        rows = data[key]
        halves = [row for row in rows if key == "plans" or row["from"] == "half of all"]
        for label, points in series(halves, key):
            style = "o" if key == "plans" else "o-"
            axis.plot([100 * x for x, _ in points], [100 * y for _, y in points], style, ms=4, lw=0.8, label=label)
        axis.set(title=title, xlabel="promised, %", xlim=(78, 100.5), ylim=(78, 100.5))
        axis.legend(fontsize=7, loc="upper left")
    axes[0].set_ylabel("arrived in time, %")
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def series(rows: Sequence[dict[str, Any]], key: str) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    if key == "plans":
        for scale in SCALES:
            points = [
                (row["stated"], row["observed"]) for row in rows if row["bytes_times"] == scale and row["observed"] is not None
            ]
            yield f"ladder × {scale}", sorted(points)
        return
    for row in rows:
        if key == "estimates" and row["estimator"] not in ("ewma", "harmonic"):
            continue
        label = f"{row['estimator']}, {row['seconds']:g} s" if key == "estimates" else f"within {row['seconds']:g} s"
        yield label, [(one["promised"], one["observed"]) for one in row["rows"] if one["observed"] is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "traces")
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--picture", type=Path, help="draw it; with --from, without measuring anew")
    parser.add_argument("--from", dest="given", type=Path, help="a file that -o wrote")
    parser.add_argument(
        "--part", action="append", choices=("moments", "plans", "estimates"), help="only this, the rest as -o has it"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/links.md alone")
    parser.add_argument("--errors", type=Path, help="write the table of estimation errors, and nothing else")
    arguments = parser.parse_args()
    if arguments.given is not None:
        data = json.loads(arguments.given.read_text())
    else:
        sets = {name: read_traces(str(arguments.data / f"{name}.jsonl")) for name in FILES}
        if arguments.errors is not None:
            arguments.errors.write_text(json.dumps(error_tables(sets)) + "\n")
            return
        speed = read_link(str(arguments.data / FILES[1]) + ".jsonl", str(arguments.data / "tmobile-5g-rtt.jsonl"))
        rtts = getattr(speed, "rtts_s", (0.05,))
        data = {"seed": SEED}
        if arguments.part and arguments.out is not None and arguments.out.exists():
            data = json.loads(arguments.out.read_text())
        parts = {"moments": lambda: moments(sets), "plans": lambda: plans(sets, rtts), "estimates": lambda: online(sets)}
        for part in arguments.part or parts:
            data[part] = parts[part]()
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(rounded(data), separators=(",", ":")) + "\n")
    if arguments.picture is not None:
        picture(data, arguments.picture)
    if arguments.markdown:
        print(markdown(data))
        return
    print(table(data["moments"]))
    print("\nplans of zoo/resnet56-cifar10              asked   said   in time")
    for row in data["plans"]:
        said = "cannot be promised" if row["observed"] is None else f"{100 * row['stated']:6.1f} {100 * row['observed']:7.1f}"
        print(f"bytes x {row['bytes_times']:<4} within {row['seconds']:>4g} s {100 * row['promised']:20.0f} {said}")
    print()
    print(table(data["estimates"]))


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
