"""`python -m fuzz list`, `python -m fuzz run NAME… --seconds N`, `python -m fuzz replay`, `python -m fuzz document`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results.json"


def main() -> int:
    """0 if nothing was found, 1 otherwise."""
    if sys.argv[1:2] == ["guide"]:  # before anything is imported: what is imported there counts coverage
        from fuzz.guided import guide

        guide(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the targets")
    commands.add_parser("replay", help="all seeds and kept inputs, without atheris")
    commands.add_parser("document", help="write the tables of docs/threats-formats.md")
    one = commands.add_parser("run", help="fuzz, guided by coverage; keep what was found")
    one.add_argument("names", nargs="+", metavar="NAME", help="a target, or all")
    one.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    one.add_argument("--seed", type=int, default=1, help="of libFuzzer (1)")
    arguments = parser.parse_args()
    from fuzz.targets import TARGETS

    if arguments.command == "list":
        print(*TARGETS, sep="\n")
        return 0
    if arguments.command == "replay":
        for target in TARGETS.values():
            inputs = [*target.seeds(), *(path.read_bytes() for path in target.kept())]
            print(f"{target.name}: {sum(map(target.once, inputs))} of {len(inputs)} taken")
        return 0
    if arguments.command == "document":
        from fuzz.document import DOCUMENT, written

        DOCUMENT.write_text(written(DOCUMENT.read_text()))
        return 0
    names = list(TARGETS) if arguments.names == ["all"] else arguments.names
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"there is no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    return max(_run(name, arguments.seconds, arguments.seed) for name in names)


def _run(name: str, seconds: int, seed: int) -> int:
    from fuzz.guided import run
    from fuzz.keep import keep
    from fuzz.targets import TARGETS

    target = TARGETS[name]
    found = run(target, seconds, seed)
    kept = keep(target, found.corpus, found.findings)
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    before = results.get(name, {"seconds": 0, "executions": 0, "findings": 0})
    results[name] = {
        "seconds": round(before["seconds"] + found.seconds),
        "executions": before["executions"] + found.executions,
        "findings": before["findings"] + len(found.findings),
    }
    RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")
    print(f"{name}: {found.executions} executions in {found.seconds:.0f} s, {len(found.findings)} findings, {kept} inputs kept")
    if found.findings:
        print("\n".join(line for line in found.said.splitlines() if not line.startswith("#"))[-4000:])
    return 1 if found.findings else 0


if __name__ == "__main__":
    sys.exit(main())
