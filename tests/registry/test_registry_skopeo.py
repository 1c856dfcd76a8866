"""Stock tools carry a package to a stock registry and back, blob for blob."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from accordion.artifact.verify import verify_package
from stock_registry import stock_registry

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with stock_registry(tmp_path) as address:
        yield address


def blobs(package: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (package / "blobs" / "sha256").iterdir()}


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_skopeo_to_a_registry_and_back(registry: str, tmp_path: Path) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    package, back = GOLDEN / "precision", tmp_path / "back"
    run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{package}:latest", f"docker://{registry}/precision:latest")
    run("skopeo", "copy", "--src-tls-verify=false", f"docker://{registry}/precision:latest", f"oci:{back}:latest")
    assert blobs(back) == blobs(package)
    assert verify_package(back) == []


def test_our_push_and_pull_and_a_fetch_without_any_endpoint(registry: str, tmp_path: Path) -> None:
    from accordion.cli.app import main

    package, back = GOLDEN / "precision", tmp_path / "back"
    assert main(["push", str(package), f"http://{registry}/precision:v1"]) == 0
    assert main(["pull", f"http://{registry}/precision:v1", "-o", str(back)]) == 0
    assert blobs(back) == blobs(package)
    assert main(["fetch", f"http://{registry}/precision:v1", "-o", str(tmp_path / "model")]) == 0
    assert main(["verify", str(tmp_path / "model")]) == 0
