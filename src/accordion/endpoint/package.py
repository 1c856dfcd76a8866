"""One package as it is served: what its index names, checked and held in memory, and read again when the index changes."""

from __future__ import annotations

import logging
import math
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accordion.artifact.archive import compress
from accordion.artifact.digest import is_digest, sha256_digest
from accordion.artifact.ladder import Ladder
from accordion.artifact.layout import Layout, signature_tag
from accordion.artifact.manifest import ARTIFACT_TYPE, MANIFEST_LIMIT, MANIFEST_MEDIA_TYPE, Descriptor, Manifest
from accordion.artifact.strict_json import parse_object
from accordion.endpoint.content import Content
from accordion.endpoint.descriptors import lacking
from accordion.endpoint.plan_writer import PlanWriter
from accordion.endpoint.served import Body
from accordion.errors import AccordionError, ContentError, FormatError, StorageError
from accordion.planning import PlanTable

__all__ = ["COSIGN_ARTIFACT_TYPE", "INDEX_MEDIA_TYPE", "Document", "Package", "Snapshot", "Version", "plain_size"]

LOG = logging.getLogger("accordion.endpoint")
INDEX_MEDIA_TYPE = "application/vnd.oci.image.index.v1+json"
COSIGN_ARTIFACT_TYPE = "application/vnd.dev.cosign.artifact.sig.v1+json"  # what cosign calls the kind of its signatures
_MOST_PACKED = 2**20  # bytes of a manifest that is kept compressed too: larger ones would take seconds
_MOST_CONTENTS = 4096  # blobs of a package that are remembered as values
DOUBT_S = 2.0  # how long what was read is believed, though something of it could not be had
AGAIN_S = 2.0  # after a look that found something wrong until the next one, at first; doubled each time
LONGEST_AGAIN_S = 30.0
_MOST_UNNAMED = 256  # manifests without a tag that a package keeps in memory, found and not found

