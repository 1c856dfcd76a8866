"""What the application needs of a package, wherever it lies: on this disk, or in a registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from accordion.endpoint.package import Document, Version

__all__ = ["Body", "Served", "Source"]


class Body(Protocol):
    """Bytes that can be sent. `etag` is strong, quotes included; `file` is where they lie if they are one file on this disk."""

    @property
    def etag(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def file(self) -> Path | None: ...

    def blocks(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` to `end`, both inclusive, in blocks of bounded size."""
        ...


class Served(Protocol):
    """A package at one moment."""

    tags: dict[str, Document]
    versions: dict[str, Version]
    problems: list[str]
    choices: dict[
        bool, tuple[Version, ...]
    ]  # among which versions a plan may choose, by whether the request prefers: worked out once

    def document(self, reference: str) -> Document | None:
        """The manifest with this tag or digest. StorageError if that can't be said just now."""
        ...

    def version(self, digest: str) -> Version | None:
        """The model version with this digest. StorageError if that can't be said just now."""
        ...

    def model_tags(self) -> list[str]:
        """The tags that name model versions."""
        ...

    def blob(self, digest: str) -> Body | None:
        """The blob with this digest. StorageError if it was promised and is not there."""
        ...

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """Descriptors of what refers to this manifest."""
        ...

    def knows(self, digest: str) -> bool:
        """Whether `document` and `version` answer for this digest without waiting for anything."""
        ...


class Source(Protocol):
    """A package under its name."""

    name: str

    @property
    def problems(self) -> list[str]:
        """What is wrong with it, one line each."""
        ...

    def current(self) -> Served | None:
        """It as it is now, if that is known without waiting."""
        ...

    def known(self) -> Served | None:
        """It as it is now, as far as that can be said without waiting for another host."""
        ...

    def doubt(self) -> None:
        """Something that it promised could not be had."""
        ...

    def snapshot(self) -> Served | None:
        """It as it is now; None if nothing of it can be served. StorageError if that can't be said just now."""
        ...
