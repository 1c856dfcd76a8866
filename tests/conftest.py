"""An endpoint in a process of its own, over the golden packages."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def served() -> Iterator[str]:
    """Where it answers: the packages are at /precision, /trees, /cache, /long, /versions and /encodings."""
    with tempfile.TemporaryFile() as said:
        folders = [str(GOLDEN / name) for name in ("precision", "trees", "cache", "long", "versions", "encodings")]
        command = [sys.executable, "-m", "accordion.cli", "serve", *folders, "--port", "0", "--json"]
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.DEVNULL)
        try:
            for _ in range(1200):
                said.seek(0)
                try:
                    yield str(json.loads(said.read())["url"])
                    break
                except ValueError:
                    assert process.poll() is None
                    time.sleep(0.05)
        finally:
            process.terminate()
            process.wait(60)
