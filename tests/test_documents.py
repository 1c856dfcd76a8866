"""What the documents say that a program can look up: links, lists, code."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from accordion.artifact.operators import ALLOWED, TABULAR
from accordion.artifact.verify import verify_package

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "zoo" / "README.md", ROOT / "experiments" / "README.md"]
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(path: Path) -> Iterator[tuple[Path, str]]:
    for target in _LINK.findall(_CODE.sub("", path.read_text())):
        if "://" not in target and not target.startswith("mailto:"):
            place, _, anchor = target.partition("#")
            yield (path.parent / place).resolve() if place else path, anchor


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in links(path):
        assert target.exists(), f"{path} links to {target}"
        assert not anchor or anchor in anchors(target), f"{path} links to #{anchor} in {target}"


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"^- \[(\d+)\]\(([^)]+)\): (.+)$", (folder / "README.md").read_text(), re.MULTILINE)
    found = []
    for path in sorted(folder.glob("0*.md")):
        number, title = path.read_text().splitlines()[0].removeprefix("# ").split(". ", 1)
        found.append((number, path.name, title))
    assert listed == found


def test_the_specification_lists_the_operators() -> None:
    text = (ROOT / "docs" / "specification.md").read_text()
    section = text.split("#### Operators")[1].split("Left out are")[0]
    ours, tabular = section.split("`ai.onnx.ml`")
    assert set(re.findall(r"`(\w+)`", ours)) == ALLOWED
    assert set(re.findall(r"`(\w+)`", tabular)) == TABULAR


def test_environment_variables_are_listed() -> None:
    """Each that the program reads by a name of its own."""
    text = (ROOT / "docs" / "data.md").read_text()
    named = set()
    for path in (ROOT / "src").rglob("*.py"):
        named |= set(re.findall(r'"(ACCORDION_[A-Z_]+)"', path.read_text()))
    assert named and {name for name in named if f"`{name}`" not in text} == set()


def test_the_tutorials_network_becomes_a_package(tmp_path: Path) -> None:
    """Its Python blocks, word for word, in a folder of their own."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        subprocess.run([sys.executable, "-c", block], cwd=tmp_path, check=True)
    for name in ("own", "words"):
        assert verify_package(tmp_path / "runs" / name) == []
