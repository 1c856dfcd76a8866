from __future__ import annotations

from pathlib import Path

import pytest
from documents import put  # type: ignore[import-not-found]

PAGE = "# Page\n\n<!-- one: begin -->\nold\n<!-- one: end -->\n\nrest\n"


def test_a_table_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    put(page, "one", "| a |\n")
    put(page, "one", "| b |\n")
    assert page.read_text() == "# Page\n\n<!-- one: begin -->\n\n| b |\n\n<!-- one: end -->\n\nrest\n"


@pytest.mark.parametrize("text", ["", PAGE + PAGE, "<!-- one: end --><!-- one: begin -->", "<!-- one: begin -->"])
def test_a_page_without_one_place_for_it_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="does not hold"):
        put(page, "one", "| a |")
    assert page.read_text() == text
