"""The commands as a user gives them: what they answer, and what they say to nonsense."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accordion.artifact.layout import Layout
from accordion.cli.app import main

GOLDEN = Path(__file__).parents[1] / "golden"
NOBODY = "http://127.0.0.1:1/model"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_outputs_that_json_has_no_word_for_are_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from accordion.cli.console import Console

    Console(as_json=True).result({"outputs": {"y": [[float("nan"), float("inf"), 1.5]]}, "seconds": 0.1}, [])
    assert json.loads(capsys.readouterr().out) == {"outputs": {"y": [[None, None, 1.5]]}, "seconds": 0.1}


def test_half_an_option_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "show", str(GOLDEN / "precision"), "--js")
    assert (code, out) == (2, "") and "--js" in err


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "accordion", "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("accordion ")


def test_a_digest_may_have_its_sign(served: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetched = answer(capsys, "fetch", f"{served}/precision", "-o", str(tmp_path / "model"))
    again = answer(capsys, "upgrade", str(tmp_path / "model"), "--reference", "@" + fetched["manifest"])
    assert again["manifest"] == fetched["manifest"]


def test_a_model_from_the_plan_to_shedding(served: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, model = f"{served}/precision", str(tmp_path / "model")
    np.save(tmp_path / "x.npy", np.zeros((2, 4), np.float32))
    plan = answer(capsys, "plan", source, "--max-bytes", "10MB")
    assert plan == answer(capsys, "plan", str(GOLDEN / "precision"), "--max-bytes", "10MB") | {
        key: plan[key] for key in plan if key.startswith("assumed")
    }
    first = plan["bytes_total"] - 1
    fetched = answer(capsys, "fetch", source, "-o", model, "--max-bytes", str(first))
    assert set(fetched) == {
        *("name", "manifest", "configuration", "quality", "bytes_received", "bytes_reused", "seconds", "deadline_met", "ready")
    }
    assert fetched["configuration"] == 0 and fetched["deadline_met"]
    planned = answer(capsys, "plan", source, "--held", model)
    upgraded = answer(capsys, "upgrade", model)
    assert upgraded["configuration"] == 1
    assert upgraded["bytes_received"] == planned["bytes_to_send"]
    out = answer(capsys, "run", model, str(tmp_path / "x.npy"))
    assert out["configuration"] == 1 and np.shape(out["outputs"]["logits"]) == (2, 3)
    assert answer(capsys, "run", model, str(tmp_path / "x.npy"), "--configuration", "0")["configuration"] == 0
    assert answer(capsys, "run", model, str(tmp_path / "x.npy"), "--max-energy", "1")["configuration"] == 1
    code, out_text, err = run(capsys, "run", model, str(tmp_path / "x.npy"), "--max-energy", "1e-15", "--json")
    assert code == 3 and json.loads(out_text)["limit"] == "max_energy_j" and err.count("\n") == 1
    for bad in (("--max-energy", "0"), ("--max-energy", "banana"), ("--max-energy", "1", "--configuration", "0")):
        assert run(capsys, "run", model, str(tmp_path / "x.npy"), *bad)[0] == 2
    assert answer(capsys, "show", model)["configurations"][1]["index"] == 1
    assert answer(capsys, "shed", model, "--to", "0")["configuration"] == 0
    assert answer(capsys, "verify", model) == {"ok": True, "problems": []}
    assert run(capsys, "run", model, str(tmp_path / "x.npy"), "--configuration", "1")[0] == 3


def test_inputs_are_run_while_bytes_arrive(served: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 4), np.float32))
    timeline = tmp_path / "timeline.json"
    more = ("--input", str(tmp_path / "x.npy"), "--timeline", str(timeline))
    code, _, err = run(capsys, "fetch", f"{served}/precision", "-o", str(tmp_path / "model"), *more)
    assert code == 0, err
    data = json.loads(timeline.read_text())
    assert data["events"][-1]["bytes"] == data["bytes_received"]
    assert "configuration  1" in err or "configuration 1" in err


def test_a_broken_package_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(GOLDEN / "precision", tmp_path / "package")
    blob = max((tmp_path / "package" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(blob.read_bytes()[:-1])
    (tmp_path / "empty").mkdir()
    code, out, _ = run(capsys, "verify", str(tmp_path / "empty"), "--json")
    assert code == 4 and json.loads(out)["ok"] is False and "neither" in json.loads(out)["problems"][0]
    code, out, _ = run(capsys, "verify", str(tmp_path / "package"), "--json")
    assert code == 4
    assert json.loads(out)["ok"] is False
    assert run(capsys, "export", str(tmp_path / "package"), str(tmp_path / "static"))[0] == 4
    assert run(capsys, "push", str(tmp_path / "package"), NOBODY)[0] == 4


@pytest.mark.parametrize(
    "code, arguments",
    [
        (2, ["fly"]),
        (2, []),
        (2, ["fetch"]),
        (2, ["fetch", NOBODY]),
        (1, ["fetch", NOBODY, "-o", "{tmp}/m"]),
        (2, ["fetch", NOBODY, "-o", "{tmp}/m", "--deadline", "banana"]),
        (2, ["fetch", NOBODY, "-o", "{tmp}/m", "--deadline", "0s"]),
        (2, ["fetch", NOBODY, "-o", "{tmp}/m", "--max-bytes", "10 parrots"]),
        (2, ["fetch", NOBODY, "-o", "{tmp}/m", "--limit-rate", "0bps"]),
        (2, ["fetch", NOBODY, "-o", "{tmp}/m", "--min-quality", "good"]),
        (2, ["fetch", NOBODY, "-o", "{tmp}/m", "--input", "{tmp}/no.npy"]),
        (2, ["fetch", "not a url", "-o", "{tmp}/m"]),
        (2, ["fetch", "ftp://host/name", "-o", "{tmp}/m"]),
        (2, ["fetch", NOBODY, "-o", "{file}"]),
        (2, ["fetch", "{served}/nobody", "-o", "{tmp}/m"]),
        (2, ["fetch", "{served}/precision:v9", "-o", "{tmp}/m"]),
        (2, ["fetch", "{served}/versions", "-o", "{tmp}/m"]),
        (3, ["fetch", "{served}/precision", "-o", "{tmp}/m", "--min-quality", "0.99999"]),
        (3, ["fetch", "{served}/precision", "-o", "{tmp}/m", "--max-bytes", "1"]),
        (2, ["upgrade", "{tmp}"]),
        (2, ["upgrade", "{tmp}/nothing"]),
        (2, ["upgrade", "{tmp}", "--to", "-1"]),
        (2, ["run", "{tmp}", "{file}"]),
        (2, ["run", "{tmp}"]),
        (2, ["shed", "{tmp}", "--to", "0"]),
        (2, ["shed", "{tmp}", "--to", "many"]),
        (4, ["show", "{tmp}"]),
        (4, ["show", "{file}"]),
        (2, ["show", "{tmp}/nothing"]),
        (1, ["show", NOBODY]),
        (4, ["verify", "{tmp}"]),
        (2, ["verify", "{tmp}/nothing"]),
        (2, ["plan", "{tmp}/nothing"]),
        (1, ["plan", NOBODY]),
        (3, ["plan", "{golden}/precision", "--max-bytes", "1"]),
        (2, ["plan", "{golden}/versions"]),
        (2, ["plan", "{golden}/precision", "--reference", "v9"]),
        (4, ["plan", "{golden}/precision", "--held", "{tmp}"]),
        (2, ["push", "{tmp}/nothing", NOBODY]),
        (1, ["push", "{golden}/precision", NOBODY]),
        (1, ["pull", NOBODY, "-o", "{tmp}/p"]),
        (2, ["export", "{tmp}/nothing", "{tmp}/e"]),
        (2, ["serve", "{tmp}/nothing"]),
        (2, ["serve", "{golden}/precision", "{golden}/precision"]),
        (2, ["serve", "{golden}/precision", "--port", "70000"]),
        (2, ["serve", "{golden}/precision", "--tokens", "{tmp}/none"]),
        (2, ["serve", "{golden}/precision", "--tls-cert", "{tmp}/none", "--tls-key", "{tmp}/none"]),
        (2, ["serve", "{golden}/precision", "--trusted-proxy", "somebody"]),
        (2, ["serve", "{golden}/precision", "--header-size", "1kB"]),
        (2, ["serve", "{golden}/precision", "--requests", "0"]),
        (2, ["serve", "{golden}/precision", "--grace", "1ms"]),
        (2, ["serve", "{golden}/precision", "--burst", "none"]),
        (2, ["serve", "ftp://127.0.0.1/precision"]),
        (2, ["show", "{served}/precision", "--cacert", "{tmp}/none"]),
        (2, ["show", "{served}/precision", "--token-file", "{tmp}/none"]),
        (2, ["train", "--dataset", "zebras", "-o", "{tmp}/r"]),
        (2, ["train", "--dataset", "digits", "--network", "resnet9", "-o", "{tmp}/r"]),
        (2, ["train", "--dataset", "digits", "--policy", "mine", "-o", "{tmp}/r"]),
        (2, ["train", "--dataset", "digits", "--epochs", "0", "-o", "{tmp}/r"]),
        (2, ["profile", "{tmp}"]),
        (2, ["package", "{tmp}", "-o", "{tmp}/p"]),
        (2, ["picture", "ladder", "{tmp}/nothing", "-o", "{tmp}/x"]),
        (2, ["picture", "timeline", "{tmp}/nothing", "-o", "{tmp}/x"]),
        (4, ["picture", "timeline", "{file}", "-o", "{tmp}/x"]),
    ],
)
def test_nonsense_gets_one_clear_line(
    code: int, arguments: list[str], served: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    file = tmp_path / "file.json"
    file.write_text("[1, 2")
    places = {"{tmp}": str(folder), "{file}": str(file), "{served}": served, "{golden}": str(GOLDEN)}
    for mark, place in places.items():
        arguments = [argument.replace(mark, place) for argument in arguments]
    found, out, err = run(capsys, *arguments)
    lines = [line for line in err.splitlines() if line]
    assert found == code, err
    assert out == ""
    assert len(lines) >= 1 and lines[-1].startswith("accordion: ") and "Traceback" not in err
    assert list(folder.rglob("*")) == []  # nothing half-written


def test_a_full_disk_is_one_clear_line(served: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import errno
    import os

    real = os.fsync

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    os.fsync = full
    try:
        code, _, err = run(capsys, "fetch", f"{served}/precision", "-o", str(tmp_path / "m"))
    finally:
        os.fsync = real
    assert code == 1
    assert "No space left" in err.splitlines()[-1]
    assert run(capsys, "fetch", f"{served}/precision", "-o", str(tmp_path / "m"))[0] == 0


@pytest.mark.parametrize("kind", [None, "application/spdx+json"])
def test_what_stands_beside_a_model_is_in_nobodys_way(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str | None) -> None:
    """A list of parts under a tag of its own; other tools do not say in the index what it is."""
    layout = Layout.open(shutil.copytree(GOLDEN / "precision", tmp_path / "precision"))
    digest, size = layout.write_blob(b"{}")
    blob = {"mediaType": "application/spdx+json", "digest": digest, "size": size}
    fields = {"schemaVersion": 2, "artifactType": "application/spdx+json", "config": blob, "layers": [blob]}
    layout.add_manifest("parts", json.dumps(fields).encode(), artifact_type=kind)
    assert answer(capsys, "verify", str(layout.path)) == {"ok": True, "problems": []}
    assert answer(capsys, "plan", str(layout.path))["configuration"] > 0
    layout.remove([*layout.tags().keys() - {"parts"}])
    code, out, _ = run(capsys, "verify", str(layout.path), "--json")
    assert code == 4 and "holds no version" in out
    layout.blob_path(digest).unlink()
    assert "parts: " in run(capsys, "verify", str(layout.path), "--json")[1]
