"""What a model costs end to end: training, receiving over measured links, inference; Accordion beside plain and separate models.

    python benchmarks/energy.py [--data ../shared/data/traces] [--package zoo/resnet56-cifar10] [-o benchmarks/results/energy]

A device asks for a model at a random moment of a measured trace and has to answer within a deadline. It runs some inferences with
what it has by then, asks at another moment for the best that there is, and runs as many again. Compared are

- *plain*: one complete model, downloaded whole, which answers when all of it is there;
- *separate*: a small model of its own, then the complete one, which shares nothing with it;
- *accordion*: the ladder's largest configuration that arrives in time, then the rest of the bytes;
- *accordion, kept*: the same, and it stays at that.

Joules are those of `accordion.planning.energy`, as value and range. Accuracies are measured: the ladder's own, and for the separate
models those that He et al. published (Deep Residual Learning, 2015, table 6), whose training took 164 epochs; so the comparison
favours them where the ladder was trained for less. The training table counts the multiply-accumulates of each policy; only the
ladder's own policy has measured accuracies here.

Writes FILE.json (all numbers), FILE.md (tables) and FILE.png. Nothing is random: moments are evenly spaced.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from accordion.artifact.ladder import Ladder
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import Manifest
from accordion.elastic import CifarResNet
from accordion.elastic.resnet import closed_form_macs
from accordion.pictures.style import COLOURS, SETTINGS, new_figure, plain, save
from accordion.planning.energy import Joules, inference_j, ladder_j, radio, tail_j, training_j, transfer_j
from accordion.planning.links import Trace, TraceLink, parse_link_file
from accordion.profiling.cost import count_parameters
from accordion.training import MODERN
from accordion.training.matched import communication, with_floor
from accordion.training.policies import Policy, named
from accordion.training.recipes import picture_size

SETS = (("mahimahi-lte-100ms", "lte"), ("lumos5g-4g", "lte"), ("tmobile-5g-100ms", "5g-mid"), ("lumos5g-mmwave-5g", "5g-mmwave"))
DEADLINES_S = (0.3, 1.0)
INFERENCES = 1000  # with what has arrived by the deadline, and again with the best
STARTS = 40  # moments of a trace
ROUND_TRIPS, RTT_S = 3.0, 0.0494  # the median of tmobile-5g-rtt.jsonl
SEPARATE = {20: 0.0875, 32: 0.0751}  # depth: error on CIFAR-10 as published
PUBLISHED_COMPLETE = 0.0697  # ResNet-56
TRAINING_PICTURES, SIDE, CLASSES = 45_000, 32, 10  # of CIFAR-10
MANY = (1, 10, 100, 1000, 10_000, 100_000, 1_000_000)
NOTHING = Joules(0.0, 0.0, 0.0)
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Network:
    """What a download brings: bytes, the joules of one inference, the accuracy."""

    bytes: int
    joules: Joules
    accuracy: float


@dataclass(slots=True)
class Course:
    """Means over all moments: what one way of doing it cost and brought."""

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
    ladder = layout.ladder(manifest)
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
    complete, needed = separate(56, 1 - PUBLISHED_COMPLETE), np.array([rung.bytes for rung in rungs], float)
    small = [separate(depth, 1 - error) for depth, error in SEPARATE.items()]
    courses = [Course("plain (ResNet-56)"), *(Course(f"separate (ResNet-{depth}, then 56)") for depth in SEPARATE)]
    courses += [Course("accordion, upgraded"), Course("accordion, kept")]
    receiver, setup = radio(kind), ROUND_TRIPS * RTT_S
    networks, whole, last = [*rungs, complete, *small], len(rungs), len(rungs) - 1
    alive = [trace for trace in found if trace.edges[-1] > 0]
    for trace in alive:
        starts = (np.arange(STARTS) + 0.5) * (trace.seconds / STARTS)
        later = (starts + trace.seconds / 2) % trace.seconds
        weights = np.full(STARTS, 1 / (len(alive) * STARTS))

        def take(counts: Any, moments: Array, trace: Trace = trace) -> Array:
            """Seconds until so many bytes are there."""
            return np.where(np.asarray(counts) > 0, setup + when(trace, moments + setup, np.asarray(counts, float)), 0.0)

        def joules(counts: Any, seconds: Array, weights: Array = weights) -> Joules:
            return transfer_j(receiver, float(weights @ np.broadcast_to(counts, weights.shape)), float(weights @ seconds))

        def add(
            course: Course,
            in_time: Array,
            first: Any,
            final: Any,
            received: Any,
            cost: Joules,
            transfers: Any,
            weights: Array = weights,
        ) -> None:
            """`first` and `final` [STARTS] are indices of `networks`; `first` answers only where it is `in_time`."""
            first, final = np.broadcast_to(first, weights.shape), np.broadcast_to(final, weights.shape)
            accuracy = np.array([network.accuracy for network in networks])
            each = np.array([network.joules for network in networks])
            course.in_time += float(weights @ in_time)
            course.accuracy += float(weights @ (accuracy[first] * in_time))
            course.final += float(weights @ accuracy[final])
            course.received += float(weights @ np.broadcast_to(received, weights.shape))
            course.receiving = course.receiving.plus(cost)
            course.first = course.first.plus(Joules(*(weights @ each[first])))
            course.second = course.second.plus(Joules(*(weights @ each[final])))
            course.tails += float(weights @ np.broadcast_to(transfers, weights.shape))

        seconds = take(complete.bytes, starts)
        add(courses[0], seconds <= deadline, whole, whole, complete.bytes, joules(complete.bytes, seconds), 1)
        for at, network in enumerate(small):
            seconds = take(network.bytes, starts)
            cost = joules(network.bytes, seconds).plus(joules(complete.bytes, take(complete.bytes, later)))
            add(courses[1 + at], seconds <= deadline, whole + 1 + at, whole, network.bytes + complete.bytes, cost, 2)
        arrived = np.minimum(needed[-1], between(trace, starts + setup, starts + deadline))
        largest = np.searchsorted(needed, arrived, side="right") - 1
        in_time, first = largest >= 0, np.maximum(largest, 0)  # where nothing is in time, it waits for the smallest
        arrived = np.where(in_time, arrived, needed[0])
        seconds = np.where(in_time, np.minimum(deadline, take(needed[-1], starts)), take(needed[0], starts))
        missing = needed[-1] - arrived
        cost = joules(arrived, seconds)
        upgraded = cost.plus(joules(missing, take(missing, later)))
        add(courses[-2], in_time, first, last, needed[-1], upgraded, 1 + (missing > 0))
        add(courses[-1], in_time, first, first, arrived, cost, 1)
    return courses


def when(trace: Trace, starts: Array, counts: Array) -> Array:
    """`Trace.when` for many moments: seconds until `counts` bytes have arrived on the repeated trace."""
    total = float(trace.edges[-1])
    rounds, begin = np.divmod(starts, trace.seconds)
    turns, within = np.divmod(rounds * total + trace.arrived(begin) + counts, total)
    index = np.clip(np.searchsorted(trace.edges, within, side="left"), 1, len(trace.edges) - 1)
    rates = np.maximum(trace.rates_bps[index - 1], 1e-9)
    moment = trace.dt_s * (index - 1) + np.where(within > 0, (within - trace.edges[index - 1]) * 8 / rates, 0.0)
    return np.asarray(np.maximum(0.0, turns * trace.seconds + moment - starts))


def between(trace: Trace, starts: Array, ends: Array) -> Array:
    """`Trace.between` for many moments; nothing where an end is before its start."""

    def total(moments: Array) -> Array:
        rounds, within = np.divmod(moments, trace.seconds)
        return np.asarray(rounds * float(trace.edges[-1]) + trace.arrived(within))

    return np.asarray(np.maximum(0.0, total(np.maximum(starts, ends)) - total(starts)))


def separate(depth: int, accuracy: float) -> Network:
    blocks = (depth - 2) // 6
    parameters = count_parameters(CifarResNet(depth, 10))
    return Network(4 * parameters, inference_j(closed_form_macs((blocks,) * 3, 10), parameters), accuracy)


def training(manifest: Manifest, ladder: Ladder, sets: dict[str, tuple[Trace, ...]]) -> list[dict[str, Any]]:
    """Joules of one training by the default recipe's epochs and picture sizes: under the paper's rule (one configuration a step) by
    policy, of all configurations in each step, and of separate models one after the other. Multiply-accumulates are those of a
    picture of full size."""
    count, macs = len(ladder), np.array([rung.macs for rung in ladder.configurations], float)
    needed = [manifest.size + rung.bytes for rung in ladder.configurations]
    matched = communication(needed, TraceLink(sets["lumos5g-4g"], (RTT_S,)), [(0.3, 1.0), (1.0, 1.0)]).policy
    policies: list[tuple[str, Policy]] = [(name, named(name, count)) for name in ("full", "CoML-05", "CoML-03", "uniform")]
    policies += [("communication (lumos5g-4g, 0.3 s and 1 s)", matched), ("the same, floor 0.3", with_floor(matched, 0.3))]
    rows = [(name, float(np.asarray(policy.probabilities) @ macs)) for name, policy in policies]
    rows[0] = ("plain (the complete network alone)", rows[0][1])
    smaller = [closed_form_macs(((depth - 2) // 6,) * 3, 10) for depth in SEPARATE]
    every = [rung.blocks.by_stage for rung in ladder.configurations]
    rows.append(("joint objective (every configuration in every step)", float(joint_macs(every))))
    # A smaller picture costs what its share of the area does.
    passes = sum((picture_size(MODERN, epoch, SIDE) / SIDE) ** 2 for epoch in range(MODERN.epochs))
    rows.append(("separate: ResNet-" + ", ".join(map(str, SEPARATE)) + " and 56", float(macs[-1]) + sum(smaller)))
    return [
        {
            "policy": name,
            "macs_per_picture": round(mean),
            "of_plain": round(mean / macs[-1], 4),
            "training_j": training_j(mean, TRAINING_PICTURES * passes).to_json(),
        }
        for name, mean in rows
    ]


def joint_macs(configurations: Sequence[tuple[int, ...]]) -> int:
    """Multiply-accumulates for a picture of a step over all of these blocks by stage. A block runs once for all that have the same
    blocks before it; the stem and the complete network's linear layer count once, those of the others too little to."""
    bare = closed_form_macs((0, 0, 0), CLASSES)
    total = bare
    for stage in range(3):
        one = tuple(int(other == stage) for other in range(3))
        beginnings = {(*counts[:stage], block) for counts in configurations for block in range(counts[stage])}
        total += len(beginnings) * (closed_form_macs(one, CLASSES) - bare)
    return total


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
        f"Made by `python benchmarks/energy.py` from {value['package']}; {value['inferences']} inferences in each phase.",
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
                points = [one for one in value["sweep"] if (one["traces"], one["way"]) == (row["traces"], way["way"])]
                x, y = [one["inferences"] for one in points], [one["joules"]["value"] for one in points]
                below.loglog(x, y, color=COLOURS[at], linewidth=1.3, label=way["way"])
                low, high = ([one["joules"][end] for one in points] for end in ("low", "high"))
                below.fill_between(x, low, high, color=COLOURS[at], alpha=0.08, linewidth=0)
            above.set_title(f"{row['traces']}\n{row['radio']}, {row['deadline_s']:g} s", loc="left", fontsize=8)
            above.set_xticks(range(len(names)), [f"{way['accuracy_at_deadline']:.0%}" for way in row["ways"]], fontsize=8)
            above.set_xlabel("accuracy at the deadline", fontsize=8)
            below.set_xlabel("inferences in each phase", fontsize=8)
        grid[0][0].set_ylabel(f"joules of receiving (full)\nand 2 × {INFERENCES} inferences (light)")
        grid[1][0].set_ylabel("joules of receiving and inference")
        handles, labels = grid[1][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        assert labels == names and math.isfinite(rows[0]["ways"][0]["total_j"]["value"])
        return save(figure, out)


if __name__ == "__main__":
    main()
