"""What docs/trust.md and the README say is held against what there is."""

from __future__ import annotations

import re
from pathlib import Path

from accordion.cli.app import build_parser

ROOT = Path(__file__).parents[2]
FILES = {"K": "test_trust_attacks_on_keys.py", "T": "test_trust_attacks_on_tuf.py", "D": "test_trust_delivery.py"}
TEST = re.compile(r"^(?:async )?def (test_\w+)\(", re.MULTILINE)
NAMED = re.compile(r"([KTD](?:, [KTD])*) ((?:`test_\w+…?`(?:, )?)+)")  # letters of files, then names of tests in each of them


def test_every_attack_names_tests_that_exist_and_every_test_is_named() -> None:
    tests = {letter: TEST.findall((Path(__file__).parent / name).read_text()) for letter, name in FILES.items()}
    rows = [row for row in (ROOT / "docs" / "trust.md").read_text().partition("| attack |")[2].splitlines()[2:] if row]
    named: set[tuple[str, str]] = set()
    for row in rows:
        groups = NAMED.findall(row.split("|")[3])
        assert groups, row
        for letters, names in groups:
            for name, more in re.findall(r"`(test_\w+)(…?)`", names):
                for letter in letters.split(", "):
                    found = {(letter, test) for test in tests[letter] if (test.startswith(name) if more else test == name)}
                    assert found, f"{FILES[letter]} has no {name}"
                    named |= found
    left = {(letter, test) for letter in ("K", "T") for test in tests[letter]} - named
    assert {test for _, test in left} == {"test_the_honest_case"}


def test_the_readmes_three_commands_are_commands() -> None:
    for document in ("README.md", "docs/trust.md"):
        text = (ROOT / document).read_text()
        lines = re.findall(r"^    accordion ((?:key|sign|trust|tuf) .+)$", text, re.MULTILINE)
        assert lines[:3] == ["key maker", "sign demo-output/digits --key maker.key", "trust add maker.pub digits"]
        for line in lines:
            build_parser().parse_args(line.replace("'", "").split())
