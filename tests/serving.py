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
from typing import IO

START_S, STOP_S = 60.0, 60.0  # bounds for busy machines, not measurements


@contextmanager
def serving(*folders: Path | str) -> Iterator[str]:
    """`accordion serve` in a process of its own; the value is its address."""
    with tempfile.TemporaryFile() as said:
        process = start_serving(said, *folders)
        try:
            yield address_of(process, said)
        finally:
            process.terminate()
            process.wait(STOP_S)


def start_serving(said: IO[bytes], *folders: Path, port: int = 0) -> subprocess.Popen[bytes]:
    """The process alone; it says into `said` where it answers."""
    command = [sys.executable, "-m", "accordion.cli", "serve", *map(str, folders), "--port", str(port), "--json"]
    return subprocess.Popen(command, stdout=said, stderr=subprocess.DEVNULL)


def address_of(process: subprocess.Popen[bytes], said: IO[bytes]) -> str:
    """Where it answers, once it does."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        said.seek(0)
        try:
            return str(json.loads(said.read())["url"])
        except (ValueError, KeyError):
            assert process.poll() is None, "the endpoint ended"
            time.sleep(0.05)
    raise AssertionError("the endpoint did not start")
