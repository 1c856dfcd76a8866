"""A package that lives in a registry: manifests and ladders are held here and planned over, blobs pass through.

Nothing is written to a disk. What passes through is not checked here: it is the device that holds it against the digests.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accordion.artifact.blobs import blobs_of
from accordion.artifact.digest import is_digest
from accordion.artifact.ladder import LADDER_LIMIT, decode_ladder
from accordion.artifact.layout import belongs_to_a_version, signature_tag
from accordion.artifact.manifest import Descriptor, Manifest
from accordion.endpoint.content import BLOCK_BYTES
from accordion.endpoint.package import COSIGN_ARTIFACT_TYPE, Document, Version
from accordion.endpoint.served import Body
from accordion.errors import AccordionError, ContentError, FormatError, TransferError, UsageError
from accordion.registry import Reference, RegistryClient, parse_reference
from accordion.registry.client import NOT_THERE, PERHAPS_NOT_THERE

__all__ = ["REFRESH_S", "RemoteContent", "RemotePackage", "RemoteSnapshot", "source_reference"]

LOG = logging.getLogger("accordion.endpoint")
REFRESH_S = 30.0  # how old the knowledge of a registry's tags may be
WAIT_S = 5.0  # how long one request waits for a registry of which nothing is known yet
RETRY_S = 5.0  # after a registry could not be read
MOST_TAGS = 200
MOST_KEPT = 64  # versions that no tag names any more but whose transfers may go on
LOCAL = ("localhost", "127.0.0.1", "[::1]")


def source_reference(text: str) -> Reference:
    """`http(s)://HOST/NAME[:TAG]`, or `oci://…`, which is https, except for this machine. UsageError for what is none."""
    scheme, _, rest = text.partition("://")
    if scheme == "oci":
        host = rest.partition("/")[0]
        name = host if host.endswith("]") else host.partition(":")[0]
        if host.startswith("["):
            name = host.partition("]")[0] + "]"
        scheme = "http" if name in LOCAL else "https"
    return parse_reference(f"{scheme}://{rest}")


@dataclass(frozen=True, slots=True)
class RemoteContent:
    """Blobs of a registry, one after the other, as one body."""

    target: Reference
    layers: tuple[Descriptor, ...]
    offsets: tuple[int, ...]
    etag: str

    @classmethod
    def of(cls, target: Reference, layers: tuple[Descriptor, ...], name: str) -> RemoteContent:
        """`name` is what the strong tag is made of: a digest."""
        offsets = [0]
        for layer in layers:
            offsets.append(offsets[-1] + layer.size)
        return cls(target, layers, tuple(offsets), f'"{name}"')

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.offsets[-1]

    @property
    def file(self) -> Path | None:
        """It is no file here."""
        return None

    async def blocks(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` to `end`, both inclusive, as they come. TransferError unless all of them do."""
        async with RegistryClient(self.target) as client:
            position = start
            while position <= end:
                index = bisect_right(self.offsets, position) - 1
                first, size = position - self.offsets[index], self.layers[index].size
                last = min(size - 1, end - self.offsets[index])
                async for piece in client.blob_range(self.layers[index], first, last):
                    for at in range(0, len(piece), BLOCK_BYTES):
                        yield piece[at : at + BLOCK_BYTES]
                position = self.offsets[index] + last + 1


@dataclass(slots=True)
class RemoteSnapshot:
    """What a repository's tags named at one moment, and what they named before."""

    target: Reference
    tags: dict[str, Document] = field(default_factory=dict)
    versions: dict[str, Version] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    choices: dict[bool, tuple[Version, ...]] = field(default_factory=dict)
    by_digest: dict[str, Document] = field(default_factory=dict)
    blobs: dict[str, Descriptor] = field(default_factory=dict)

    def document(self, reference: str) -> Document | None:
        """The manifest with this tag or digest."""
        return self.by_digest.get(reference) if is_digest(reference) else self.tags.get(reference)

    def version(self, digest: str) -> Version | None:
        """The model version with this digest."""
        return self.versions.get(digest)

    def model_tags(self) -> list[str]:
        """The tags that name model versions."""
        return [tag for tag, document in self.tags.items() if document.digest in self.versions]

    def blob(self, digest: str) -> Body | None:
        """The blob with this digest, if a manifest names it."""
        found = self.blobs.get(digest)
        return None if found is None else RemoteContent.of(self.target, (found,), digest)

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """The signature, by cosign's tag."""
        signature = self.tags.get(signature_tag(digest))
        if signature is None:
            return []
        return [
            {
                "mediaType": signature.media_type,
                "digest": signature.digest,
                "size": len(signature.raw),
                "artifactType": COSIGN_ARTIFACT_TYPE,
            }
        ]

    def knows(self, digest: str) -> bool:
        """Always: what is not in memory is not served."""
        return True

    def add(self, tag: str | None, document: Document, version: Version | None) -> None:
        """Takes a manifest in; FormatError if its blobs make no sense."""
        for blob in blobs_of(document.raw):
            self.blobs[blob.digest] = blob
        if tag is not None:
            self.tags[tag] = document
        self.by_digest[document.digest] = document
        if version is not None:
            self.versions[document.digest] = version


