"""SHA-256 digests as OCI writes them, and bytes that are checked while they arrive."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from accordion.errors import DigestError, FormatError

__all__ = ["Verifier", "check_digest", "file_digest", "is_digest", "sha256_digest"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: object) -> bool:
    """Whether `text` is `sha256:` and 64 lower-case hexadecimal digits."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def check_digest(text: object, what: str) -> str:
    """`text`, if it is a digest; FormatError naming `what` otherwise."""
    if not is_digest(text):
        raise FormatError(f"{what}: {str(text)[:80]!r} is not a digest of the form sha256:<64 hexadecimal digits>")
    return str(text)


def sha256_digest(data: bytes | memoryview) -> str:
    """The digest of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """The digest of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


class Verifier:
    """Checks bytes against a promised digest and size while they arrive.

    DigestError as soon as one byte too many arrives (`update`), or at the end if the content differs (`finish`).
    """

    def __init__(self, digest: str, size: int, what: str) -> None:
        self.digest, self.size, self.what = digest, size, what
        self.received = 0
        self._hash = hashlib.sha256()

    def update(self, data: bytes | memoryview) -> None:
        """Takes the next bytes."""
        self.received += len(data)
        if self.received > self.size:
            raise DigestError(f"{self.what} is longer than the {self.size} bytes promised")
        self._hash.update(data)

    @property
    def missing(self) -> int:
        """Bytes still to come."""
        return self.size - self.received

    def finish(self) -> None:
        """DigestError unless exactly the promised bytes have come."""
        if self.received != self.size:
            raise DigestError(f"{self.what} ends after {self.received} of {self.size} bytes")
        if (actual := "sha256:" + self._hash.hexdigest()) != self.digest:
            raise DigestError(f"{self.what} is corrupt: its digest is {actual}, promised is {self.digest}")