_Stamp = tuple[int, int, int]  # when changed, in ns; inode; bytes


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest of any kind, as its exact bytes."""

    raw: bytes
    digest: str
    media_type: str
    fields: Mapping[str, Any]
    packed: bytes | None = None  # its zstd frame, where that is worth while

    @classmethod
    def parse(cls, raw: bytes, what: str) -> Document:
        """FormatError unless it is an OCI manifest or index."""
        fields = parse_object(raw, what, MANIFEST_LIMIT)
        if fields.get("schemaVersion") != 2 or not (
            isinstance(fields.get("layers"), list) or isinstance(fields.get("manifests"), list)
        ):
            raise FormatError(f"{what} is not an OCI manifest of schema version 2")
        media_type = fields.get("mediaType", MANIFEST_MEDIA_TYPE)
        if not isinstance(media_type, str) or not media_type.isascii() or not media_type.isprintable() or len(media_type) > 255:
            raise FormatError(f"{what} has no media type")
        packed = compress(raw) if len(raw) <= _MOST_PACKED else raw
        return cls(raw, sha256_digest(raw), media_type, fields, packed if len(packed) < len(raw) else None)

    @property
    def is_model(self) -> bool:
        """Whether it says that it is a model version."""
        return self.fields.get("artifactType") == ARTIFACT_TYPE


@dataclass(frozen=True, slots=True)
class Version:
    """One model version, ready to be planned and sent."""

    manifest: Manifest
    ladder: Ladder
    table: PlanTable
    writer: PlanWriter
    stream: Body  # all layers in order

    @classmethod
    def of(cls, manifest: Manifest, ladder: Ladder, stream: Body) -> Version:
        """FormatError where manifest and ladder contradict each other."""
        table = PlanTable(manifest, ladder)
        return cls(manifest, ladder, table, PlanWriter(table), stream)

    @classmethod
    def load(cls, layout: Layout, document: Document) -> Version:
        """Checks the manifest, the ladder, and that every blob is there at its size; their digests are the device's to check.

        Raises:
            ContentError: something is not what was promised.
            StorageError: the disk failed.
        """
        manifest = Manifest.parse(document.raw, digest=document.digest)
        _check_blobs(layout, manifest)
        ladder = layout.ladder(manifest)
        files = [(layout.blob_path(layer.digest), layer.size) for layer in manifest.layers]
        return cls.of(manifest, ladder, Content.of(files, manifest.digest))


@dataclass(slots=True)
class Snapshot:
    """What a package's index named at one moment."""

    layout: Layout
    tags: dict[str, Document] = field(default_factory=dict)  # everything that has a name, signatures too
    versions: dict[str, Version] = field(default_factory=dict)  # by digest
    problems: list[str] = field(default_factory=list)  # one line each, without paths
    choices: dict[bool, tuple[Version, ...]] = field(default_factory=dict)
    _by_digest: dict[str, Document] = field(default_factory=dict)
    _unnamed: dict[str, tuple[Document | None, Version | None]] = field(default_factory=dict)
    _referrers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _logged: set[str] = field(default_factory=set)  # what the log says already of referrers
    _promised: dict[str, int] = field(default_factory=dict)  # bytes of each blob of the versions that are known
    _contents: dict[str, tuple[str, _Stamp, Content]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def document(self, reference: str) -> Document | None:
        """The manifest with this tag or digest; by digest also one that no tag names any more. StorageError from the disk."""
        if not is_digest(reference):
            return self.tags.get(reference)
        return self._by_digest.get(reference) or self._find_unnamed(reference)[0]

    def version(self, digest: str) -> Version | None:
        """The model version with this digest; also one that no tag names any more, so that its transfers can go on.

        StorageError from the disk.
        """
        if digest in self._by_digest:
            return self.versions.get(digest)
        return self._find_unnamed(digest)[1]

    def model_tags(self) -> list[str]:
        """The tags that name model versions."""
        return [tag for tag, document in self.tags.items() if document.digest in self.versions]

    def blob(self, digest: str) -> Body | None:
        """The blob with this digest, if there is one: the very same value for as long as the file is the same.

        A file of another size than its manifest promised is not that blob, and is never sent under its name. StorageError where a
        blob that a version promised is gone, or is such a file.
        """
        if (known := self._contents.get(digest)) is not None and _file_stamp(known[0]) == known[1]:
            return known[2]
        path = self.layout.blob_path(digest)
        if (stamp := _file_stamp(path)) is None:
            self._contents.pop(digest, None)
            if digest in self._promised:
                raise StorageError(f"the blob {digest} of a version that is served is gone")
            return None
        if stamp[2] != self._promised.get(digest, stamp[2]):
            raise StorageError(f"the blob {digest} has {stamp[2]} bytes, promised are {self._promised[digest]}: it is not sent")
        if len(self._contents) >= _MOST_CONTENTS:
            self._contents.clear()
        made = Content.of([(path, stamp[2])], digest)
        self._contents[digest] = (os.fspath(path), stamp, made)
        return made

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """Descriptors of what refers to this manifest: by `subject`, or by cosign's tag for its signature."""
        if (known := self._referrers.get(digest)) is not None:
            return known
        found: dict[str, dict[str, Any]] = {}
        failures: list[Exception] = []
        try:
            for descriptor in self.layout.referrers(digest, failures.append):
                found[str(descriptor["digest"])] = descriptor
        except AccordionError as error:
            failures.append(error)
        for text in {str(error) for error in failures} - self._logged:
            LOG.warning("what refers to manifests is not listed whole: %s", text)
            self._logged.add(text)
        signature = self.tags.get(signature_tag(digest))
        if signature is not None and signature.digest not in found:
            found[signature.digest] = {
                "mediaType": signature.media_type,
                "digest": signature.digest,
                "size": len(signature.raw),
                "artifactType": COSIGN_ARTIFACT_TYPE,
            }
        made = list(found.values())
        if digest in self._by_digest and not failures:  # strangers' digests are not worth the memory
            self._referrers[digest] = made
        return made

    def kept(self, descriptor: Descriptor) -> Document | None:
        """A named manifest that was read before and is there still: its digest says that it is the same."""
        there = plain_size(self.layout.blob_path(descriptor.digest)) == descriptor.size
        return self._by_digest.get(descriptor.digest) if there else None

    def knows(self, digest: str) -> bool:
        """Whether `document` and `version` answer for this digest without reading from the disk."""
        return digest in self._by_digest or digest in self._unnamed

    def add(self, tag: str, document: Document, known: Mapping[str, Version]) -> None:
        """Takes one named manifest in; ContentError and StorageError as `Version.load`."""
        if document.is_model:
            before = known.get(document.digest)
            if before is not None:
                _check_blobs(self.layout, before.manifest)
            version = self.versions[document.digest] = before or Version.load(self.layout, document)
            self._promise(version)
        self.tags[tag] = document
        self._by_digest[document.digest] = document

    def _promise(self, version: Version) -> None:
        self._promised |= {one.digest: one.size for one in (version.manifest.config, *version.manifest.layers)}

    def _find_unnamed(self, digest: str) -> tuple[Document | None, Version | None]:
        with self._lock:
            found = self._unnamed.get(digest)
            if found is None:
                try:
                    found = self._read_unnamed(digest)
                except OSError as error:  # a disk that fails may do so only now: nothing to remember
                    raise StorageError(f"can't read the manifest {digest}: {error.strerror or error}") from error
                if len(self._unnamed) >= _MOST_UNNAMED:
                    self._unnamed.pop(next(iter(self._unnamed)))
                self._unnamed[digest] = found
            return found

    def _read_unnamed(self, digest: str) -> tuple[Document | None, Version | None]:
        path = self.layout.blob_path(digest)
        try:
            if (size := plain_size(path)) is None or size > MANIFEST_LIMIT:
                return None, None
            document = Document.parse(path.read_bytes(), "the manifest")
            if document.digest != digest:
                return None, None
            version = Version.load(self.layout, document) if document.is_model else None
            if version is not None:
                self._promise(version)
            return document, version
        except ContentError:
            return None, None  # some other blob, or a version whose blobs have gone


def _file_stamp(path: Path | str) -> _Stamp | None:
    """What tells a file from one that took its place. None if there is none, or something else: a link could lead elsewhere."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino, found.st_size) if stat.S_ISREG(found.st_mode) else None


def plain_size(path: Path) -> int | None:
    """A file's size in bytes, or None as `_file_stamp`."""
    stamp = _file_stamp(path)
    return None if stamp is None else stamp[2]


def _read_document(layout: Layout, tag: str, descriptor: Descriptor) -> Document:
    return Document.parse(layout.read_blob(descriptor, limit=MANIFEST_LIMIT), f"the manifest {tag}")


def _check_blobs(layout: Layout, manifest: Manifest) -> None:
    for descriptor in (manifest.config, *manifest.layers):
        size = plain_size(layout.blob_path(descriptor.digest))
        if size != descriptor.size:
            found = "is missing" if size is None else f"has {size} bytes"
            raise FormatError(f"the blob {descriptor.digest} of {descriptor.size} bytes {found}")


class Package:
    """A package directory under its name; `snapshot` is always that of the index as it lies on disk.

    Where something of it can't be served, it is read again now and then, although the index is the same: its blobs may still be
    on their way, or the disk may have failed for a moment. If the path leads through a link, what is served lies where the link
    pointed to when that was read, and a link that is turned is seen like a new index.
    """

    def __init__(self, name: str, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self.path, self._clock = name, path, clock
        self._index = os.fspath(path / "index.json")  # asked for at each request, so it isn't put together anew
        self._lock = threading.Lock()
        self._stamp: _Stamp | None = None
        self._loaded = 0.0
        self._wait = AGAIN_S
        self._again = math.inf  # when to read it again, whatever the index says
        self._snapshot: Snapshot | None = None
        self._problem: str | None = None

    @property
    def problems(self) -> list[str]:
        """What is wrong with it, one line each, without paths."""
        found = [] if self._problem is None else [self._problem]
        return found + (self._snapshot.problems if self._snapshot is not None else [])

    def current(self) -> Snapshot | None:
        """The snapshot if it is known to be that of the index on disk, without reading anything."""
        return self._snapshot if self._stamp is not None and not self._is_stale(self._look()) else None

    def known(self) -> Snapshot | None:
        """The snapshot: all of it is on this machine. None also where it can't be read just now."""
        try:
            return self.snapshot()
        except StorageError:
            return None

    def doubt(self) -> None:
        """Something that the snapshot promised is not there: the next look reads everything, unless that was done just now."""
        if self._clock() - self._loaded >= DOUBT_S:
            self._stamp = None

    def snapshot(self) -> Snapshot | None:
        """The snapshot, read again if the index has changed. None if nothing of the package can be served.

        An index that has become unreadable leaves what was served before. StorageError where nothing was, and there is no
        descriptor left to read it with.
        """
        with self._lock:
            stamp = self._look()
            if stamp is None:
                self._snapshot, self._stamp = None, None
                self._refuse("it has no index.json")
            elif self._is_stale(stamp):
                self._wait = AGAIN_S if stamp != self._stamp else min(2 * self._wait, LONGEST_AGAIN_S)
                self._stamp, self._again = stamp, math.inf
                self._load()
                if self.problems:
                    self._again = self._clock() + self._wait
            return self._snapshot

    def _look(self) -> _Stamp | None:
        try:
            found = os.stat(self._index)  # noqa: PTH116  at each request
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _is_stale(self, stamp: _Stamp | None) -> bool:
        """Whether the package has to be read, or read again, with an index such as this one."""
        return stamp != self._stamp or self._clock() >= self._again

    def _load(self) -> None:
        self._loaded = self._clock()
        root = self.path.resolve()
        before = self._snapshot if self._snapshot is not None and self._snapshot.layout.path == root else Snapshot(Layout(root))
        try:
            layout = Layout.open(root)
            made = Snapshot(layout)
            for tag, descriptor in layout.references().items():
                try:
                    made.add(tag, before.kept(descriptor) or _read_document(layout, tag, descriptor), before.versions)
                except (AccordionError, OSError) as error:
                    if lacking(error):
                        raise  # this says nothing of the version: what is served stays
                    made.problems.append(self._told(f"{tag}: {error}", root))
        except (AccordionError, OSError) as error:
            self._refuse(self._told(str(error), root))
            if lacking(error) and self._snapshot is None:
                self._stamp = None  # whoever asks next tries again
                raise StorageError(str(self._problem)) from error
            return
        if made.versions:
            self._problem, self._snapshot = None, made
            for problem in made.problems:
                if problem not in before.problems:
                    LOG.warning("%s is not served whole: %s", self.name, problem)
        else:
            self._snapshot = None
            self._refuse("; ".join(["it holds no model version that can be served", *made.problems])[:1000])

    def _refuse(self, problem: str) -> None:
        if problem != self._problem:
            LOG.warning("%s: %s", self.name, problem)
        self._problem = problem

    def _told(self, text: str, root: Path) -> str:
        """An error for people who need not know where packages lie on this machine."""
        return text.replace(str(root), self.name)
