"""The chain package, two versions of it, and a real endpoint in front."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chain import add_version  # type: ignore[import-not-found]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packages") / "chain"
    add_version(path, "latest", 0)
    add_version(path, "v2", 2, shared=2)
    return path


@pytest.fixture(scope="session")
def endpoint(package: Path) -> Iterator[str]:
    with tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", "accordion.cli", "serve", str(package), "--port", "0", "--json"]
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.DEVNULL)
        try:
            for _ in range(600):
                said.seek(0)
                try:
                    yield f"{json.loads(said.read())['url']}/chain"
                    break
                except ValueError:
                    assert process.poll() is None
                    time.sleep(0.05)
        finally:
            process.terminate()
            process.wait(60)
