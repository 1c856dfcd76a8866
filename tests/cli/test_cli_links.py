"""What `--link`, `--confidence`, `--prefer` and `--replay` do on the command line, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accordion.cli import main

PACKAGE = Path(__file__).parents[1] / "golden" / "long"
TRACES = "\n".join(
    json.dumps({"id": f"t{n}", "dt_s": 0.1, "mbps": [rate] * 40}) for n, rate in enumerate([0.2, 1, 2, 4, 8, 16, 32, 64, 128, 256])
)


@pytest.fixture
def traces(tmp_path: Path) -> str:
    (tmp_path / "traces.jsonl").write_text(TRACES)
    return str(tmp_path / "traces.jsonl")


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main(["plan", str(PACKAGE), "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def test_confidence_is_kept_and_said(traces: str, capsys: pytest.CaptureFixture[str]) -> None:
    bytes_by_confidence = []
    for confidence in ("0.5", "0.7", "0.8"):
        code, found = plan(capsys, "--link", traces, "--deadline", "1s", "--rtt", "10ms", "--confidence", confidence)
        assert code == 0
        assert found["promised"] >= float(confidence)
        bytes_by_confidence.append(found["bytes_to_send"])
    assert bytes_by_confidence == sorted(bytes_by_confidence, reverse=True)
    # Ten traces promise ten elevenths at most.
    code, found = plan(capsys, "--link", traces, "--deadline", "1s", "--confidence", "0.95")
    assert (code, found["limit"]) == (3, "deadline_s")
    assert main(["plan", str(PACKAGE), "--link", traces, "--deadline", "1s", "--confidence", "0.7"]) == 0
    assert "in time with probability" in capsys.readouterr().out


def test_one_trace_of_a_file(traces: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = plan(capsys, "--link", f"{traces}:t9", "--deadline", "3s", "--confidence", "0.99")
    assert (code, found["promised"] >= 0.99) == (0, True)


def test_prefer(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(capsys, "--prefer", "bytes")[0] == 0
    assert main(["plan", str(PACKAGE), "--prefer", "speed"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--link", "nothing.jsonl"], "no file nothing.jsonl"),
        (["--link", "TRACES:t99"], "no trace 't99'"),
        (["--link", "TRACES", "--throughput", "1Mbps"], "leave --throughput out"),
        (["--link", "TRACES", "--deadline", "1h"], "say nothing about"),
        (["--link", "EMPTY"], "is empty"),
        (["--link", "TRACES", "--link", "CONSTANT"], "not several kinds"),
    ],
)
def test_links_that_make_no_sense_are_wrong_usage(
    traces: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "constant").write_text('{"accordion_link": 1, "kind": "constant", "throughput_bps": 1e6}')
    names = {"TRACES": traces, "EMPTY": str(tmp_path / "empty"), "CONSTANT": str(tmp_path / "constant")}
    for name, path in names.items():
        arguments = [argument.replace(name, path) for argument in arguments]
    assert main(["plan", str(PACKAGE), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--replay", "TRACES"], "say which one"),
        (["--replay", "TRACES:t1", "--limit-rate", "1Mbps"], "leave --limit-rate out"),
        (["--start", "3s"], "name one with --replay"),
        (["--replay", "nothing"], "no file"),
    ],
)
def test_replays_that_make_no_sense_are_wrong_usage(
    traces: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    arguments = [argument.replace("TRACES", traces) for argument in arguments]
    assert main(["fetch", "http://127.0.0.1:1/long", "-o", str(tmp_path / "m"), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_a_fetch_over_a_replayed_trace(served: str, traces: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link.json").write_text('{"accordion_link": 1, "kind": "distribution", "throughput_bps": [1e8, 2e8]}')
    arguments = ["--replay", f"{traces}:t9", "--start", "1s", "--link", str(tmp_path / "link.json"), "--deadline", "2min"]
    assert main(["fetch", f"{served}/long", "-o", str(tmp_path / "m"), "--json", "--confidence", "0.9", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["deadline_met"] and found["configuration"] > 0
