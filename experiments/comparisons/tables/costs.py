"""What methods cost: training, downloads when the requirement changes, the wait for the first answer, and on the device."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from experiments.comparisons.families import ABOVE, NAMES, Family, changes, levels
from experiments.comparisons.methods import METHODS
from experiments.comparisons.outcome import Result, Row
from experiments.comparisons.tables.errors import NOTHING
from experiments.series import Group, Spread
from experiments.tables.markdown import NONE, megabytes, percent, spread, table

__all__ = ["BITS_A_SECOND", "change_lines", "device_lines", "first_lines", "matrix_lines", "source_lines", "training_lines"]

BITS_A_SECOND = 10e6
Groups = Mapping[Group, Sequence[Family]]


def training_lines(results: Sequence[Result]) -> list[str]:
    """Computation from nothing to the method's network, in trainings of the plain network."""
    together: dict[Group, dict[tuple[str, str], list[Result]]] = {}
    for result in results:
        group = Group(result.dataset, result.network, result.recipe)
        together.setdefault(group, {}).setdefault((result.method, result.variant), []).append(result)
    out: list[str] = []
    for group, found in sorted(together.items()):
        plain = [one.training.total_macs for one in found.get(("plain", "float32"), [])]
        rows = []
        for (method, variant), same in sorted(found.items(), key=lambda item: (list(METHODS).index(item[0][0]), item[0][1])):
            macs = statistics.fmean(one.training.total_macs for one in same)
            own = statistics.fmean(one.training.macs for one in same)
            extra = same[0].notes.get("extra parameters")
            rows.append(
                [
                    METHODS[method].title,
                    variant,
                    str(len(same)),
                    f"{macs / statistics.fmean(plain):.2f}" if plain else NONE,
                    f"{own / statistics.fmean(plain):.2f}" if plain else NONE,
                    f"{macs / 1e12:.1f}",
                    f"{statistics.fmean(one.training.total_seconds for one in same) / 60:.1f}",
                    NONE if extra is None else f"{extra:,}",
                ]
            )
        out += ["", f"**{group.title}**", ""]
        if plain:  # else there is no picture: nothing to measure by
            out += [f"![training computation](comparisons/training-{group.stem}.png)", ""]
        header = ["", "", "seeds", "of plain", "its own part", "10¹² MACs", "minutes", "extra parameters"]
        out += table(header, rows)
    return out[1:] or NOTHING


def change_lines(groups: Groups) -> list[str]:
    """Bytes to receive when the requirement changes: up step by step, straight, and down again."""
    out: list[str] = []
    for group, found in groups.items():
        wanted = levels(found)
        if wanted is None:
            continue
        out += ["", f"**{group.title}** (plain network's validation error {percent(wanted[-1] - ABOVE[-1])})", ""]
        steps = [f"{before} → {after}" for before, after in zip(["nothing", *NAMES], NAMES, strict=False)]
        header = ["", *steps, "together", f"nothing → {NAMES[-1]}", f"{NAMES[-1]} → {NAMES[0]}"]
        rows = []
        for family in found:
            up = family.path(wanted)
            total = None if None in up else sum(step for step in up if step is not None)
            straight, back = family.path([wanted[-1], wanted[0]])
            rows.append([family.name, *(_bytes(step) for step in (*up, total, straight, back))])
        out += table(header, rows)
        if any(changes(family, wanted) for family in found):  # else there is no picture
            out += ["", f"![bytes to receive when the requirement changes](comparisons/changes-{group.stem}.png)"]
    return out[1:] or NOTHING


def matrix_lines(groups: Groups) -> list[str]:
    """From each requirement to each, for every family that can meet several and receives something in between."""
    out: list[str] = []
    for group, found in groups.items():
        wanted = levels(found)
        if wanted is None:
            continue
        out += ["", f"**{group.title}**"]
        for family in found:
            costs = changes(family, wanted)
            if costs is not None:
                rows = [["from nothing" if a is None else f"from {NAMES[a]}", *map(_bytes, row)] for a, row in costs.items()]
                out += ["", f"{family.name}:", "", *table(["", *(f"to {name}" for name in NAMES)], rows)]
    return out[1:] or NOTHING


def _bytes(value: float | None) -> str:
    return NONE if value is None else "0" if value == 0 else megabytes(value)


def first_lines(groups: Groups) -> list[str]:
    """When something answers at 10 Mbps, how well, and when the complete network does. Transfer alone."""
    out: list[str] = []
    for group, found in groups.items():
        wanted = levels(found)
        rows = []
        for family in found:
            first = [rows[0] for rows in family.rows.values()]
            best = [min(rows, key=lambda row: row.validation.error) for rows in family.rows.values()]
            useful = [None if wanted is None else family.reaching(seed, wanted[2]) for seed in family.rows]
            known = [row for row in useful if row is not None]
            usable = known if len(known) == len(useful) else []
            rows.append([family.name, *_when(first), *(_when(usable)[:1] if usable else [NONE]), *_when(best)])
        out += ["", f"**{group.title}**", ""]
        header = [
            "",
            "first answer",
            "its test error",
            f"within {100 * ABOVE[2]:g} points of plain",
            "best answer",
            "its test error",
        ]
        out += table(header, rows)
    return out[1:] or NOTHING


def _when(rows: Sequence[Row]) -> list[str]:
    seconds = statistics.fmean(8 * row.bytes / BITS_A_SECOND for row in rows)
    return [f"{seconds:.3f} s", spread(Spread(tuple(row.test.error for row in rows)))]


def device_lines() -> list[str]:
    """What each method asks of a device beyond running an ONNX graph, and what it can use again."""
    rows = [[method.title, method.needs or NONE, method.reuses] for method in METHODS.values()]
    return table(["", "needs", "of use when more is wanted"], rows)


def source_lines() -> list[str]:
    """Each method's paper and what is not as there."""
    return table(["", "from", "not as there"], [[method.title, method.source, method.differs] for method in METHODS.values()])
