"""The signature artifact: an OCI manifest beside the signed one, a layer for each signature, as cosign stores them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from accordion.artifact.digest import sha256_digest
from accordion.artifact.layout import Layout, signature_tag
from accordion.artifact.manifest import MANIFEST_MEDIA_TYPE, Descriptor, Manifest
from accordion.artifact.strict_json import dump, parse_object
from accordion.errors import DigestError, SignatureError
from accordion.trust.keys import PrivateKey
from accordion.trust.statement import PAYLOAD_LIMIT, Statement

__all__ = ["ARTIFACT_LIMIT", "Part", "Signed", "add_signature", "parts_of", "signatures_in"]

ARTIFACT_LIMIT = 2**20  # bytes of the signature's manifest
MOST_SIGNATURES = 64
SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
COSIGN_ARTIFACT_TYPE = "application/vnd.dev.cosign.artifact.sig.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
CONFIG = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True, slots=True)
class Signed:
    """A payload's exact bytes, and a signature over them. Nothing is checked yet."""

    payload: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Part:
    """One signature of the artifact; `payload` is None where it lies in a blob of its own."""

    descriptor: Descriptor
    signature: bytes
    payload: bytes | None


def parts_of(raw: bytes) -> list[Part]:
    """The signatures that a signature's manifest names; layers of other kinds are left out.

    SignatureError if it is malformed. Payloads that the manifest carries itself are held against their digests.
    """
    if len(raw) > ARTIFACT_LIMIT:
        raise SignatureError(f"the signature has {len(raw)} bytes; {ARTIFACT_LIMIT} are allowed")
    rows = parse_object(raw, "the signature", ARTIFACT_LIMIT).get("layers")
    if not isinstance(rows, list) or len(rows) > MOST_SIGNATURES:
        raise SignatureError(f"the signature does not hold a list of at most {MOST_SIGNATURES} signatures")
    found = []
    for row in rows:
        descriptor = Descriptor.from_json(row, "a part of the signature")
        text = descriptor.annotations.get(SIGNATURE)
        if descriptor.media_type != SIMPLE_SIGNING or text is None:
            continue
        if descriptor.size > PAYLOAD_LIMIT:
            raise SignatureError(f"the signature holds a statement of {descriptor.size} bytes; {PAYLOAD_LIMIT} are allowed")
        payload = _decoded(row["data"]) if isinstance(row.get("data"), str) else None
        if payload is not None and sha256_digest(payload) != descriptor.digest:
            raise DigestError("the signature carries a statement that is not what it promises")
        found.append(Part(descriptor, _decoded(text), payload))
    return found


def signatures_in(layout: Layout, digest: str) -> list[Signed]:
    """The signatures that a package holds of a version; empty where there are none. ContentError where they are broken."""
    descriptor = layout.references().get(signature_tag(digest))
    if descriptor is None:
        return []
    parts = parts_of(layout.read_blob(descriptor, limit=ARTIFACT_LIMIT))
    return [Signed(part.payload or layout.read_blob(part.descriptor, limit=PAYLOAD_LIMIT), part.signature) for part in parts]


def add_signature(layout: Layout, manifest: Manifest, statement: Statement, key: PrivateKey, timestamp: int) -> str:
    """Signs, and puts the signature beside those that are there; an earlier one by this key goes. Returns the artifact's digest.

    `timestamp` is now, in seconds since 1970. ContentError where the earlier signatures are broken, StorageError from the disk.
    """
    payload = statement.to_bytes(timestamp)
    signed = Signed(payload, key.sign(payload))

    def beside_the_others() -> bytes:
        kept = [one for one in signatures_in(layout, manifest.digest) if not key.public.verifies(one.signature, one.payload)]
        return _manifest([*kept, signed], manifest, layout.write_blob)

    # All of it under one lock: who signs at the same time would otherwise start from the same others and take this one away.
    tag = signature_tag(manifest.digest)
    return layout.change_manifest(tag, beside_the_others, artifact_type=COSIGN_ARTIFACT_TYPE).digest


def _manifest(signatures: Sequence[Signed], subject: Manifest, store: Callable[[bytes], tuple[str, int]]) -> bytes:
    rows: list[dict[str, Any]] = []
    for one in signatures:
        digest, size = store(one.payload)
        row = Descriptor(SIMPLE_SIGNING, digest, size, {SIGNATURE: base64.b64encode(one.signature).decode()}).to_json()
        rows.append({**row, "data": base64.b64encode(one.payload).decode()})  # so that one request brings all of it
    rootfs = {"type": "layers", "diff_ids": [row["digest"] for row in rows]}
    config = dump({"architecture": "", "created": "0001-01-01T00:00:00Z", "os": "", "config": {}, "rootfs": rootfs})
    digest, size = store(config)
    return dump(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_MEDIA_TYPE,
            "artifactType": COSIGN_ARTIFACT_TYPE,
            "config": {"mediaType": CONFIG, "digest": digest, "size": size},
            "layers": rows,
            "subject": {"mediaType": MANIFEST_MEDIA_TYPE, "digest": subject.digest, "size": subject.size},
        }
    )


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError("the signature is malformed: it is not base64") from error
