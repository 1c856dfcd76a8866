"""Delivered accuracy in numbers: the targets, the means over deadlines, and each deadline where policies are told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accordion.planning.energy import Joules
from experiments.delivery.cases import DEADLINES_S, MATCHED, NAME, PARTS, SCALES, SETS, compared
from experiments.delivery.energy import INFERENCES, Bill
from experiments.delivery.simulate import ALL, ZOO, Row
from experiments.delivery.verdicts import ORACLE_SHARE, Delivered, Gap, of_oracle, over_best_alone, over_best_compressed, over_fixed
from experiments.series import Series
from experiments.tables.markdown import NONE, blocks, percent, spread, table

__all__ = ["energy_lines", "error_lines", "guarantee_lines", "lines", "target_lines"]

NOT_RUN = "Nothing of this has run yet."
WORST = 3


def target_lines(rows: Sequence[Row]) -> list[str]:
    """Each target with what was measured; of many comparisons how many hold, and the worst."""
    found = Delivered(rows, NAME)
    if not found.ways:
        return [NOT_RUN]
    out = [
        [
            f"demand-matched training beats every fixed policy, {gap.where} traces of {MATCHED[0]}, bytes × {MATCHED[1]}",
            f"{percent(gap.ours, 2)} against {percent(gap.theirs, 2)} ({gap.rival}): {gap.points:+.2f} points",
            "met" if gap.points > 0 else "missed",
        ]
        for gap in sorted(over_fixed(found), key=lambda gap: PARTS.index(gap.where))
    ]
    if gaps := over_best_alone(found):
        kept = sum(gap.points >= 0 for gap in gaps)
        said = f"{kept} of {len(gaps)} cases; worst: {_worst(gaps)}"
        out.append(["compact elastic ≥ best single separate network at every deadline", said, _verdict(kept, gaps)])
    if gaps := over_best_compressed(found):
        kept = sum(gap.points >= 0 for gap in gaps)
        said = f"{kept} of {len(gaps)} cases; worst: {_worst(gaps)}"
        out.append(["(no target) compact elastic ≥ best quantized, pruned or factored plain network", said, ""])
    if gaps := of_oracle(found):
        kept = sum(gap.ours >= ORACLE_SHARE * gap.theirs for gap in gaps)
        worst = "; ".join(f"{percent(gap.ours / gap.theirs)} ({gap.where})" for gap in gaps[:WORST])
        said = f"{kept} of {len(gaps)} cases; lowest: {worst}"
        out.append([f"compact elastic ≥ {percent(ORACLE_SHARE, 0)} of the oracle", said, _verdict(kept, gaps)])
    return table(["target", "measured", ""], out)


def _verdict(kept: int, gaps: Sequence[Gap]) -> str:
    return "met" if kept == len(gaps) else "missed"


def _worst(gaps: Sequence[Gap]) -> str:
    return "; ".join(f"{gap.points:+.2f} points to {gap.rival} ({gap.where})" for gap in gaps[:WORST])


def lines(rows: Sequence[Row]) -> list[str]:
    """Means over the deadlines for every set and scale, the deadlines of the set that a policy was matched to, and the zoo."""
    found = Delivered(rows, NAME)
    if not found.ways:
        return [NOT_RUN]
    out = [f"![delivered accuracy against the deadline](evidence/delivered-{NAME}.png)"]
    for scale in SCALES:
        out += ["", f"Mean over deadlines of {_deadlines()}, bytes × {scale}:", ""]
        cells = [
            [way, str(found.seeds_of(way)), *(spread(found.mean(name, ALL, scale, way)) for name in SETS)] for way in found.ways
        ]
        out += table(["way", "seeds", *SETS], cells)
    name, scale = MATCHED
    for which in PARTS:
        out += ["", f"{name}, bytes × {scale}, traces {which}, by deadline:", ""]
        cells = [
            [
                way,
                *(spread(found.at(name, which, scale, way, deadline)) for deadline in DEADLINES_S),
                spread(found.mean(name, which, scale, way), 2),
            ]
            for way in found.ways
        ]
        out += table(["way", *(f"{deadline:g} s" for deadline in DEADLINES_S), "mean"], cells)
    zoo = Delivered(rows, ZOO)
    if zoo.ways:
        out += ["", f"The packages of zoo/ as they are, mean over the same deadlines, bytes × {SCALES[0]}:", ""]
        cells = [[way, *(spread(zoo.mean(name, ALL, SCALES[0], way)) for name in SETS)] for way in zoo.ways]
        out += table(["way", *SETS], cells)
    return out


def error_lines(series: Sequence[Series]) -> list[str]:
    """Test errors of what is compared: the smallest configuration, the one in the middle, the complete network."""
    shown = [one for one in series if compared(one.outcomes)]
    cells = [
        [
            one.scheme if one.experiment != "reference" else f"{one.network} {one.scheme}",
            str(len(one.seeds)),
            *(f"{spread(rung.test)} {blocks(rung.blocks_by_stage)}" for rung in (one.rungs[0], one.rungs[len(one.rungs) // 2])),
            spread(one.complete.test, 2),
        ]
        for one in shown
    ]
    return table(["scheme", "seeds", "smallest", "in the middle", "complete"], cells) or [NOT_RUN]


def energy_lines(found: Sequence[Bill]) -> list[str]:
    """Joules of each way, the first seed's."""
    rows = [one for one in found if one.seed == min(bill.seed for bill in found)] if found else []

    def span(one: Joules, scale: float = 1.0) -> str:
        return f"{one.value / scale:.3g} ({one.low / scale:.3g}–{one.high / scale:.3g})"

    cells = [
        [
            one.way,
            span(one.training, 1e3),
            span(one.receiving),
            span(one.inference),
            f"{one.bytes / 1e3:.0f} kB",
            percent(one.accuracy, 2),
        ]
        for one in rows
    ]
    header = ["way", "training, kJ, once", "receiving, J", f"{INFERENCES:,} inferences, J", "received", "accuracy then"]
    return table(header, cells) or [NOT_RUN]


def guarantee_lines(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What became of each guarantee, by run."""
    out: list[str] = []
    for name, value in reports.items():
        count = len(value["configurations"])
        out += [
            "",
            f"`{name}`: {value['met']} of {count} met, {value['certified']} certified at {percent(value['confidence'], 0)} for all "
            f"together, on {value['samples']:,} pictures of {value['dataset']} {value['split']}:",
            "",
        ]
        cells = [
            [
                str(row["index"]),
                percent(row["reference"], 2) if "reference" in row else NONE,
                percent(row["target"], 2),
                percent(row["error"], 2),
                percent(row["upper_bound"], 2),
                f"{row['steps']:,}",
                "certified" if row["certified"] else "met" if row["met"] else "missed",
            ]
            for row in value["configurations"]
        ]
        out += table(["k", "reference", "target", "reached", "at most", "steps", ""], cells)
    return out[1:] if out else [NOT_RUN]


def _deadlines() -> str:
    return ", ".join(f"{deadline:g}" for deadline in DEADLINES_S) + " s"
