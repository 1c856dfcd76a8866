"""What docs/device.md says was measured is what was measured."""

from __future__ import annotations

from device_document import DOCUMENT, written  # type: ignore[import-not-found]


def test_the_tables_in_the_documentation_are_what_was_measured() -> None:
    text = DOCUMENT.read_text()
    assert written(text) == text
