"""What a signature says: this manifest, under this name and these tags, is so new. In cosign's simple-signing form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accordion.artifact.digest import check_digest
from accordion.artifact.strict_json import EXACT, Fields, dump, parse_object
from accordion.errors import FormatError

__all__ = ["DEFAULT_TAG", "PAYLOAD_LIMIT", "Statement"]

DEFAULT_TAG = "latest"  # what a tag left out stands for
PAYLOAD_LIMIT = 2**16  # bytes of one statement
KIND = "cosign container image signature"
TAGS, SEQUENCE = "accordion.tags", "accordion.sequence"
MOST_TAGS = 100


@dataclass(frozen=True, slots=True)
class Statement:
    """`name` may begin with a host. `tags` empty: it holds for any. `sequence` is larger for what is newer, None where the signer
    does not say.
    """

    digest: str
    name: str
    tags: tuple[str, ...] = ()
    sequence: int | None = None

    def to_bytes(self, timestamp: int) -> bytes:
        """The payload that is signed; `timestamp` is when, in seconds since 1970."""
        optional: dict[str, Any] = {"creator": "accordion", "timestamp": timestamp}
        if self.tags:
            optional[TAGS] = list(self.tags)
        if self.sequence is not None:
            optional[SEQUENCE] = self.sequence
        identity = {"docker-reference": self.name}
        critical = {"identity": identity, "image": {"docker-manifest-digest": self.digest}, "type": KIND}
        return dump({"critical": critical, "optional": optional})

    @classmethod
    def parse(cls, data: bytes) -> Statement:
        """FormatError if a field is missing or makes no sense. Call it on what a trusted key has signed, and on nothing else."""
        what = "the signed statement"
        value = Fields(parse_object(data, what, PAYLOAD_LIMIT), what)
        critical = Fields(value.get("critical"), what)
        if critical.text("type") != KIND:
            raise FormatError(f"{what} is of the kind {critical.text('type')!r:.60}, not {KIND!r}")
        image, identity = Fields(critical.get("image"), what), Fields(critical.get("identity"), what)
        digest = check_digest(image.get("docker-manifest-digest"), what)
        optional = value.data.get("optional") or {}
        if not isinstance(optional, dict):
            raise FormatError(f"{what}: 'optional' is not an object")
        return cls(digest, identity.text("docker-reference"), _tags(optional), _sequence(optional))

    def speaks_for(self, name: str, tag: str | None) -> bool:
        """Whether it holds under this name, and for this tag where one was asked for."""
        return name in (self.name, _without_host(self.name)) and (tag is None or not self.tags or tag in self.tags)


def _without_host(reference: str) -> str:
    """cosign writes `host/name`; as registries have it, the first part is a host if it has a dot or a port. So has many a name."""
    first, slash, rest = reference.partition("/")
    return rest if slash and ("." in first or ":" in first or first == "localhost") else reference


def _tags(optional: dict[str, Any]) -> tuple[str, ...]:
    value = optional.get(TAGS, [])
    if isinstance(value, str):  # as `cosign sign -a accordion.tags=a,b` writes it
        value = value.split(",")
    if not isinstance(value, list) or len(value) > MOST_TAGS or not all(isinstance(tag, str) for tag in value):
        raise FormatError(f"the signed statement: {TAGS!r} is not a list of at most {MOST_TAGS} tags")
    return tuple(value)


def _sequence(optional: dict[str, Any]) -> int | None:
    value = optional.get(SEQUENCE)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 17:
        value = int(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= EXACT):
        raise FormatError(f"the signed statement: {SEQUENCE!r} is not a whole number")
    return value
