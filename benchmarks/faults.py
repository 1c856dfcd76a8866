"""Kill -9 of devices and endpoints at random moments, a hundred times each: counts, and what was true after every one.

    python benchmarks/faults.py [--count 100] [-o benchmarks/results/faults.json]

Goes on where an earlier call stopped. The rounds are those of `tests/faults/test_faults_kill.py`; a promise that is broken ends it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "faults")]


def main() -> None:
    from kills import KINDS, Scene, kill_a_device, kill_an_endpoint  # type: ignore[import-not-found]
    from scene import Endpoint, make_package  # type: ignore[import-not-found]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="kills of each (100)")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks" / "results" / "faults.json")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(arguments.output.read_text())["rounds"] if arguments.output.exists() else []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        package = make_package(folder)
        endpoint = Endpoint(package)
        endpoint.start()
        try:
            scene = Scene.make(package, endpoint, folder / "begin")
            for kind in (*KINDS, "endpoint"):
                done = [row for row in rows if row["kind"] == kind]
                turn, killed = len(done), sum(row["moment"] is not None for row in done)
                while killed < (arguments.count if kind == "endpoint" else -(-arguments.count // len(KINDS))):
                    rng, where = Random(f"{kind} {turn}"), folder / f"{kind}-{turn}"
                    outcome = kill_an_endpoint(scene, rng, where) if kind == "endpoint" else kill_a_device(scene, kind, rng, where)
                    row = {"kind": kind, "moment": outcome.moment, "held": outcome.held, "known": outcome.known}
                    rows.append({**row, "received": outcome.received, "twice": outcome.twice})
                    turn, killed = turn + 1, killed + (outcome.moment is not None)
                    _write(arguments.output, rows)
        finally:
            endpoint.stop()
    print(json.dumps(json.loads(arguments.output.read_text())["counts"], indent=1))


def _write(output: Path, rows: list[dict[str, Any]]) -> None:
    counts: dict[str, Any] = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        held = Counter("nothing yet" if row["held"] is None else row["held"][0] for row in mine if row["moment"] is not None)
        counts[kind] = {
            "rounds": len(mine),
            "killed_while_it_worked": sum(row["moment"] is not None for row in mine),
            "held_after_the_kill": dict(held),
            "bytes_that_came_twice": sum(row["twice"] for row in mine),
        }
    text = json.dumps({"counts": counts, "rounds": rows}, separators=(",", ":"))
    output.write_text(text + "\n")


if __name__ == "__main__":
    main()
