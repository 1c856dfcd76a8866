"""Outputs that can't take what a command says: the exit code tells, and nobody sees a traceback."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest


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
