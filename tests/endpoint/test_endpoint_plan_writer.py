from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from accordion.artifact.ladder import decode_ladder
from accordion.artifact.layout import Layout
from accordion.artifact.strict_json import dump
from accordion.endpoint.plan_writer import PlanWriter
from accordion.planning import Held, PlanTable, Request
from accordion.planning.outlook import Outlook

GOLDEN = Path(__file__).parents[1] / "golden"


def table(layout: Layout, tag: str | None = None) -> PlanTable:
    manifest = layout.manifest(tag) if tag else layout.manifest()
    first = manifest.layers[0]
    return PlanTable(manifest, decode_ladder(first, layout.read_blob(first, limit=2**24)))


@pytest.mark.parametrize("name", ["precision", "trees"])
def test_it_writes_what_the_plan_says_of_itself(name: str) -> None:
    made = table(Layout.open(GOLDEN / name))
    writer, count = PlanWriter(made), len(made)
    requests = [Request(), Request(throughput_bps=3e5, rtt_s=0.1), Request(max_energy_j=1e6), Request(prefer="energy")]
    requests += [Request(max_bytes=rung.bytes) for rung in made.ladder.configurations]
    requests += [Request(held=Held(made.manifest.digest, k)) for k in range(count)]
    requests += [Request(held=Held(made.manifest.digest, k), prefer="macs") for k in range(count)]
    link = Outlook((0.5, 0.9), (0.1, 100.0), ((2000, 10**9), (1500, 10**8)), round_trips=3, rtt_s=0.01)
    requests += [Request(link=link), Request(link=link, deadline_s=200.0, confidence=0.7)]
    for request in requests:
        plan = made.plan('a/näme"', request)
        assert (writer.open_object(plan) + "}").encode() == dump(plan.to_json())


def test_between_versions_only_some_layers_travel(package: Any) -> None:
    layout = Layout.open(package.path)
    old, new = table(layout, "latest"), table(layout, "v2")
    for k in range(len(old)):
        request = Request(held=Held(old.manifest.digest, k))
        plan = new.plan("net", request, held=(old.manifest, old.ladder))
        assert (PlanWriter(new).open_object(plan) + "}").encode() == dump(plan.to_json())
