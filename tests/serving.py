"""A real endpoint over package directories, for as long as a test needs it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S, STOP_S = 60.0, 60.0  # bounds for busy machines, not measurements


@contextmanager
def serving(*folders: Path | str) -> Iterator[str]:
    """`accordion serve` in a process of its own; the value is its address."""
    with tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", "accordion.cli", "serve", *map(str, folders), "--port", "0", "--json"]
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.DEVNULL)
        try:
            yield _address(process, said)
        finally:
            process.terminate()
            process.wait(STOP_S)


def _address(process: subprocess.Popen[bytes], said: object) -> str:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        said.seek(0)  # type: ignore[attr-defined]
        try:
            return str(json.loads(said.read())["url"])  # type: ignore[attr-defined]
        except ValueError:
            assert process.poll() is None, "the endpoint ended"
            time.sleep(0.05)
    raise AssertionError("the endpoint did not start")
