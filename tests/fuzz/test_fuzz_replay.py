"""Every seed and every input that fuzzing kept, through its parser; and some changes to each, without atheris."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from accordion.errors import FormatError
from fuzz.document import DOCUMENT, written
from fuzz.keep import few
from fuzz.target import CORPUS
from fuzz.targets import TARGETS

CHANGES = 60  # to each target's inputs, the same ones every time


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_kept_is_taken_or_refused_in_one_line(name: str) -> None:
    target = TARGETS[name]
    for path in target.kept():
        target.once(path.read_bytes())
    assert any(map(target.once, target.seeds())), "of the seeds at least one is sound"


@pytest.mark.parametrize("name", TARGETS)
def test_changes_are_taken_or_refused_in_one_line(name: str) -> None:
    target, rng = TARGETS[name], Random(f"{name} 7")
    inputs = [*target.seeds(), *(path.read_bytes() for path in target.kept())]
    for _ in range(CHANGES):
        target.once(target.mutate(rng.choice(inputs), rng))


def test_the_kept_inputs_are_small_and_belong_to_a_target() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} <= set(TARGETS)
    assert sum(path.stat().st_size for path in files) < 200_000


def test_the_tables_in_the_documentation_are_what_was_measured() -> None:
    text = DOCUMENT.read_text()
    assert written(text) == text


def test_a_promise_that_is_broken_is_found() -> None:
    """The harness itself: an error of another kind, and an error of two lines, come out of it."""

    def breaks(data: bytes) -> None:
        raise KeyError(data) if data == b"a" else FormatError("two\nlines")

    broken = replace(TARGETS["manifest"], take=breaks)
    with pytest.raises(KeyError):
        broken.once(b"a")
    with pytest.raises(AssertionError, match="not one short line"):
        broken.once(b"b")
    assert TARGETS["manifest"].once(b"b") is False


def test_few_inputs_reach_all_that_many_do() -> None:
    lines = {name: ("file.py", number) for number, name in enumerate("abcd")}
    reach = [
        (b"x", frozenset({lines["a"]})),
        (b"xy", frozenset({lines["a"], lines["b"], lines["c"]})),
        (b"z", frozenset({lines["d"]})),
    ]
    assert few(reach, []) == [b"xy", b"z"]
    assert few(reach, [lines["d"], lines["c"], lines["b"]]) == [b"x"]
