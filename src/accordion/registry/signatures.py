"""The signatures of a version, from wherever it lies: one request, and one more for each statement that is a blob of its own."""

from __future__ import annotations

import asyncio

from accordion.artifact.layout import signature_tag
from accordion.errors import DigestError, TransferError
from accordion.registry.client import PERHAPS_NOT_THERE, RegistryClient
from accordion.trust.signature import Signed, parts_of

__all__ = ["read_signatures"]


async def read_signatures(client: RegistryClient, digest: str, *, within_s: float) -> tuple[list[Signed], int]:
    """The signatures beside the manifest with this digest, unchecked and perhaps none, and how many bytes crossed the network.

    Raises:
        ContentError: they are malformed, too long, or not what their manifest promises.
        TransferError: they don't come within `within_s` seconds.
    """
    try:
        async with asyncio.timeout(within_s):
            found = await client.manifest_as_sent(signature_tag(digest), absent=PERHAPS_NOT_THERE)
            if found is None:
                return [], 0
            raw, size = found
            signatures = []
            for part in parts_of(raw):
                payload = part.payload
                if payload is None:
                    payload = b"".join([piece async for piece in client.blob(part.descriptor)])
                    size += len(payload)
                    if len(payload) != part.descriptor.size:
                        raise DigestError(f"the statement {part.descriptor.digest} has another size than was promised")
                signatures.append(Signed(payload, part.signature))
            return signatures, size
    except TimeoutError as error:
        raise TransferError(f"{client.target.base} did not send the signature of {digest} within {within_s:.3g} s") from error
