"""Stock tools carry a package to a stock registry and back, blob for blob."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from accordion.artifact.add_alternates import add_alternates
from accordion.artifact.layout import Layout
from accordion.artifact.verify import verify_package
from chain import K, add_version  # type: ignore[import-not-found]
from stand_in import ENCODING, StandIn  # type: ignore[import-not-found]
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


@pytest.fixture
def alternates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with alternates, among which layers of graphs occur once more."""
    from accordion.device import decoding

    package, known = tmp_path / "chain", tmp_path / "known"
    known.mkdir()
    add_version(package, "latest", 0, compress=True)
    stand_in = StandIn(known)
    made = add_alternates(Layout.open(package), "latest", ENCODING, stand_in.encode)
    assert len({layer.digest for layer in made.layers}) < len(made.layers)
    monkeypatch.setattr(decoding, "COMMANDS", {ENCODING: lambda memory: stand_in.command()})
    return package


def test_alternates_travel_with_the_rest_and_are_fetched_from_a_stock_registry(
    registry: str, alternates: Path, tmp_path: Path
) -> None:
    from accordion.cli.app import main
    from accordion.device import Observer, fetch

    manifest = Layout.open(alternates).manifest()
    wanted = {layer.digest.removeprefix("sha256:") for layer in (manifest.config, *manifest.layers)}
    assert main(["push", str(alternates), f"http://{registry}/chain:v1"]) == 0
    assert main(["pull", f"http://{registry}/chain:v1", "-o", str(tmp_path / "ours")]) == 0
    assert wanted <= blobs(tmp_path / "ours").keys()
    assert verify_package(tmp_path / "ours") == []
    said: list[str] = []
    result = fetch(f"http://{registry}/chain:v1", tmp_path / "m", alternate=ENCODING, observer=Observer(say=said.append))
    assert (result.configuration, said) == (K - 1, [])
    assert result.bytes_received < fetch(f"http://{registry}/chain:v1", tmp_path / "plain").bytes_received - 80_000
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    run("skopeo", "copy", "--src-tls-verify=false", f"docker://{registry}/chain:v1", f"oci:{tmp_path / 'theirs'}:v1")
    assert wanted <= blobs(tmp_path / "theirs").keys()
    assert Layout.open(tmp_path / "theirs").manifest("v1").raw == manifest.raw
    assert verify_package(tmp_path / "theirs") == []
