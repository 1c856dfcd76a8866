"""What a model costs end to end: training, receiving over measured links, inference; Accordion beside plain and separate models.

    python benchmarks/energy.py [--data ../shared/data/traces] [--package zoo/resnet56-cifar10] [-o benchmarks/results/energy]

A device asks for a model at a random moment of a measured trace and has to answer within a deadline. It runs some inferences with what
it has by then, asks at another moment for the best that there is, and runs as many again. Compared are

- *plain*: one complete model, downloaded whole, which answers when all of it is there;
- *separate*: a small model of its own, then the complete one, which shares nothing with it;
- *accordion*: the ladder's largest configuration that arrives in time, then the rest of the bytes;
- *accordion, kept*: the same, and it stays at that.

Joules are those of `accordion.planning.energy`, as value and range. Accuracies are measured: the ladder's own, and for the separate
models those that He et al. published (Deep Residual Learning, 2015, table 6), whose training took 164 epochs; so the comparison
favours them where the ladder was trained for less. The training table counts the multiply-accumulates of each policy; only the ladder's
own policy has measured accuracies here.

Writes FILE.json (all numbers), FILE.md (tables) and FILE.png. Nothing is random: moments are evenly spaced.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from accordion.artifact.ladder import LADDER_LIMIT, Ladder, decode_ladder
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import Manifest
from accordion.elastic import CifarResNet
from accordion.elastic.resnet import closed_form_macs
from accordion.pictures.style import COLOURS, SETTINGS, new_figure, plain, save
from accordion.planning.energy import Joules, inference_j, ladder_j, radio, tail_j, training_j, transfer_j
from accordion.planning.links import Trace, TraceLink, parse_link_file
from accordion.profiling.cost import count_parameters
from accordion.training.matched import communication, with_floor
from accordion.training.policies import Policy, named

SETS = (("mahimahi-lte-100ms", "lte"), ("lumos5g-4g", "lte"), ("tmobile-5g-100ms", "5g-mid"), ("lumos5g-mmwave-5g", "5g-mmwave"))
DEADLINES_S = (0.3, 1.0)
INFERENCES = 1000  # with what has arrived by the deadline, and again with the best
STARTS = 40  # moments of a trace
ROUND_TRIPS, RTT_S = 3.0, 0.0494  # the median of tmobile-5g-rtt.jsonl
SEPARATE = {20: 0.0875, 32: 0.0751}  # depth: error on CIFAR-10 as published
PUBLISHED_COMPLETE = 0.0697  # ResNet-56
TRAINING_PICTURES, EPOCHS = 45_000, 24  # of the default recipe
MANY = (1, 10, 100, 1000, 10_000, 100_000, 1_000_000)
NOTHING = Joules(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Network:
    """What a download brings: bytes, the joules of one inference, the accuracy."""

    bytes: int
    joules: Joules
    accuracy: float


@dataclass(slots=True)
class Course:
    """Sums over all moments, weighted: what one way of doing it cost and brought."""

    name: str
    in_time: float = 0.0
    accuracy: float = 0.0  # at the deadline; nothing answers nothing right
    final: float = 0.0
    received: float = 0.0
    receiving: Joules = NOTHING
    first: Joules = NOTHING  # one inference of the first phase
    second: Joules = NOTHING
    tails: float = 0.0

    def inference(self, count: float) -> Joules:
        return self.first.plus(self.second).times(count)

    def to_json(self, tail: Joules) -> dict[str, Any]:
        return {
            "way": self.name,
            "in_time": round(self.in_time, 4),
            "accuracy_at_deadline": round(self.accuracy, 4),
            "accuracy_finally": round(self.final, 4),
            "bytes": round(self.received),
            "receiving_j": self.receiving.to_json(),
            "inference_j": self.inference(INFERENCES).to_json(),
            "total_j": self.receiving.plus(self.inference(INFERENCES)).to_json(),
            "tails_j": tail.times(self.tails).to_json(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).parents[1]
    parser.add_argument("--data", type=Path, default=root.parent / "shared" / "data" / "traces")
    parser.add_argument("--package", type=Path, default=root / "zoo" / "resnet56-cifar10")
    parser.add_argument("-o", "--out", type=Path, default=root / "benchmarks" / "results" / "energy")
    arguments = parser.parse_args()
    layout = Layout.open(arguments.package)
    manifest = layout.manifest()
    ladder = decode_ladder(manifest.layers[0], layout.read_blob(manifest.layers[0], limit=LADDER_LIMIT))
    sets = {name: traces(arguments.data / f"{name}.jsonl") for name, _ in SETS}
    deliveries = [
        {"traces": name, "radio": kind, "deadline_s": deadline, "ways": ways(sets[name], kind, deadline, manifest, ladder)}
        for name, kind in SETS
        for deadline in DEADLINES_S
    ]
    value = {
        "package": arguments.package.name,
        "manifest": manifest.digest,
        "inferences": INFERENCES,
        "deliveries": [{**row, "ways": [way.to_json(tail_j(radio(row["radio"]))) for way in row["ways"]]} for row in deliveries],
        "training": training(manifest, ladder, sets),
        "sweep": sweep(deliveries),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(value, indent=1) + "\n")
    arguments.out.with_suffix(".md").write_text(tables(value))
    drawn = draw(value, arguments.out)
    print(tables(value))
    print(f"wrote {arguments.out.with_suffix('.json')}, {arguments.out.with_suffix('.md')}, {drawn[0]}")


def traces(path: Path) -> tuple[Trace, ...]:
    return parse_link_file(path.read_bytes(), path.name).traces


def ways(found: tuple[Trace, ...], kind: str, deadline: float, manifest: Manifest, ladder: Ladder) -> list[Course]:
    """Every way of doing it, over all moments of all traces; each trace counts alike."""
    rungs = [
        Network(manifest.size + rung.bytes, joules, rung.quality.value)
        for rung, joules in zip(ladder.configurations, ladder_j(ladder), strict=True)
    ]
    complete = separate(56, 1 - PUBLISHED_COMPLETE)
    courses = [Course("plain (ResNet-56)"), *(Course(f"separate (ResNet-{depth}, then 56)") for depth in SEPARATE)]
    courses += [Course("accordion, upgraded"), Course("accordion, kept")]
    receiver = radio(kind)
    for trace in found:
        if trace.edges[-1] <= 0:
            continue
        for start in (np.arange(STARTS) + 0.5) * (trace.seconds / STARTS):
            weight = 1 / (len(found) * STARTS)
            later = (float(start) + trace.seconds / 2) % trace.seconds

            def take(count: float, moment: float, trace: Trace = trace) -> tuple[float, Joules]:
                seconds = ROUND_TRIPS * RTT_S + trace.when(moment + ROUND_TRIPS * RTT_S, count)
                return seconds, transfer_j(receiver, count, seconds)

            seconds, joules = take(complete.bytes, float(start))
            add(courses[0], weight, complete if seconds <= deadline else None, complete, complete.bytes, joules, 1)
            for course, (depth, error) in zip(courses[1:], SEPARATE.items(), strict=False):
                small = separate(depth, 1 - error)
                seconds, joules = take(small.bytes, float(start))
                more = take(complete.bytes, later)[1]
                received = small.bytes + complete.bytes
                add(course, weight, small if seconds <= deadline else None, complete, received, joules.plus(more), 2, small)
            arrived = min(rungs[-1].bytes, trace.between(float(start) + ROUND_TRIPS * RTT_S, float(start) + deadline))
            there = [rung for rung in rungs if rung.bytes <= arrived]
            seconds = take(rungs[-1].bytes, float(start))[0]
            joules = transfer_j(receiver, arrived, min(deadline, seconds))
            if there:
                missing = rungs[-1].bytes - arrived
                more = take(missing, later)[1] if missing > 0 else NOTHING
                add(courses[-2], weight, there[-1], rungs[-1], rungs[-1].bytes, joules.plus(more), 1 + (missing > 0))
                add(courses[-1], weight, there[-1], there[-1], arrived, joules, 1)
            else:  # nothing in time: it waits for the smallest
                seconds, joules = take(rungs[0].bytes, float(start))
                more = take(rungs[-1].bytes - rungs[0].bytes, later)[1]
                add(courses[-2], weight, None, rungs[-1], rungs[-1].bytes, joules.plus(more), 2, rungs[0])
                add(courses[-1], weight, None, rungs[0], rungs[0].bytes, joules, 1)
    return courses


def add(
    course: Course,
    weight: float,
    in_time: Network | None,
    final: Network,
    received: float,
    joules: Joules,
    transfers: int,
    first: Network | None = None,
) -> None:
    """One moment. `first` runs in the first phase where nothing was in time."""
    course.in_time += weight * (in_time is not None)
    course.accuracy += weight * (in_time.accuracy if in_time else 0.0)
    course.final += weight * final.accuracy
    course.received += weight * received
    course.receiving = course.receiving.plus(joules.times(weight))
    course.first = course.first.plus((in_time or first or final).joules.times(weight))
    course.second = course.second.plus(final.joules.times(weight))
    course.tails += weight * transfers


def separate(depth: int, accuracy: float) -> Network:
    blocks = (depth - 2) // 6
    parameters = count_parameters(CifarResNet(depth, 10))
    return Network(4 * parameters, inference_j(closed_form_macs((blocks,) * 3, 10), parameters), accuracy)


def training(manifest: Manifest, ladder: Ladder, sets: dict[str, tuple[Trace, ...]]) -> list[dict[str, Any]]:
    """Joules of one training under the paper's rule (one configuration a step), by policy; separate models one after the other."""
    count, macs = len(ladder), np.array([rung.macs for rung in ladder.configurations], float)
    needed = [manifest.size + rung.bytes for rung in ladder.configurations]
    matched = communication(needed, TraceLink(sets["lumos5g-4g"], (RTT_S,)), [(0.3, 1.0), (1.0, 1.0)]).policy
    policies: list[tuple[str, Policy]] = [(name, named(name, count)) for name in ("full", "CoML-05", "CoML-03", "uniform")]
    policies += [("communication (lumos5g-4g, 0.3 s and 1 s)", matched), ("the same, floor 0.3", with_floor(matched, 0.3))]
    rows = [(name, float(np.asarray(policy.probabilities) @ macs)) for name, policy in policies]
    rows[0] = ("plain (the complete network alone)", rows[0][1])
    smaller = [closed_form_macs(((depth - 2) // 6,) * 3, 10) for depth in SEPARATE]
    rows.append(("joint objective (every configuration in every step)", float(macs[-1])))
    rows.append(("separate: ResNet-" + ", ".join(map(str, SEPARATE)) + " and 56", float(macs[-1]) + sum(smaller)))
    return [
        {
            "policy": name,
            "macs_per_picture": round(mean),
            "of_plain": round(mean / macs[-1], 4),
            "training_j": training_j(mean, TRAINING_PICTURES * EPOCHS).to_json(),
        }
        for name, mean in rows
    ]


def sweep(deliveries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Joules of everything on the device by the number of inferences, where the deadline is a second."""
    return [
        {"traces": row["traces"], "way": way.name, "inferences": n, "joules": way.receiving.plus(way.inference(n)).to_json()}
        for row in deliveries
        if row["deadline_s"] == max(DEADLINES_S)
        for way in row["ways"]
        for n in MANY
    ]


def tables(value: dict[str, Any]) -> str:
    def span(joules: dict[str, float]) -> str:
        return f"{joules['value']:.3g} ({joules['low']:.3g}–{joules['high']:.3g})"

    lines = [
        f"Made by `python benchmarks/energy.py` from {value['package']}; {value['inferences']} inferences in each of two phases.",
        "",
    ]
    lines += ["| traces, radio, deadline | way | in time | accuracy then | finally | MB | receiving J | inference J | tails J |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for row in value["deliveries"]:
        for way in row["ways"]:
            cells = [
                f"{row['traces']}, {row['radio']}, {row['deadline_s']:g} s",
                way["way"],
                f"{way['in_time']:.1%}",
                f"{way['accuracy_at_deadline']:.1%}",
                f"{way['accuracy_finally']:.1%}",
                f"{way['bytes'] / 1e6:.2f}",
                *(span(way[name]) for name in ("receiving_j", "inference_j", "tails_j")),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| training | MACs a picture | of plain | kJ |", "|---|---|---|---|"]
    for row in value["training"]:
        kilo = {name: joules / 1e3 for name, joules in row["training_j"].items()}
        lines.append(f"| {row['policy']} | {row['macs_per_picture'] / 1e6:.1f} M | {row['of_plain']:.1%} | {span(kilo)} |")
    return "\n".join(lines) + "\n"


def draw(value: dict[str, Any], out: Path) -> tuple[Path, Path]:
    """Above: joules of receiving and inference, for each set of traces. Below: all of it against the number of inferences."""
    rows = [row for row in value["deliveries"] if row["deadline_s"] == max(DEADLINES_S)]
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(9.0, 6.6)
        grid = figure.subplots(2, len(rows))
        names = [way["way"] for way in rows[0]["ways"]]
        for column, row in enumerate(rows):
            above, below = grid[0][column], grid[1][column]
            plain(above)
            plain(below)
            for at, way in enumerate(row["ways"]):
                receiving, inference, total = way["receiving_j"], way["inference_j"], way["total_j"]
                above.bar(at, receiving["value"], color=COLOURS[at], width=0.75)
                above.bar(at, inference["value"], bottom=receiving["value"], color=COLOURS[at], width=0.75, alpha=0.35)
                ends = [[total["value"] - total["low"]], [total["high"] - total["value"]]]
                above.errorbar(at, total["value"], yerr=ends, color="black", linewidth=0.9, capsize=2)
                above.annotate(f"{way['accuracy_at_deadline']:.0%}", (at, 0), xytext=(0, 3), textcoords="offset points", ha="center", color="white", fontsize=8)  # fmt: skip
                points = [one for one in value["sweep"] if (one["traces"], one["way"]) == (row["traces"], way["way"])]
                x, y = [one["inferences"] for one in points], [one["joules"]["value"] for one in points]
                below.loglog(x, y, color=COLOURS[at], linewidth=1.3, label=way["way"])
                below.fill_between(x, [one["joules"]["low"] for one in points], [one["joules"]["high"] for one in points], color=COLOURS[at], alpha=0.08, linewidth=0)  # fmt: skip
            above.set_title(f"{row['traces']}\n{row['radio']}, {row['deadline_s']:g} s", loc="left", fontsize=8)
            above.set_xticks([])
            below.set_xlabel("inferences in each phase", fontsize=8)
        grid[0][0].set_ylabel(
            f"joules: receiving (full), {INFERENCES} + {INFERENCES} inferences (light)\nwhite: accuracy at the deadline"
        )
        grid[1][0].set_ylabel("joules of receiving and inference")
        handles, labels = grid[1][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        assert labels == names and math.isfinite(rows[0]["ways"][0]["total_j"]["value"])
        return save(figure, out)


if __name__ == "__main__":
    main()
