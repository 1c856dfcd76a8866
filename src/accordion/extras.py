"""The optional parts of an installation."""

from __future__ import annotations

__all__ = ["how_to_install"]


def how_to_install(extra: str) -> str:
    """The command for the libraries of an extra, for an error's text.

    Accordion is on no package index yet: by its name alone, pip would fetch whatever a stranger has put there.
    """
    return f"in the folder of Accordion's source, pip install '.[{extra}]'"
