"""An independent server that spoils its answers: each fetch ends with the right exit code, and no wrong byte ever runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scene import LAST, answers  # type: ignore[import-not-found]

from accordion.artifact.layout import Layout
from accordion.cli import main
from accordion.endpoint import export
from accordion.registry import http

SEEDS = range(1, 33)
SERVER = Path(__file__).with_name("mutating_server.py")


@pytest.fixture(scope="module")
def address(chain_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the server is, up to the seed."""
    folder = tmp_path_factory.mktemp("export")
    export(chain_package, folder)
    process = subprocess.Popen([sys.executable, "-I", str(SERVER), str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as said:
        yield f"http://127.0.0.1:{int(said.readline())}/seed-"
        process.terminate()
        process.wait()


def one(address: str, seed: int, package: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """Fetches by digest, from a server spoilt by `seed`; the exit code, which must fit what is there."""
    digest = Layout.open(package).manifest("latest").digest
    code = main(["fetch", f"{address}{seed}/chain@{digest}", "-o", str(folder), "--json"])
    said = capsys.readouterr()
    there = answers(folder, package)
    assert there is None or there[0] == "latest"
    if code == 0:
        assert there == ("latest", json.loads(said.out)["configuration"])
    else:
        assert code in (1, 2, 4)
        last = said.err.strip().splitlines()[-1]
        assert len(last) < 1000 and "Traceback" not in said.err
    assert not list(folder.rglob(".new-*"))
    return code


def test_the_honest_server(address: str, chain_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert one(address, 0, chain_package, tmp_path / "m", capsys) == 0
    assert answers(tmp_path / "m", chain_package) == ("latest", LAST)


def test_a_server_that_spoils_its_answers(
    address: str, chain_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "SILENCE_S", 0.5)
    monkeypatch.setattr("accordion.device.delivery.PAUSE_S", 0.01)
    codes = {}
    for seed in SEEDS:
        folder = tmp_path / str(seed)
        codes[seed] = one(address, seed, chain_package, folder, capsys)
        if seed % 4 == 0:  # the next honest server completes it, whatever was left
            assert one(address, 0, chain_package, folder, capsys) == 0
            assert answers(folder, chain_package) == ("latest", LAST)
    assert set(codes.values()) >= {0, 1, 4}, "the seeds should provoke all of them"


def test_spoilt_bytes_of_an_earlier_try_cost_no_later_one(
    address: str, chain_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A part of a layer that is kept can't be checked yet. When the whole layer is wrong, it comes once more from its beginning."""
    layer = Layout.open(chain_package).manifest("latest").layers[3]
    for left in (layer.size // 2, layer.size):
        folder = tmp_path / str(left)
        assert main(["fetch", f"{address}0/chain:latest", "-o", str(folder), "--max-bytes", "60kB"]) == 0
        capsys.readouterr()
        (folder / ".incoming").mkdir(exist_ok=True)
        (folder / ".incoming" / layer.digest.removeprefix("sha256:")).write_bytes(b"\0" * left)
        assert one(address, 0, chain_package, folder, capsys) == 0
        assert answers(folder, chain_package) == ("latest", LAST)
