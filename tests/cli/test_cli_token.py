from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from accordion.cli import main
from accordion.endpoint.tokens import Tokens


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_tokens_are_made_used_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tokens.json"
    first = told(capsys, "token", "phones", "--file", str(path), "--packages", "team/*", "--packages", "net", "--days", "30")
    second = told(capsys, "token", "prometheus", "--file", str(path), "--rights", "metrics")
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert first["token"] not in text
    tokens, now = Tokens.parse(text.encode(), "tokens"), datetime.now(UTC)
    grant = tokens.find(first["token"], now)
    assert grant is not None
    assert grant.allows("pull", "team/net")
    assert grant.allows("plan", "net")
    assert not grant.allows("pull", "other")
    assert tokens.find(first["token"], now + timedelta(days=31)) is None
    assert datetime.fromisoformat(first["expires"]) > now + timedelta(days=29)
    other = tokens.find(second["token"], now)
    assert other is not None
    assert other.rights == {"metrics"}
    assert told(capsys, "token", "phones", "--file", str(path), "--remove") == {"name": "phones", "removed": True}
    assert [grant.name for grant in Tokens.parse(path.read_bytes(), "tokens").grants] == ["prometheus"]


def test_the_plain_output_is_the_token_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "one", "--file", str(tmp_path / "t")]) == 0
    token = capsys.readouterr().out.strip()
    assert Tokens.parse((tmp_path / "t").read_bytes(), "t").find(token, datetime.now(UTC)) is not None


def test_what_stands_in_the_file_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t"
    path.write_text(json.dumps({"anonymous": {"packages": ["open"], "rights": ["pull"]}, "tokens": []}))
    path.chmod(0o640)
    told(capsys, "token", "one", "--file", str(path))
    assert Tokens.parse(path.read_bytes(), "t").anonymous.allows("pull", "open")
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_stays_theirs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Root adds a token to what the endpoint's own user reads."""
    path = tmp_path / "t"
    told(capsys, "token", "one", "--file", str(path))
    path.chmod(0o660)
    os.chown(path, 65534, 65533)
    before = os.umask(0o077)
    try:
        told(capsys, "token", "two", "--file", str(path))
        told(capsys, "token", "one", "--file", str(path), "--remove")
    finally:
        os.umask(before)
    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (65534, 65533, 0o660)


def test_who_may_not_give_it_away_changes_it_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    path = tmp_path / "t"
    told(capsys, "token", "one", "--file", str(path))
    path.chmod(0o640)
    monkeypatch.setattr(os, "fchown", refused)
    told(capsys, "token", "two", "--file", str(path))
    assert path.stat().st_mode & 0o777 == 0o640 and len(Tokens.parse(path.read_bytes(), "t").grants) == 2


def test_a_link_to_the_file_stays_a_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "t").symlink_to("secrets/t")
    for name in ("one", "two"):
        told(capsys, "token", name, "--file", str(tmp_path / "t"))
    assert (tmp_path / "t").is_symlink() and not (tmp_path / "secrets" / "t").is_symlink()
    assert len(Tokens.parse((tmp_path / "secrets" / "t").read_bytes(), "t").grants) == 2
    assert [entry.name for entry in (tmp_path / "secrets").iterdir()] == ["t"]


def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t"
    assert main(["token", "one", "--file", str(path)]) == 0
    before = path.read_bytes()
    for wrong in (
        ["one"],
        ["two words"],
        ["two", "--rights", "own"],
        ["two", "--packages", "a b"],
        ["two", "--remove"],
        ["two", "--days", "0"],
    ):
        assert main(["token", *wrong, "--file", str(path)]) == 2
    assert path.read_bytes() == before
    path.write_text("{")
    assert main(["token", "two", "--file", str(path)]) == 4
    assert main(["token", "two", "--file", str(tmp_path / "none" / "t")]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_who_adds_and_who_revokes_at_the_same_time_do_not_undo_each_other(tmp_path: Path) -> None:
    path = tmp_path / "t"
    for index in range(4):
        assert main(["token", f"old{index}", "--file", str(path)]) == 0
    command = [sys.executable, "-m", "accordion", "token"]
    each = [[*command, f"new{index}", "--file", str(path)] for index in range(4)]
    each += [[*command, f"old{index}", "--file", str(path), "--remove"] for index in range(4)]
    under_way = [subprocess.Popen(one, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for one in each]
    for process in under_way:
        _, said = process.communicate()
        assert process.returncode == 0, said
    names = {grant.name for grant in Tokens.parse(path.read_bytes(), "t").grants}
    assert names == {f"new{index}" for index in range(4)}


@pytest.mark.parametrize("days", ["9999999", "99999999999999999999"])
def test_days_beyond_the_calendar_are_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str], days: str) -> None:
    with contextlib.suppress(SystemExit):
        assert main(["token", "one", "--file", str(tmp_path / "t"), "--days", days]) == 2
    assert "days" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()
