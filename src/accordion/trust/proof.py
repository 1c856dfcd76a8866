"""`.signature.json` in a model folder: what vouches for its manifest, so that it can be checked again without a network."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from accordion.artifact.digest import check_digest
from accordion.artifact.strict_json import Fields, dump, parse_object
from accordion.errors import FormatError
from accordion.trust.signature import MOST_SIGNATURES, Signed

__all__ = ["PROOF", "PROOF_LIMIT", "Listed", "Proof"]

PROOF = ".signature.json"  # no path of a package begins with a dot
PROOF_LIMIT = 8 * 2**20  # bytes; a list of many versions' digests among them
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Listed:
    """`targets` are the exact bytes of a TUF repository's list, in which `path` (NAME/TAG) names the manifest."""

    targets: bytes
    path: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What was brought along for one manifest. Nothing of it is believed before it is checked."""

    manifest: str
    signatures: tuple[Signed, ...] = ()
    listed: Listed | None = None

    def to_bytes(self) -> bytes:
        """As the file has it."""
        rows = [{"payload": _text(one.payload), "signature": _text(one.signature)} for one in self.signatures]
        value = {"schema_version": SCHEMA_VERSION, "manifest": self.manifest, "signatures": rows}
        if self.listed is not None:
            value["listed"] = {"path": self.listed.path, "targets": _text(self.listed.targets)}
        return dump(value)

    @classmethod
    def parse(cls, data: bytes, where: str) -> Proof:
        """FormatError naming `where` if a field is missing or makes no sense."""
        fields = Fields(parse_object(data, where, PROOF_LIMIT), where)
        if fields.get("schema_version") != SCHEMA_VERSION:
            raise FormatError(f"{where} is of another version of this program")
        rows = [Fields(row, where) for row in fields.items("signatures", most=MOST_SIGNATURES)]
        signatures = tuple(Signed(_bytes(row.get("payload"), where), _bytes(row.get("signature"), where)) for row in rows)
        listed = None
        if fields.has("listed"):
            row = Fields(fields.get("listed"), where)
            listed = Listed(_bytes(row.get("targets"), where), row.text("path"))
        return cls(check_digest(fields.get("manifest"), where), signatures, listed)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: object, where: str) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"{where} holds what is not base64") from error