class RemotePackage:
    """A repository in a registry under its own name.

    Whoever asks gets what was known last; a look at the registry, at most every `refresh_s` seconds, goes on beside that. While the
    registry can't be read, what was known stays, and `problems` says so.
    """

    def __init__(self, target: Reference, *, refresh_s: float = REFRESH_S, clock: Callable[[], float] = time.monotonic) -> None:
        self.target, self.name = target, target.name
        self._refresh_s, self._clock = refresh_s, clock
        self._lock = threading.Lock()
        self._looking: threading.Thread | None = None
        self._looked: float | None = None
        self._snapshot: RemoteSnapshot | None = None
        self._problem: str | None = None
        self.unreachable = True  # when last looked at, or until then: nothing is known of what it holds

    @property
    def problems(self) -> list[str]:
        """What is wrong with it, one line each."""
        if self._snapshot is None and self._problem is None:
            return ["its registry has not answered yet"]
        found = [] if self._problem is None else [self._problem]
        return found + (self._snapshot.problems if self._snapshot is not None else [])

    def current(self) -> RemoteSnapshot | None:
        """What was known last; begins to look whether there is something new."""
        self._begin()
        return self._snapshot

    def doubt(self) -> None:
        """Nothing: a registry is asked every so often anyhow."""

    def snapshot(self) -> RemoteSnapshot | None:
        """The same; where nothing is known yet, waits for the registry, but not for long."""
        looking = self._begin()
        if self._snapshot is None and looking is not None:
            looking.join(WAIT_S)
        return self._snapshot

    def known(self) -> RemoteSnapshot | None:
        """The same as `current`: nobody who asks for other packages waits for this registry."""
        return self.current()

    @property
    def looking(self) -> bool:
        """Whether the registry is being asked at this moment."""
        return self._looking is not None and self._looking.is_alive()

    def _begin(self) -> threading.Thread | None:
        """The thread that looks, if it is time to or one is at it. A thread, since this is asked for within a running loop, too."""
        with self._lock:
            if self._looking is not None and self._looking.is_alive():
                return self._looking
            wait = RETRY_S if self._problem is not None else self._refresh_s
            if self._looked is not None and self._clock() - self._looked < min(wait, self._refresh_s):
                return None
            self._looked = self._clock()
            self._looking = threading.Thread(target=self._look, name=f"registry {self.name}", daemon=True)
            self._looking.start()
            return self._looking

    def _look(self) -> None:
        try:
            self._snapshot = asyncio.run(_load(self.target, self._snapshot))
            self._problem, self.unreachable = None, False
        except AccordionError as error:
            self._refuse(str(error), unreachable=isinstance(error, TransferError))
        except OSError as error:  # of this machine, before anybody was asked: it has no file handles left, for one
            self._refuse(f"its registry can't be asked from here: {error.strerror or error}", unreachable=True)

    def _refuse(self, problem: str, *, unreachable: bool) -> None:
        self.unreachable = unreachable
        if problem != self._problem:
            LOG.warning("%s: %s", self.name, problem)
        self._problem = problem


async def _load(target: Reference, before: RemoteSnapshot | None) -> RemoteSnapshot:
    """Errors as of `RegistryClient`; what is wrong with a single version is one of the snapshot's problems."""
    made = RemoteSnapshot(target)
    async with RegistryClient(target) as client:
        for tag in await _tags(client):
            try:
                document, version = await _read(client, tag, before)
                if document is None:
                    continue
                name = "latest" if is_digest(tag) else tag
                made.add(name, document, version)
                if tag == target.reference and version is not None:
                    signature, _ = await _read(client, signature_tag(document.digest), before)
                    if signature is not None:
                        made.add(signature_tag(document.digest), signature, None)
            except (ContentError, TransferError) as error:
                if isinstance(error, TransferError) and error.status not in PERHAPS_NOT_THERE:
                    raise  # the registry's fault, not this version's
                made.problems.append(f"{tag}: {error}")
    if not made.versions:
        raise FormatError("; ".join(["it holds no model version that can be served", *made.problems])[:1000])
    if before is not None:
        # From the newest to the oldest, since each snapshot begins with what is current: whose transfers are long over goes first.
        replaced = [(digest, document) for digest, document in before.by_digest.items() if digest not in made.by_digest]
        for digest, document in replaced[:MOST_KEPT]:
            made.add(None, document, before.versions.get(digest))
    return made


async def _tags(client: RegistryClient) -> list[str]:
    if client.target.reference is not None:
        return [client.target.reference]
    tags = await client.tags()
    if len(tags) > MOST_TAGS:
        raise UsageError(f"{client.target} has {len(tags)} tags; name one of them, at most {MOST_TAGS} are served together")
    return tags


async def _read(client: RegistryClient, reference: str, before: RemoteSnapshot | None) -> tuple[Document | None, Version | None]:
    found = await client.manifest_as_sent(reference, absent=PERHAPS_NOT_THERE if belongs_to_a_version(reference) else NOT_THERE)
    if found is None:
        return None, None
    raw, _ = found
    document = Document.parse(raw, f"the manifest {reference}")
    if not document.is_model:
        return document, None
    if before is not None and (known := before.versions.get(document.digest)) is not None:
        return before.by_digest[document.digest], known
    manifest = Manifest.parse(raw, digest=document.digest)
    first = manifest.layers[0]
    if first.size > LADDER_LIMIT:
        raise FormatError(f"the ladder has {first.size} bytes; {LADDER_LIMIT} are allowed")
    ladder = decode_ladder(first, b"".join([chunk async for chunk in client.blob(first)]))
    ladder.check_against(manifest)
    stream = RemoteContent.of(client.target, manifest.layers, manifest.digest)
    return document, Version.of(manifest, ladder, stream)
