"""A package directory: an OCI image layout, whose index names several versions and whose blobs they share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from accordion.artifact.archive import unpack, unpacked_limit
from accordion.artifact.atomic import UNFINISHED, held, write_file, write_named_by_content
from accordion.artifact.digest import Verifier, check_digest, file_digest, is_digest, sha256_digest
from accordion.artifact.ladder import LADDER_LIMIT, Ladder, decode_ladder
from accordion.artifact.manifest import (
    ARTIFACT_TYPE,
    GRAPH_RAW,
    GRAPHS_TAR_ZSTD,
    MANIFEST_LIMIT,
    MANIFEST_MEDIA_TYPE,
    WEIGHT_RAW,
    WEIGHT_TAR_ZSTD,
    Descriptor,
    Manifest,
)
from accordion.artifact.strict_json import Fields, dump, parse_object
from accordion.errors import AccordionError, FormatError, StorageError, UsageError

__all__ = ["REF_NAME", "Layout", "belongs_to_a_version", "check_tag", "is_tag", "signature_tag"]

REF_NAME = "org.opencontainers.image.ref.name"
INDEX_MEDIA_TYPE = "application/vnd.oci.image.index.v1+json"
MAX_INDEX_BYTES = 4 * 1024 * 1024
_CHUNK = 1024 * 1024
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")  # as the OCI distribution specification has it
_OF_A_VERSION = re.compile(r"sha256-[0-9a-f]{64}(\..*)?\Z")  # cosign's, and what OCI 1.1 says where a registry knows no referrers


def belongs_to_a_version(tag: str) -> bool:
    """Whether a tag is of a signature, an attestation, a list of referrers: of a manifest that it names by digest."""
    return _OF_A_VERSION.match(tag) is not None


def is_tag(text: str) -> bool:
    """Whether a version can be named so."""
    return _TAG.match(text) is not None


def check_tag(text: str) -> str:
    """UsageError unless a version can be named so."""
    if not is_tag(text):
        raise UsageError(f"{text!r:.140} is no tag: letters, digits, '_', '.' and '-' only, at most 128")
    return text


def signature_tag(digest: str) -> str:
    """The tag under which cosign keeps the signature of the manifest with this digest."""
    return check_digest(digest, "the signed manifest").replace(":", "-") + ".sig"


class Layout:
    """One package directory. Reads are checked against digest and size; writes appear whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Layout({str(self.path)!r})"

    @classmethod
    def open(cls, directory: Path | str) -> Layout:
        """An existing package directory.

        Raises:
            UsageError: there is no such directory.
            FormatError: it is no OCI image layout.
        """
        path = Path(directory)
        if not path.is_dir():
            raise UsageError(f"there is no directory {path}")
        layout = cls(path)
        if not (path / "oci-layout").is_file() or not (path / "index.json").is_file():
            raise FormatError(f"{path} is no package: it lacks oci-layout or index.json")
        raw = layout._read(path / "oci-layout", 10_000)
        fields = Fields(parse_object(raw, f"{path / 'oci-layout'}", 10_000), f"{path / 'oci-layout'}")
        if (version := fields.text("imageLayoutVersion")) != "1.0.0":
            raise FormatError(f"{path} has the OCI layout version {version!r:.20}; only 1.0.0 is known")
        layout.references()
        return layout

    @classmethod
    def create(cls, directory: Path | str) -> Layout:
        """A package directory, made where there is none or an empty one; an existing one is opened, a begun one made whole.

        Raises:
            UsageError: the directory holds something else.
            StorageError: it can't be written.
        """
        path = Path(directory)
        if (path / "oci-layout").exists():
            return cls.open(path)
        if path.exists() and (not path.is_dir() or not _is_begun(path)):
            raise UsageError(f"{path} is there already and is no package; name an empty or a new directory")
        layout = cls(path)
        try:
            (path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"can't make {path}: {error.strerror or error}") from error
        with held(path):
            if not (path / "oci-layout").exists():  # another process may have made it meanwhile
                write_file(path / "index.json", _index_bytes([]))
                write_file(path / "oci-layout", dump({"imageLayoutVersion": "1.0.0"}))
        return layout

    def blob_path(self, digest: str) -> Path:
        """Where the blob with this digest lies or would lie. FormatError where it is no digest."""
        return self.path / "blobs" / "sha256" / check_digest(digest, "a blob").removeprefix("sha256:")

    def references(self) -> dict[str, Descriptor]:
        """Everything in the index that has a name, signatures too, in the index's order.

        Raises:
            FormatError: the index is broken.
        """
        return {
            descriptor.annotations[REF_NAME]: descriptor for _, descriptor in self._entries() if REF_NAME in descriptor.annotations
        }

    def tags(self) -> dict[str, Descriptor]:
        """The model versions by tag: what `references` gives, without what belongs to a version and other kinds of artifact.

        Other tools leave the artifact type out of the index, so that alone would not tell an attestation from a model.
        """
        return {
            descriptor.annotations[REF_NAME]: descriptor
            for kind, descriptor in self._entries()
            if REF_NAME in descriptor.annotations
            and kind in (None, ARTIFACT_TYPE)
            and not belongs_to_a_version(descriptor.annotations[REF_NAME])
        }

    def manifests(self, *, without: Collection[str] = ()) -> list[Descriptor]:
        """Every entry of the index, with a name or without, but those with these names."""
        return [descriptor for _, descriptor in self._entries() if descriptor.annotations.get(REF_NAME) not in without]

    def remove(self, tags: Collection[str]) -> None:
        """Takes these names out of the index, in one step; their blobs stay. StorageError: it is as it was."""
        entries = [(kind, entry) for kind, entry in self._entries() if entry.annotations.get(REF_NAME) not in tags]
        write_file(self.path / "index.json", _index_bytes(entries))

    def resolve(self, reference: str | None = None) -> Descriptor:
        """The manifest's descriptor for a tag or a digest; left out: `latest`, else the only tag.

        Raises:
            UsageError: there is none, or several and nothing says which.
        """
        if reference is not None and is_digest(reference.removeprefix("@")):
            wanted = reference.removeprefix("@")
            for _, descriptor in self._entries():
                if descriptor.digest == wanted:
                    return descriptor
            raise UsageError(f"{self.path} has no version {wanted}")
        tags = self.tags()
        known = ", ".join(list(tags)[:10]) or "none"
        if reference is None:
            if "latest" in tags:
                return tags["latest"]
            if len(tags) == 1:
                return next(iter(tags.values()))
            raise UsageError(f"say which version of {self.path} you mean: {known}" if tags else f"{self.path} is empty")
        everything = self.references()
        if reference not in everything:
            raise UsageError(f"{self.path} has no version {reference!r:.90} (it has: {known})")
        return everything[reference]

    def manifest(self, reference: str | None = None) -> Manifest:
        """The manifest for a tag or a digest; left out: `latest`, else the only tag.

        Raises:
            UsageError: there is none, or several and nothing says which.
            ContentError: it is not what the index promises, or no manifest of a model.
        """
        descriptor = self.resolve(reference)
        return Manifest.parse(self.read_blob(descriptor, limit=MANIFEST_LIMIT), digest=descriptor.digest)

    def ladder(self, manifest: Manifest) -> Ladder:
        """The ladder of one of its manifests, as it stands: `Ladder.check_against` holds it against the layers.

        ContentError if it is missing, too large or no ladder.
        """
        layer = manifest.layers[0]
        return decode_ladder(layer, self.read_blob(layer, limit=LADDER_LIMIT))

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether a blob of this digest and size is there; its content is not read."""
        path = self.blob_path(descriptor.digest)
        return path.is_file() and path.stat().st_size == descriptor.size

    def read_blob(self, descriptor: Descriptor, *, limit: int) -> bytes:
        """A blob's bytes, checked.

        Raises:
            FormatError: it is missing, or longer than `limit` bytes.
            DigestError: it is not what the descriptor promises.
        """
        if descriptor.size > limit:
            raise FormatError(f"the blob {descriptor.digest} has {descriptor.size} bytes; at most {limit} are allowed")
        path = self.blob_path(descriptor.digest)
        if not path.is_file():
            raise FormatError(f"{self.path} lacks the blob {descriptor.digest}")
        data = self._read(path, descriptor.size + 1)
        verifier = Verifier(descriptor.digest, descriptor.size, f"the blob {descriptor.digest}")
        verifier.update(data)
        verifier.finish()
        return data

    def lay_out(self, layer: Descriptor, folder: Path, what: str) -> None:
        """Writes the files of a layer under their own paths in `folder`, for a runtime to load; only of graphs and weights.

        The blob is taken as it is: `verify_package` says whether it is sound. FormatError if it is no archive that can be unpacked.
        """
        blob = self.blob_path(layer.digest)
        if layer.media_type in (WEIGHT_RAW, GRAPH_RAW):
            files = [(str(layer.path), blob.read_bytes())]
        elif layer.media_type in (GRAPHS_TAR_ZSTD, WEIGHT_TAR_ZSTD):
            with blob.open("rb") as stream:
                files = list(unpack(stream, limit=unpacked_limit(layer.size), what=what))
        else:
            files = []
        for path, data in files:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)

    def write_blob(self, data: bytes | Path) -> tuple[str, int]:
        """Store bytes, or a copy of a file; returns digest and size. What is there already stays.

        Raises:
            StorageError: it can't be written.
        """
        if isinstance(data, Path):
            return self._copy_blob(data)
        digest = sha256_digest(data)
        path = self.blob_path(digest)
        if not (path.is_file() and path.stat().st_size == len(data) and file_digest(path) == digest):
            write_file(path, data)
        return digest, len(data)

    def add_version(self, tag: str, manifest: Manifest) -> Descriptor:
        """Store the manifest and let `tag` name it, moving the tag where it is taken. The blobs must be there.

        They are looked for while nobody else changes the package: until then, a `prune` could still take them away.

        Raises:
            UsageError: the tag is not one.
            FormatError: a blob is missing or has another size.
            StorageError: the disk failed.
        """

        def complete() -> bytes:
            for descriptor in (manifest.config, *manifest.layers):
                if not self.has_blob(descriptor):
                    raise FormatError(f"{self.path} lacks the blob {descriptor.digest} of {descriptor.size} bytes")
            return manifest.raw

        return self.change_manifest(tag, complete, artifact_type=ARTIFACT_TYPE)

    def add_manifest(self, tag: str, raw: bytes, *, artifact_type: str | None = None) -> Descriptor:
        """Store any OCI manifest, a signature's too, and let `tag` name it. Errors as in `add_version`."""
        return self.change_manifest(tag, lambda: raw, artifact_type=artifact_type)

    def change_manifest(self, tag: str, make: Callable[[], bytes], *, artifact_type: str | None = None) -> Descriptor:
        """As `add_manifest`, where the new manifest rests on what is there: nobody changes the index while `make` makes it.

        `make` must not change the index itself: it would wait for its own lock for ever. Errors as in `add_version`, and its own.
        """
        if not _TAG.match(tag):
            raise UsageError(f"{tag!r:.140} is no tag: letters, digits, '_', '.' and '-' only, at most 128")
        with held(self.path):
            digest, size = self.write_blob(make())
            descriptor = Descriptor(MANIFEST_MEDIA_TYPE, digest, size, {REF_NAME: tag})
            entries = [
                (kind, entry)
                for kind, entry in self._entries()
                if entry.annotations.get(REF_NAME) != tag and (entry.digest != digest or REF_NAME in entry.annotations)
            ]
            write_file(self.path / "index.json", _index_bytes([*entries, (artifact_type, descriptor)]))
        return descriptor

    def referrers(self, digest: str, failed: Callable[[Exception], None] = lambda error: None) -> list[dict[str, Any]]:
        """Descriptors, as JSON values, of the manifests whose `subject` has this digest, for `/v2/…/referrers/…`.

        One that can't be read hides no other; `failed` is told why. FormatError, StorageError: that is the index itself.
        """
        found: dict[str, dict[str, Any]] = {}
        for kind, entry in self._entries():
            if entry.digest == digest or entry.size > MANIFEST_LIMIT or kind == ARTIFACT_TYPE:
                continue
            try:
                value = parse_object(self.read_blob(entry, limit=MANIFEST_LIMIT), "a manifest", MANIFEST_LIMIT)
            except (AccordionError, OSError) as error:
                failed(error)
                continue
            subject = value.get("subject") if isinstance(value, dict) else None
            if isinstance(subject, dict) and subject.get("digest") == digest:
                item: dict[str, Any] = {"mediaType": entry.media_type, "digest": entry.digest, "size": entry.size}
                config = value.get("config")
                config_type = config.get("mediaType") if isinstance(config, dict) else None
                item["artifactType"] = value.get("artifactType") or kind or config_type
                if value.get("annotations"):
                    item["annotations"] = value["annotations"]
                found[entry.digest] = item
        return list(found.values())

    def _entries(self) -> list[tuple[str | None, Descriptor]]:
        where = str(self.path / "index.json")
        raw = self._read(self.path / "index.json", MAX_INDEX_BYTES + 1)
        fields = Fields(parse_object(raw, where, MAX_INDEX_BYTES), where)
        if fields.get("schemaVersion") != 2:
            raise FormatError(f"{where} is not an OCI index of schema version 2")
        entries: list[tuple[str | None, Descriptor]] = []
        names: set[str] = set()
        for position, value in enumerate(fields.items("manifests", most=10_000)):
            descriptor = Descriptor.from_json(value, f"{where}, manifests[{position}]")
            kind = value.get("artifactType") if isinstance(value, Mapping) else None
            name = descriptor.annotations.get(REF_NAME)
            if name is not None and not _TAG.match(name):
                # OCI allows more in a name than a tag may hold: such a version is there by its digest alone.
                rest = {key: value for key, value in descriptor.annotations.items() if key != REF_NAME}
                descriptor, name = replace(descriptor, annotations=rest), None
            if name is not None:
                if name in names:
                    raise FormatError(f"{where} holds the tag {name!r} twice")
                names.add(name)
            entries.append((kind if isinstance(kind, str) else None, descriptor))
        return entries

    def _read(self, path: Path, limit: int) -> bytes:
        try:
            with path.open("rb") as stream:
                return stream.read(limit)
        except OSError as error:
            raise StorageError(f"can't read {path}: {error.strerror or error}") from error

    def _copy_blob(self, source: Path) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0

        def chunks() -> Iterator[bytes]:
            nonlocal size
            with source.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
                    yield chunk

        folder = self.path / "blobs" / "sha256"
        path = write_named_by_content(folder, chunks(), lambda: folder / digest.hexdigest())
        return "sha256:" + path.name, size


def _is_begun(path: Path) -> bool:
    """Whether a directory holds no more than `Layout.create` had made when it was stopped, by a full disk perhaps."""
    empty, index = (path / "blobs", path / "blobs" / "sha256"), path / "index.json"
    try:
        there = {place for folder in (path, *empty) if folder.is_dir() for place in folder.iterdir()}
        there -= {place for place in there if place.name.startswith(UNFINISHED)}
        if not there <= {*empty, index} or not all(place.is_dir() for place in there & set(empty)):
            return False
        return index not in there or index.read_bytes() == _index_bytes([])
    except OSError:
        return False  # whatever it is, it is no file that `create` wrote


def _index_bytes(entries: list[tuple[str | None, Descriptor]]) -> bytes:
    manifests = []
    for kind, descriptor in entries:
        value = descriptor.to_json()
        if kind is not None:
            value = {"mediaType": value.pop("mediaType"), "artifactType": kind, **value}
        manifests.append(value)
    return dump({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": manifests})
