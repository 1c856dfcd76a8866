"""What is imported when, tried in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def loaded(names: str, *modules: str) -> str:
    code = f"import sys; from accordion.endpoint import {names}; print([name for name in {modules} if name in sys.modules])"
    return run(code).stdout.strip()


def test_no_torch_and_a_light_export() -> None:
    assert loaded("export", "starlette", "granian", "torch") == "[]"
    assert loaded("create_app, serve", "starlette", "granian", "torch") == "['starlette', 'granian']"


@pytest.mark.parametrize(("name", "missing"), [("create_app", "starlette"), ("serve", "granian")])
def test_a_missing_extra_is_named(name: str, missing: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None\nfrom accordion.endpoint import {name}"
    assert run(code).stderr.strip().splitlines()[-1] == (
        f"accordion.errors.UsageError: the endpoint needs {missing}: in the folder of Accordion's source, pip install '.[endpoint]'"
    )
