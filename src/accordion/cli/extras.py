"""Parts that a device does without: a command that needs them says what to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from accordion.errors import AccordionError
from accordion.extras import how_to_install

__all__ = ["extra"]


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around the imports of a command: a library that is missing becomes one line that says how to get it.

    Raises:
        AccordionError: a library of the extra `name` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "accordion":
            raise
        raise AccordionError(f"this command needs {error.name}, which is not installed: {how_to_install(name)}") from error
