"""Outputs that can't take what a command says: the exit code tells, and nobody sees a traceback."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from accordion.artifact.layout import Layout
from accordion.cli import main
from accordion.cli.app import COMMANDS
from odd_packages import GRAPH_RAW, WEIGHT_RAW, adding, write  # type: ignore[import-not-found]


@pytest.mark.parametrize(
    ("arguments", "after", "environment", "code"),
    [
        (["show", "\u2013"], "", {"PYTHONIOENCODING": "latin-1"}, 2),  # a dash that this output has no letter for
        (["show", "nowhere", "--json"], ">/dev/full", {}, 2),
        (["show", "nowhere", "--json"], ">&-", {}, 2),
        (["--version"], ">&-", {}, 0),
    ],
)
def test_an_output_that_takes_nothing_gives_no_traceback(
    arguments: list[str], after: str, environment: dict[str, str], code: int
) -> None:
    command = f"{shlex.join([sys.executable, '-m', 'accordion.cli', *arguments])} {after}"
    found = subprocess.run(["sh", "-c", command], env={**os.environ, **environment}, capture_output=True, check=False)
    assert b"Traceback" not in found.stderr
    assert found.returncode == code


def test_a_command_loads_its_own_modules_only() -> None:
    code = (
        "import sys; from accordion.cli.app import build_parser; build_parser(['verify']);"
        "print(sorted({'accordion.cli.train', 'accordion.device', 'aiohttp', 'numpy', 'torch'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout.strip() == "[]"
    help_text = subprocess.run([sys.executable, "-m", "accordion.cli", "--help"], capture_output=True, check=True, text=True).stdout
    assert all(f"    {name}" in help_text for name in COMMANDS)


def test_an_interrupt_is_told_in_either_form(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("accordion.cli.verify.execute", interrupted)
    assert main(["verify", "x", "--json"]) == 130
    said = capsys.readouterr()
    assert json.loads(said.out) == {"error": "interrupted", "exit_code": 130} and said.err == "accordion: interrupted\n"
    monkeypatch.setitem(sys.modules, "accordion.cli.app", None)
    monkeypatch.setattr("builtins.__import__", lambda *_, **__: interrupted())
    assert main(["verify", "x"]) == 130


def test_what_a_terminal_would_obey_is_written_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = "image\x1b[2J\x9b31m\u202eclassification – ok"
    layout = Layout.create(tmp_path / "p")
    (segment,), graph, _ = adding("a.onnx", ["a.safetensors"], [1])
    write(layout, "latest", [(GRAPH_RAW, graph, "a.onnx"), (WEIGHT_RAW, segment, "a.safetensors")], [(3, "a.onnx")], task=task)
    assert main(["show", str(tmp_path / "p")]) == 0
    shown = capsys.readouterr().out
    assert r"task image\u001b[2J\u009b31m\u202eclassification – ok" in shown
    assert all(letter == "\n" or letter.isprintable() for letter in shown)
    assert main(["show", str(tmp_path / "p"), "--json"]) == 0
    said = capsys.readouterr().out
    assert "\x9b" not in said and json.loads(said)["task"] == task
    assert main(["show", str(tmp_path / "\x1b[2Jnone")]) == 2
    assert "\x1b" not in capsys.readouterr().err
