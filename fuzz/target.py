"""What is fuzzed: a parser, the inputs to begin with, and the errors that may come out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from accordion.errors import AccordionError

__all__ = ["CORPUS", "Mutator", "Target"]

CORPUS = Path(__file__).parent / "corpus"
LONGEST_MESSAGE = 2000  # characters of an error

Mutator = Callable[[bytes, Random], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """`take` reads the bytes, and checks of what it has read whatever must hold; `refuses` are the errors that it may raise.

    `mutate` changes an input and knows its structure, so that changes get past the first check of the format.
    """

    name: str
    take: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    mutate: Mutator
    refuses: tuple[type[AccordionError], ...]

    def once(self, data: bytes) -> bool:
        """Whether `data` is taken. Anything but one of the errors that it may raise, in one line of bounded length, passes on."""
        try:
            self.take(data)
        except self.refuses as error:
            text = str(error)
            assert "\n" not in text and len(text) < LONGEST_MESSAGE, f"not one short line: {text!r:.500}"
            return False
        return True

    def kept(self) -> list[Path]:
        """The files of found inputs, in a fixed order."""
        return sorted((CORPUS / self.name).glob("*"))
