"""Runs guided by coverage: atheris (libFuzzer) in a process of its own, since its end is the process's end."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random

from fuzz.target import Target

__all__ = ["Run", "guide", "run"]

LONGEST = 16 * 1024  # bytes of an input
SECONDS_EACH, MEMORY_MB = 20, 2048  # what one input may take: more is a finding
INSTRUMENTED = ("accordion.artifact", "accordion.planning", "accordion.device.state", "accordion.elastic.order_table",
                "accordion.training.policies", "accordion.training.recipes", "accordion.training.requests")  # fmt: skip
GRACE_S = 900  # to start and to end, on a busy machine


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one: inputs that reached something new, and those that broke a promise."""

    seconds: float
    executions: int
    corpus: tuple[bytes, ...]
    findings: tuple[bytes, ...]
    said: str


def run(target: Target, seconds: int, seed: int) -> Run:
    """Fuzzes `target` for so many seconds. RuntimeError without atheris, or when nothing was executed."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, found = Path(folder) / "corpus", Path(folder) / "found"
        corpus.mkdir()
        found.mkdir()
        for data in (*target.seeds(), *(path.read_bytes() for path in target.kept())):
            (corpus / sha256(data).hexdigest()[:16]).write_bytes(data)
        began = time.monotonic()
        options = [f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={found}/", "-print_final_stats=1"]
        options += [f"-max_len={LONGEST}", f"-timeout={SECONDS_EACH}", f"-rss_limit_mb={MEMORY_MB}", "-verbosity=1"]
        command = [sys.executable, "-m", "fuzz", "guide", target.name, str(corpus), *options]
        ended = subprocess.run(command, capture_output=True, timeout=seconds + GRACE_S, check=False)
        said = (ended.stdout + ended.stderr).decode(errors="replace")
        executed = re.search(r"number_of_executed_units: (\d+)", said)
        findings = tuple(path.read_bytes() for path in sorted(found.iterdir()))
        if executed is None and not findings:
            raise RuntimeError(f"atheris ran nothing and ended with {ended.returncode}: {said[-2000:]}")
        done = int(executed[1]) if executed else 0
        return Run(time.monotonic() - began, done, tuple(path.read_bytes() for path in sorted(corpus.iterdir())), findings, said)


def guide(name: str, arguments: list[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        from fuzz.targets import TARGETS

        target = TARGETS[name]
        for data in target.seeds():  # what is imported when it is first needed must not count as slow
            target.once(data)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = Random(seed)
        made = target.mutate(data, rng) if rng.random() < 0.8 else bytes(atheris.Mutate(data, most))
        return made if len(made) <= most else made[:most]

    def once(data: bytes) -> None:
        target.once(data)

    atheris.Setup(["fuzz", *arguments], once, custom_mutator=mutate)
    atheris.Fuzz()
