from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "netns-link.sh"


def test_a_fetch_over_a_real_shaped_link(package: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("tc") is None:
        pytest.skip("joining network namespaces needs root and tc")
    accordion = f"{sys.executable} -m accordion.cli"
    serve = f"{accordion} serve {package} --host 10.77.0.1 --port 8642"
    fetch = f"{accordion} fetch http://10.77.0.1:8642/chain -o {tmp_path / 'm'} --json"
    done = subprocess.run([SCRIPT, "4mbit", "20ms", serve, fetch], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout[done.stdout.index("{") :])
    assert result["configuration"] == 5
    # What the token bucket lets through: the rate, and at the beginning its burst.
    assert result["seconds"] >= (result["bytes_received"] - 64_000) * 8 / 4e6


def test_a_link_that_follows_a_measured_trace(package: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("tc") is None:
        pytest.skip("joining network namespaces needs root and tc")
    (tmp_path / "t.jsonl").write_text('{"id": "slow", "dt_s": 1, "mbps": [1, 2, 4]}\n{"id": "other", "dt_s": 1, "mbps": [100]}\n')
    accordion = f"{sys.executable} -m accordion.cli"
    serve = f"{accordion} serve {package} --host 10.77.0.1 --port 8642"
    fetch = f"{accordion} fetch http://10.77.0.1:8642/chain -o {tmp_path / 'm'} --json"
    environment = {**os.environ, "ACCORDION_PYTHON": sys.executable}
    command = [SCRIPT, f"replay:{tmp_path / 't.jsonl'}:slow@1", "0ms", serve, fetch]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout[done.stdout.index("{") :])
    assert result["configuration"] == 5
    assert result["seconds"] >= (result["bytes_received"] - 64_000) * 8 / 4e6  # no moment is faster than 4 Mbit/s
    command[1] = f"replay:{tmp_path / 't.jsonl'}"
    refused = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert refused.returncode == 2
    assert "say which one" in refused.stderr


def test_wrong_arguments_say_how_it_is_used() -> None:
    done = subprocess.run([SCRIPT, "4mbit"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr
