"""A version of a package to a registry and back. Blobs go before the manifest, so nobody ever sees half of a version."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accordion.artifact.atomic import INCOMING, held, sync_all
from accordion.artifact.blobs import blobs_of
from accordion.artifact.digest import file_digest, sha256_digest
from accordion.artifact.layout import Layout, check_tag, signature_tag
from accordion.artifact.manifest import MANIFEST_LIMIT, Descriptor, Manifest
from accordion.errors import DigestError, FormatError, StorageError, UsageError
from accordion.registry.client import PERHAPS_NOT_THERE, RegistryClient
from accordion.registry.signatures import read_signatures
from accordion.trust import Trust
from accordion.trust.trust import CHECK_S

__all__ = ["Transferred", "pull", "push"]

AT_ONCE = 6  # requests; round trips overlap, and no registry minds
SIGNATURE_LIMIT = 2**20  # bytes of one blob of a signature

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Transferred:
    """`bytes_sent` crossed the network, `bytes_reused` were at the other end already; blobs only, without manifests."""

    name: str
    reference: str
    manifest: str
    bytes_sent: int
    bytes_reused: int
    signed: bool
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """JSON values, by the fields' names."""
        return {
            "name": self.name,
            "reference": self.reference,
            "manifest": self.manifest,
            "bytes_sent": self.bytes_sent,
            "bytes_reused": self.bytes_reused,
            "signed": self.signed,
            "seconds": self.seconds,
        }


class _Count:
    def __init__(self) -> None:
        self.sent = self.reused = 0


async def push(
    package: Path, client: RegistryClient, *, version: str | None = None, progress: Progress = lambda line: None
) -> Transferred:
    """Sends one version, and its signature where the package has one, to the client's `NAME:TAG` (the tag left out: `latest`).

    `version` is the tag or digest in `package`; left out: the target's tag where the package has it, else `latest` or the only one.
    Blobs that the registry has are not sent again.

    Raises:
        UsageError: no such version; the target names a digest.
        ContentError: a blob is not what the manifest promises; nothing was sent.
        TransferError: the registry or the way to it failed; the same call goes on where it stopped.
    """
    began, layout, target = time.monotonic(), Layout.open(package), client.target
    tag = target.reference or "latest"
    if ":" in tag:
        raise UsageError(f"{target}: a package is pushed to a tag, not to a digest")
    descriptor = layout.resolve(version or (tag if tag in layout.tags() else None))
    manifest = layout.manifest(descriptor.digest)
    versions = [(tag, manifest.raw)]
    signature = layout.references().get(signature_tag(manifest.digest))
    if signature is not None:
        versions.insert(0, (signature_tag(manifest.digest), layout.read_blob(signature, limit=MANIFEST_LIMIT)))
    blobs = _unique(blob for _, raw in versions for blob in blobs_of(raw))
    for blob in blobs:
        await asyncio.to_thread(_check, layout, blob)
    count = _Count()

    async def send(blob: Descriptor) -> None:
        if await client.has_blob(blob.digest):
            count.reused += blob.size
            return
        await client.put_blob(blob.digest, layout.blob_path(blob.digest))
        count.sent += blob.size
        progress(f"sent {blob.digest[:19]}… ({blob.size} bytes)")

    await _all(send(blob) for blob in blobs)
    for name, raw in versions:
        await client.put_manifest(name, raw)
    return Transferred(target.name, tag, manifest.digest, count.sent, count.reused, signature is not None, time.monotonic() - began)


