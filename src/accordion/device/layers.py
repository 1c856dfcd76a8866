"""One layer becomes files: unpacked within bounds, checked, and in their place only when all of that went well."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from accordion.artifact.archive import unpack, unpacked_limit
from accordion.artifact.atomic import write_file
from accordion.artifact.digest import Verifier, sha256_digest
from accordion.artifact.ladder import LADDER_LIMIT, ladder_file
from accordion.artifact.manifest import LADDER_PATH, RAW, WEIGHT_RAW, WEIGHT_TAR_ZSTD, Descriptor
from accordion.artifact.weights import check_segment, check_segment_bytes
from accordion.device.state import FileEntry, packed_path
from accordion.errors import DigestError, FormatError, StorageError, TransferError

__all__ = ["Incoming", "StaleError", "keep_packed", "layer_files", "place_layer"]


class StaleError(TransferError):
    """What an earlier fetch or try had left of a layer spoilt it. It was thrown away, and can come from its beginning."""


class Incoming:
    """The bytes of one layer on their way into `.incoming`, verified while they arrive; what is there already counts."""

    def __init__(self, folder: Path, layer: Descriptor, what: str) -> None:
        self.path = folder / layer.digest.removeprefix("sha256:")
        self.verifier = Verifier(layer.digest, layer.size, what)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and self.path.stat().st_size > layer.size:
                self.path.unlink()
            self._stream = self.path.open("ab+")
            self._stream.seek(0)
            while piece := self._stream.read(2**20):
                self.verifier.update(piece)
        except OSError as error:
            raise StorageError(f"can't write {self.path}: {error.strerror or error}") from error
        self.reused = self.verifier.received

    @property
    def missing(self) -> int:
        """Bytes still to come."""
        return self.verifier.missing

    def take(self, data: bytes) -> None:
        """The next bytes. DigestError at one too many."""
        self.verifier.update(data)
        try:
            self._stream.write(data)
        except OSError as error:
            raise StorageError(f"can't write {self.path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Keeps what has arrived for the next time."""
        try:
            self._stream.close()
        except OSError as error:
            raise StorageError(f"can't write {self.path}: {error.strerror or error}") from error

    def finish(self) -> Path:
        """Where the whole layer lies. DigestError if it is not what was promised: then it is thrown away.

        StaleError instead where a part of it was here before: who sent the rest need not have sent that.
        """
        self.close()
        try:
            self.verifier.finish()
        except DigestError as error:
            self.path.unlink(missing_ok=True)
            if self.reused:
                raise StaleError(f"{self.verifier.what} is corrupt, perhaps since an earlier try: it comes again") from error
            raise
        return self.path


def layer_files(source: Path, layer: Descriptor, what: str) -> dict[str, bytes | None]:
    """The files of the verified layer at `source`, checked; None for the content of a raw one, which is the layer itself.

    FormatError if the layer's content breaks a rule.
    """
    try:
        if layer.media_type in RAW:
            if layer.media_type == WEIGHT_RAW:
                with source.open("rb") as stream:
                    check_segment(stream, layer.size, what)
            return {str(layer.path): None}
        if layer.path == LADDER_PATH:
            return {LADDER_PATH: ladder_file(layer, _read(source, LADDER_LIMIT, what))}
        with source.open("rb") as stream:
            found = dict(unpack(stream, limit=unpacked_limit(layer.size), what=what))
        if layer.media_type == WEIGHT_TAR_ZSTD:
            for path, data in found.items():
                check_segment_bytes(data, f"{what}: {path!r}")
        return dict(found)
    except OSError as error:
        raise StorageError(f"can't read {source}: {error.strerror or error}") from error


def place_layer(source: Path, layer: Descriptor, target: Path, found: Mapping[str, bytes | None]) -> dict[str, FileEntry]:
    """Puts the files that `layer_files` found under `target`; says what they are. A raw layer is moved, another stays."""
    try:
        files = {}
        for path, data in found.items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            if data is None:
                source.replace(target / path)
                files[path] = FileEntry(layer.size, layer.digest, layer.digest)
                continue
            write_file(target / path, data, sync=False)  # as a raw layer's file: its digest is checked before it is used
            files[path] = FileEntry(len(data), sha256_digest(data), layer.digest)
        return files
    except OSError as error:
        raise StorageError(f"can't write into {target}: {error.strerror or error}") from error


def keep_packed(source: Path, layer: Descriptor, target: Path) -> dict[str, FileEntry]:
    """Puts the verified layer at `source` where `target` keeps what came packed; says what it is. `source` stays too."""
    path = packed_path(layer.digest)
    try:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).unlink(missing_ok=True)
        try:
            os.link(source, target / path)
        except OSError:  # a disk that knows no links
            shutil.copyfile(source, target / path)
    except OSError as error:
        raise StorageError(f"can't write into {target}: {error.strerror or error}") from error
    return {path: FileEntry(layer.size, layer.digest, layer.digest)}


def _read(path: Path, limit: int, what: str) -> bytes:
    if path.stat().st_size > limit:
        raise FormatError(f"{what} has more than the {limit} bytes allowed")
    return path.read_bytes()
