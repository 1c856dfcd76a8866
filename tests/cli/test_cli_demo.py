from __future__ import annotations

from pathlib import Path

import pytest

from accordion.cli import demo, main
from accordion.cli.demo_steps import Steps
from accordion.errors import AccordionError


def test_a_step_may_end_otherwise_where_that_is_foreseen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "said").open("w") as stream:
        steps = Steps(stream)
        assert steps.run("--version") == 0
        assert steps.run("plan", may_end_with=2) == 2  # wrong usage: it does not say of what
        with pytest.raises(AccordionError, match=r"the demonstration ends here: `accordion plan` ended with 2"):
            steps.run("plan", may_end_with=3)
    assert [step["exit_code"] for step in steps.done] == [0, 2, 2]
    assert "$ accordion plan" in (tmp_path / "said").read_text()
    assert "Traceback" not in capfd.readouterr().err


class _EnoughError(AccordionError):
    """Ends the demonstration before it trains."""


def _stop(monkeypatch: pytest.MonkeyPatch, *instead: str) -> None:
    """The demonstration ends with its first command, instead of which it runs another."""

    class Stopped(Steps):
        def run(self, *arguments: str, **options: object) -> int:
            if instead:
                super().run(*instead)
            raise _EnoughError("enough")

    monkeypatch.setattr(demo, "Steps", Stopped)


def _model(folder: Path) -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "state.json").write_text("{}")
    return folder / "model"


def test_a_model_of_the_users_own_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _stop(monkeypatch)
    model = _model(tmp_path)
    assert main(["demo", "-o", str(tmp_path)]) == 2
    assert f"{model} was not made by a demonstration" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (model / "state.json").read_text() == "{}"


def test_the_demonstrations_own_model_is_fetched_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _stop(monkeypatch)
    out = tmp_path / "out"
    assert main(["demo", "-o", str(out)]) == 1
    model, other = _model(out), _model(out / "pictures")
    assert main(["demo", "-o", str(out)]) == 1
    assert "enough" in capsys.readouterr().err
    assert not model.exists() and other.is_dir()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_demonstration_asks_no_proxy_for_its_own_endpoint(
    served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], variable: str
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody is there
    monkeypatch.setenv("NO_PROXY", "example.org")
    _stop(monkeypatch, "plan", f"{served}/precision", "--max-bytes", "10MB")
    assert main(["demo", "-o", str(tmp_path)]) == 1
    told = capfd.readouterr()
    assert "NO_PROXY=example.org,127.0.0.1" in told.out and "enough" in told.err


def test_without_a_proxy_in_the_way_the_environment_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _stop(monkeypatch)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["demo", "-o", str(tmp_path)]) == 1
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "*")
    assert main(["demo", "-o", str(tmp_path)]) == 1
    assert "PROXY" not in capsys.readouterr().out
