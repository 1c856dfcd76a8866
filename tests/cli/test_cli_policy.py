"""`accordion policy`: what it writes is what training reads, can be made again, and nonsense is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accordion.cli import main
from accordion.training.policies import from_file

LADDER = str(Path(__file__).parents[1] / "golden" / "long")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"id": "a", "dt_s": 0.5, "mbps": [0.05, 0.2, 0, 1, 0.1]}\n{"id": "b", "dt_s": 0.5, "mbps": [0.5, 0.5, 0.5]}\n')
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def test_what_is_written_is_what_training_reads(tmp_path: Path, trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.json"
    value = said(
        capsys, "policy", "communication", "--ladder", LADDER, "--link", str(trace), "--deadline", "200ms:3,0.5s", "-o", str(out)
    )
    assert list(from_file(out, len(value["probabilities"])).probabilities) == value["probabilities"]
    assert value["files"] == [str(out), str(tmp_path / "p.png"), str(tmp_path / "p.svg")]
    assert all(Path(path).stat().st_size > 100 for path in value["files"])
    made = json.loads(out.read_text())["made"]
    assert made["options"]["deadlines"] == [{"seconds": 0.2, "weight": 3.0}, {"seconds": 0.5, "weight": 1.0}]
    assert [sorted(one) for one in made["inputs"]] == [["manifest", "package"], ["bytes", "file", "sha256"]]
    assert made["nothing"] == pytest.approx(value["nothing"], abs=1e-6) and value["nothing"] > 0
    assert str(tmp_path) not in out.read_text()


def test_the_same_inputs_make_the_same_file(tmp_path: Path, trace: Path) -> None:
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        out = tmp_path / name / "policy.json"
        link = f"{trace}:b"
        assert main(["policy", "communication", "--ladder", LADDER, "--link", link, "--deadline", "1.2s", "-o", str(out)]) == 0
        contents.append([path.read_bytes() for path in sorted(out.parent.iterdir())])
    assert len(contents[0]) == 3
    assert contents[0] == contents[1]


def test_demand_then_a_mixture_with_a_floor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, first, second = tmp_path / "t.csv", tmp_path / "d.json", tmp_path / "m.json"
    table.write_text("configuration,count\n0,3\n1,1\n")
    asked = said(capsys, "policy", "demand", "--ladder", LADDER, "--requests", str(table), "-o", str(first), "--no-picture")
    count = len(asked["probabilities"])
    assert asked["probabilities"][:2] == [0.75, 0.25]
    assert asked["files"] == [str(first)]
    mixed = said(
        capsys, "policy", "mix", "--mix", f"0.5:{first},0.5:full", "--floor", "0.6", "-o", str(second), "--name", "evening"
    )
    assert mixed["probabilities"] == pytest.approx([0.3, 0.1, *[0] * (count - 3), 0.6])
    assert from_file(second, count).name == "evening"


@pytest.mark.parametrize(
    "arguments",
    [
        ["communication"],
        ["communication", "--ladder", LADDER],
        ["communication", "--ladder", LADDER, "--link", "TRACE"],
        ["communication", "--link", "TRACE", "--deadline", "1s"],
        ["communication", "--ladder", LADDER, "--link", "TRACE", "--deadline", "banana"],
        ["communication", "--ladder", LADDER, "--link", "TRACE", "--deadline", "1s:-1"],
        ["communication", "--ladder", LADDER, "--link", "TRACE", "--deadline", "1s:nan"],
        ["communication", "--ladder", LADDER, "--link", "TRACE", "--deadline", ","],
        ["communication", "--ladder", LADDER, "--link", "TRACE", "--deadline", "1h"],
        ["communication", "--ladder", LADDER, "--link", "TRACE", "--deadline", "1ms"],
        ["communication", "--ladder", LADDER, "--link", "TRACE:nobody", "--deadline", "1s"],
        ["communication", "--ladder", LADDER, "--link", "nowhere", "--deadline", "1s"],
        ["communication", "--ladder", LADDER, "--link", "TABLE", "--deadline", "1s"],
        ["communication", "--ladder", "nowhere", "--link", "TRACE", "--deadline", "1s"],
        ["communication", "--ladder", LADDER, "--link", "TRACE", "--deadline", "1s", "--floor", "2"],
        ["communication", "--ladder", LADDER, "--link", "TRACE", "--deadline", "1s", "--mix", "1:uniform"],
        ["demand", "--ladder", LADDER],
        ["demand", "--ladder", LADDER, "--requests", "nowhere"],
        ["demand", "--ladder", LADDER, "--requests", "TRACE"],
        ["demand", "--ladder", LADDER, "--requests", "LARGE"],
        ["demand", "--requests", "TABLE"],
        ["demand", "--ladder", LADDER, "--requests", "TABLE", "--link", "TRACE"],
        ["mix"],
        ["mix", "--mix", "1:uniform"],
        ["mix", "--ladder", LADDER, "--mix", "1"],
        ["mix", "--ladder", LADDER, "--mix", "x:uniform"],
        ["mix", "--ladder", LADDER, "--mix", "0.5:uniform"],
        ["mix", "--ladder", LADDER, "--mix", "1:CoML-99"],
        ["mix", "--ladder", LADDER, "--mix", "1:nowhere.json"],
        ["mix", "--ladder", LADDER, "--mix", "1:SMALL"],
        ["banana"],
    ],
)
def test_nonsense_is_one_line_and_leaves_nothing(
    arguments: list[str], tmp_path: Path, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"TRACE": trace, "TABLE": tmp_path / "t.csv", "LARGE": tmp_path / "l.csv", "SMALL": tmp_path / "s.json"}
    files["TABLE"].write_text("configuration\n0\n")
    files["LARGE"].write_text("configuration\n9999\n")
    files["SMALL"].write_text('{"probabilities": [0.5, 0.5]}')
    for word, path in files.items():
        arguments = [argument.replace(word, str(path)) for argument in arguments]
    out = tmp_path / "out.json"
    assert main(["policy", *arguments, "-o", str(out), "--json"]) == 2
    found = capsys.readouterr()
    assert json.loads(found.out)["exit_code"] == 2
    assert found.err.startswith("accordion: ") and found.err.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_a_place_that_is_none_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("configuration\n0\n")
    assert main(["policy", "demand", "--ladder", LADDER, "--requests", str(table), "-o", str(tmp_path / "no" / "p.json")]) == 2
