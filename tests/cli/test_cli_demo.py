from __future__ import annotations

from pathlib import Path

import pytest

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