async def pull(
    client: RegistryClient,
    out: Path,
    *,
    tag: str | None = None,
    progress: Progress = lambda line: None,
    trust: Trust | None = None,
) -> Transferred:
    """Brings one version, and its signature where there is one, into the package directory `out`, made where there is none.

    In `out` the version is called `tag`; left out: as at the registry, `latest` for a digest. Blobs that `out` has are not fetched
    again, so a pull that was interrupted goes on. The version appears in the index last. What `trust` does not admit stays away.

    Raises:
        UsageError: no such version; `out` holds something else.
        ContentError: what came is not what was promised, or (SignatureError) not signed as it must be; it is not kept.
        TransferError: the registry or the way to it failed.
    """
    if tag is not None:
        check_tag(tag)
    began, reference = time.monotonic(), await client.resolve()
    raw = await client.manifest(reference)
    if raw is None:
        raise UsageError(f"{client.target.base} has no {client.target.name}:{reference}")
    manifest = Manifest.parse(raw)
    sign_tag = signature_tag(manifest.digest)
    found = await client.manifest_as_sent(sign_tag, absent=PERHAPS_NOT_THERE)
    signature = None if found is None else found[0]
    signature_blobs = blobs_of(signature) if signature is not None else []
    for blob in signature_blobs:
        if blob.size > SIGNATURE_LIMIT:
            raise FormatError(
                f"the signature of {manifest.digest} holds a blob of {blob.size} bytes; {SIGNATURE_LIMIT} are allowed"
            )
    if trust is not None:
        asked = client.target.reference
        signatures, _ = await read_signatures(client, manifest.digest, within_s=CHECK_S)
        await asyncio.to_thread(trust.admit, client.target.name, asked, manifest.digest, manifest.size, signatures)
    layout, count = Layout.create(out), _Count()

    async def bring(blob: Descriptor, incoming: Path) -> None:
        if layout.has_blob(blob) and await asyncio.to_thread(file_digest, layout.blob_path(blob.digest)) == blob.digest:
            count.reused += blob.size
            return
        await _receive(client, blob, incoming / blob.digest.removeprefix("sha256:"), layout.blob_path(blob.digest))
        count.sent += blob.size
        progress(f"received {blob.digest[:19]}… ({blob.size} bytes)")

    try:
        with _incoming(layout.path) as incoming:
            blobs = _unique([manifest.config, *manifest.layers, *signature_blobs])
            await _all(bring(blob, incoming) for blob in blobs)
        # Before an index names them that is synced: after a power cut it would lead to blobs that never got there. Those that were
        # there already, too: a pull that was interrupted may have left them a moment ago.
        await asyncio.to_thread(sync_all, [layout.blob_path(blob.digest) for blob in blobs])
    except OSError as error:
        raise StorageError(f"can't write into {out}: {error.strerror or error}") from error
    name = tag or (reference if ":" not in reference else "latest")
    if signature is not None:
        layout.add_manifest(sign_tag, signature)
    layout.add_version(name, manifest)
    return Transferred(
        client.target.name, name, manifest.digest, count.sent, count.reused, signature is not None, time.monotonic() - began
    )


@contextmanager
def _incoming(package: Path) -> Iterator[Path]:
    """A folder of this pull's own for what is on its way; what pulls have left that were killed goes."""
    with ExitStack() as stack:
        with held(package):
            for left in package.glob(f"{INCOMING}*"):
                with suppress(StorageError), held(left, wait=False) as free:
                    if free:  # nobody is at work there
                        shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=f"{INCOMING}-", dir=package))
            stack.enter_context(held(folder))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


async def _receive(client: RegistryClient, blob: Descriptor, partial: Path, final: Path) -> None:
    with partial.open("wb") as stream:
        async for chunk in client.blob(blob):
            stream.write(chunk)
    if blob.size == 0 and blob.digest != sha256_digest(b""):
        raise DigestError(f"the blob {blob.digest} can't be empty")
    partial.replace(final)


def _unique(blobs: Iterable[Descriptor]) -> list[Descriptor]:
    return list({blob.digest: blob for blob in blobs}.values())


def _check(layout: Layout, blob: Descriptor) -> None:
    if not layout.has_blob(blob):
        raise FormatError(f"{layout.path} lacks the blob {blob.digest} of {blob.size} bytes")
    if (actual := file_digest(layout.blob_path(blob.digest))) != blob.digest:
        raise DigestError(f"{layout.blob_path(blob.digest)} is corrupt: its digest is {actual}")


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Does all of it, some at once; the first error ends the rest and is raised as it is."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: Coroutine[Any, Any, None]) -> None:
        async with gate:
            await item

    items = list(work)
    try:
        async with asyncio.TaskGroup() as group:
            for item in items:
                group.create_task(one(item))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        for item in items:
            item.close()  # those that never began
