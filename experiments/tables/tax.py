"""Configurations beside networks of their size that were trained alone."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.references import alone, taxes
from experiments.series import Group, Series, groups
from experiments.tables.figure4 import in_paper_order
from experiments.tables.markdown import blocks, megabytes, spread, table

__all__ = ["lines"]

ELASTIC = ("figure4", "delivered", "order")
"""Experiments whose networks are elastic and trained by nothing but what their scheme says."""


def lines(series: Sequence[Series]) -> list[str]:
    """A table for each network, data set and recipe that has references."""
    out: list[str] = []
    pictures = groups(series, "figure4")
    by_group: dict[Group, list[Series]] = {}
    for experiment in ELASTIC:
        for group, members in groups(series, experiment).items():
            by_group.setdefault(group, []).extend(members)
    for group, members in by_group.items():
        references = alone(series, group.dataset, group.recipe)
        rows = []
        for one in in_paper_order([one for one in members if one.scheme != "ResNet"]):
            for tax in taxes(one.rungs, references):
                rows.append(
                    [
                        f"{one.scheme} order" if one.experiment == "order" else one.scheme,
                        blocks(tax.rung.blocks_by_stage),
                        megabytes(tax.rung.bytes),
                        f"{spread(tax.elastic)} ({len(tax.elastic.values)})",
                        f"{spread(tax.reference)} ({len(tax.reference.values)})",
                        f"{100 * tax.points:+.2f} ± {100 * tax.deviation:.2f}{'' if tax.by_seeds else ' *'}",
                    ]
                )
        if rows:
            out += ["", f"**{group.title}**", ""]
            if group in pictures:
                out += [f"![tax](evidence/tax-{group.stem}.png)", ""]
            header = ["scheme", "blocks", "bytes", "elastic (seeds)", "alone (seeds)", "tax, points ± standard error"]
            out += table(header, rows)
    if not out:
        return ["No configuration has a reference yet."]
    note = (
        "A side with one seed brings the deviation of counting errors on the test pictures, which does not know how seeds differ."
    )
    return [*out[1:], "", f"\\* {note}"]
