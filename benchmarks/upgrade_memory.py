"""How much memory a program holds that answers while its model grows, against the running configuration plus the next.

    python benchmarks/upgrade_memory.py PACKAGE [--configurations 0 3 6 …] [-o benchmarks/results/upgrade_memory.json]

Every figure is the resident memory of a process of its own, the libraries and an open model without a session taken off: once for
each configuration alone, and the peak at each step of an upgrade through all of them that answers after every one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def resident(key: str) -> int:
    """Bytes, as the kernel counts them: `VmRSS` now, `VmHWM` at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"the kernel says nothing of {key}")


def forget_peak() -> None:
    """The peak counts from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def child(folder: Path, steps: list[int]) -> list[int]:
    """Peaks of resident bytes above what an open model without a session takes, one for each step."""
    import numpy as np

    from accordion.device import Model

    with Model.open(folder, threads=1) as model:
        shapes = {spec.name: [1 if isinstance(n, str) else n for n in spec.shape] for spec in model.ladder.inputs_of(0)}
        feed = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401

        base = resident("VmRSS")
        peaks = []
        for k in steps:
            forget_peak()
            model.run(feed, k)
            peaks.append(resident("VmHWM") - base)
    return peaks


def measured(folder: Path, steps: list[int]) -> list[int]:
    command = [sys.executable, __file__, "--child", str(folder), json.dumps(steps)]
    return list(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))


def summed_up(steps: list[int], alone: list[int], growing: list[int]) -> dict[str, Any]:
    """A row for each step, and whether every upgrade kept to the running configuration plus the next."""
    rows: list[dict[str, Any]] = []
    for index, k in enumerate(steps):
        bound = alone[index] + alone[index - 1] if index else None  # the first is no upgrade
        rows.append({"configuration": k, "alone": alone[index], "peak": growing[index], "running_and_next": bound})
    return {"held": all(row["peak"] <= row["running_and_next"] for row in rows[1:]), "steps": rows}


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(Path(sys.argv[2]), json.loads(sys.argv[3]))))
        return
    from accordion.cli.demo_steps import Endpoint, Steps
    from accordion.device import Model, fetch, upgrade

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--configurations", type=int, nargs="+", help="steps of the upgrade (about eight of all)")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks" / "results" / "upgrade_memory.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, Endpoint(Steps(sys.stderr), str(arguments.package)) as endpoint:
        folder = Path(place) / "m"
        fetch(f"{endpoint.url}/{arguments.package.resolve().name}", folder)
        with Model.open(folder) as model:
            count = len(model.ladder)
        upgrade(folder, to=count - 1)
        steps = arguments.configurations or sorted({*range(0, count, max(1, count // 8)), count - 1})
        alone = [measured(folder, [k])[0] for k in steps]
        growing = measured(folder, steps)
    summary = {"package": arguments.package.name, **summed_up(steps, alone, growing)}
    arguments.output.write_text(json.dumps(summary, indent=1) + "\n")
    print(arguments.output.read_text())


if __name__ == "__main__":
    main()
