"""Figure 4 in numbers: the error of each scheme at shares of the bytes, and the complete network."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.catalogue import SCHEMES
from experiments.series import Series, groups
from experiments.tables.markdown import blocks, percent, spread, table

__all__ = ["in_paper_order", "lines"]

SHARES = (0.05, 0.10, 0.25, 0.50)


def lines(series: Sequence[Series]) -> list[str]:
    """A table and a picture for each network, data set and recipe."""
    found = groups(series, "figure4")
    if not found:
        return ["Nothing of this has run yet."]
    out: list[str] = []
    for group, members in found.items():
        out += [
            "",
            f"**{group.title}**",
            "",
            f"![error against bytes and multiply-accumulates](evidence/figure4-{group.stem}.png)",
            "",
        ]
        header = ["scheme", "seeds", *(f"≤ {percent(share, 0)} of the bytes" for share in SHARES), "complete"]
        out += table(header, [_row(one) for one in in_paper_order(members)])
        if missing := [scheme for scheme in SCHEMES if scheme not in {one.scheme for one in members}]:
            out += ["", f"Not run: {', '.join(missing)}."]
    return out[1:]


def in_paper_order(members: Sequence[Series]) -> list[Series]:
    """The schemes as the paper lists them."""
    order = {scheme: position for position, scheme in enumerate(SCHEMES)}
    return sorted(members, key=lambda one: order.get(one.scheme, len(order)))


def _row(one: Series) -> list[str]:
    cells = [one.scheme, str(len(one.seeds))]
    for share in SHARES:
        rung = one.within(share=share)
        cells.append("–" if rung is None else f"{spread(rung.test)} {blocks(rung.blocks_by_stage)}")
    return [*cells, spread(one.complete.test)]
