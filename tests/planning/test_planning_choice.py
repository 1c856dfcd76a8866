from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from accordion.artifact.ladder import Ladder
from accordion.artifact.manifest import Manifest
from accordion.errors import UnmeetableError
from accordion.planning import PlanTable, Request
from accordion.planning.choice import choose, relatives

Version = tuple[Manifest, Ladder]


@pytest.fixture
def forms(version: Callable[..., Version]) -> list[PlanTable]:
    """Right to left: fewer bytes, more work; blockwise: the other way round; compact: both little, and measurably worse."""
    names = [[f"{form} {k}" for k in range(4)] for form in ("rtl", "block", "compact")]
    rtl = version([100, 1000, 1000, 1000], [0.70, 0.85, 0.90], contents=names[0])
    block = version([100, 3000, 3000, 3000], [0.70, 0.85, 0.895], contents=names[1])
    compact = version([100, 200, 200, 200], [0.60, 0.70, 0.80], contents=names[2])
    tables = []
    for (manifest, ladder), times in ((rtl, 3), (block, 1), (compact, 1)):
        rungs = tuple(replace(rung, macs=rung.macs * times) for rung in ladder.configurations)
        tables.append(PlanTable(manifest, replace(ladder, configurations=rungs, extra={"family": "net"})))
    return tables


def chosen(tables: list[PlanTable], scarce: str = "bytes", **fields: Any) -> tuple[int, int]:
    plan = choose("net", tables, Request(**fields), scarce)
    return [table.manifest.digest for table in tables].index(plan.manifest), plan.configuration


def test_bytes_in_peak_hours_and_work_in_quiet_ones(forms: list[PlanTable]) -> None:
    # 0.895 is not measurably worse than 0.9 (the intervals reach 0.02), 0.8 is.
    assert chosen(forms, "bytes") == (0, 2)
    assert chosen(forms, "macs") == (1, 2)
    assert chosen(forms, "bytes", min_quality=0.8) == (2, 2)
    assert chosen(forms, "bytes", min_quality=0.84) == (0, 1)
    assert chosen(forms, "macs", min_quality=0.84) == (1, 1)


def test_the_request_comes_before_the_load(forms: list[PlanTable]) -> None:
    assert chosen(forms, "bytes", prefer="macs") == chosen(forms, "macs")
    assert chosen(forms, "macs", prefer="bytes") == chosen(forms, "bytes")


def test_limits_hold_and_a_form_that_cannot_keep_them_is_out(forms: list[PlanTable]) -> None:
    assert chosen(forms, "macs", max_bytes=3200) == (0, 2)
    assert chosen(forms, "macs", max_bytes=2200) == (0, 1)  # blockwise has nothing so good for so few bytes
    assert chosen(forms, "bytes", max_bytes=500) == (2, 1)
    with pytest.raises(UnmeetableError) as caught:
        chosen(forms, max_bytes=50)
    assert caught.value.limit == "max_bytes"


def test_who_is_related(forms: list[PlanTable], version: Callable[..., Version]) -> None:
    rtl, block, compact = (table.ladder for table in forms)
    _, lone = version([1, 1], [0.5])
    _, other_metric = version([1, 1], [0.5], direction="lower")
    family = {"family": "net"}
    assert relatives({"b": block, "a": rtl, "c": compact}, prefers=False) == ["a", "b", "c"]
    assert relatives({"a": rtl}, prefers=True) == []
    assert relatives({}, prefers=True) == []
    assert relatives({"a": rtl, "lone": lone}, prefers=True) == []
    assert relatives({"a": lone, "b": lone}, prefers=True) == []
    assert relatives({"latest": rtl, "b": block}, prefers=False) == []
    assert relatives({"latest": rtl, "b": block, "lone": lone}, prefers=True) == ["b", "latest"]
    assert relatives({"a": rtl, "b": replace(other_metric, extra=family)}, prefers=True) == []
    assert relatives({"a": replace(rtl, extra={"family": 3}), "b": replace(block, extra={"family": 3})}, prefers=True) == []


@pytest.mark.parametrize("field", ["dataset", "split"])
def test_who_was_measured_on_something_else_is_not_related(forms: list[PlanTable], field: str) -> None:
    """Same metric, same family: but which of them is the better one, nobody knows."""
    rtl, block, compact = (table.ladder for table in forms)
    changed: dict[str, Any] = {field: "another"}
    rungs = tuple(replace(one, quality=replace(one.quality, **changed)) for one in block.configurations)
    other = replace(block, configurations=rungs)
    assert relatives({"a": rtl, "b": other}, prefers=False) == []
    assert relatives({"latest": rtl, "b": other}, prefers=True) == []
    assert relatives({"latest": rtl, "b": other, "c": compact}, prefers=True) == ["c", "latest"]
    assert relatives({"a": other, "b": other}, prefers=False) == ["a", "b"]
