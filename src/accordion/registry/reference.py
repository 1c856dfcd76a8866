"""How people name a version that lies elsewhere: `URL/NAME[:TAG]` or `URL/NAME@sha256:…`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from accordion.artifact.digest import is_digest
from accordion.artifact.names import is_name
from accordion.errors import UsageError

__all__ = ["Reference", "is_url", "parse_reference"]

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")  # as the OCI distribution specification has it
LONGEST = 1000  # characters


@dataclass(frozen=True, slots=True)
class Reference:
    """`base` is scheme and host (`http://127.0.0.1:8080`), `reference` a tag, a digest, or None where none was given."""

    base: str
    name: str
    reference: str | None = None

    def __str__(self) -> str:
        if self.reference is None:
            return f"{self.base}/{self.name}"
        return f"{self.base}/{self.name}{'@' if is_digest(self.reference) else ':'}{self.reference}"


def is_url(text: str) -> bool:
    """Whether `text` names something elsewhere and no file or folder here."""
    return "://" in text


def parse_reference(text: str) -> Reference:
    """`text` taken apart; UsageError says what is wrong with it."""
    example = "http://HOST:PORT/NAME, with :TAG or @sha256:… behind it if wanted"
    if len(text) > LONGEST or any(ord(letter) <= 32 or ord(letter) > 126 for letter in text):
        raise UsageError(f"{text[:80]!r} is no address of a package: write {example}")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{text!r} is no address of a package ({error}): write {example}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(f"{text!r} is no address of a package: write {example}")
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError(f"{text!r}: an address of a package has no user, no '?' and no '#'")
    path, at, digest = parts.path.strip("/").partition("@")
    if at and not is_digest(digest):
        raise UsageError(f"{text!r}: what stands behind '@' is not sha256: and 64 lower-case hexadecimal digits")
    name, colon, tag = path.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise UsageError(f"{text!r}: {tag!r} is no tag (letters, digits, '_', '.' and '-', at most 128)")
    if not is_name(name):
        raise UsageError(f"{text!r} names no package behind the host: write {example}")
    return Reference(f"{parts.scheme}://{parts.netloc}", name, digest or tag or None)
