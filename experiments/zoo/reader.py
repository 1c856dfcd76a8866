"""Reads a package as a stranger would: by the specification, with none of this project's own code for it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from accordion.errors import DigestError, FormatError, StorageError

__all__ = ["Contents", "lay_out"]

MOST = 2**30  # bytes of a layer, unpacked


@dataclass(frozen=True, slots=True)
class Contents:
    """`digest` is the manifest's, `ladder` the ladder's JSON, `folder` where the files lie under their own paths."""

    digest: str
    ladder: dict[str, Any]
    folder: Path


def lay_out(package: Path, folder: Path, tag: str | None = None) -> Contents:
    """Writes the files of one version (the one tagged `tag`, else the first) into `folder`.

    DigestError if a blob is not what its name says, FormatError for what the specification does not allow, StorageError if there is
    nothing.
    """
    try:
        index = json.loads((package / "index.json").read_bytes())
        name = "org.opencontainers.image.ref.name"
        entries = [e for e in index["manifests"] if tag is None or e.get("annotations", {}).get(name) == tag]
        digest = str(entries[0]["digest"])
        manifest = json.loads(_blob(package, digest))
        ladder: dict[str, Any] = {}
        for layer in manifest["layers"]:
            data, kind = _blob(package, layer["digest"]), layer["mediaType"]
            if kind.endswith("+zstd"):
                data = zstandard.ZstdDecompressor().decompress(data, max_output_size=MOST)
            if "ladder" in kind:
                ladder = json.loads(data)
            elif "tar" in kind:
                with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                    for member in archive.getmembers():
                        content = archive.extractfile(member)
                        if content is not None:
                            _write(folder, member.name, content.read())
            else:
                _write(folder, layer["annotations"]["org.cncf.model.filepath"], data)
        if not ladder["configurations"]:
            raise ValueError("its ladder has no configuration")
    except FileNotFoundError as error:
        raise StorageError(f"{package} is no package: {error.filename} is not there") from error
    except (KeyError, IndexError, TypeError, ValueError, tarfile.TarError, zstandard.ZstdError) as error:
        raise FormatError(f"{package} is no package: {type(error).__name__} {error}") from error
    return Contents(digest, ladder, folder)


def _blob(package: Path, digest: str) -> bytes:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or not value.isalnum():
        raise ValueError(f"{digest!r:.90} is no SHA-256 digest")
    data = (package / "blobs" / "sha256" / value).read_bytes()
    if hashlib.sha256(data).hexdigest() != value:
        raise DigestError(f"blob {digest} of {package} has other bytes than its name says")
    return data


def _write(folder: Path, name: str, data: bytes) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the path {name!r:.90} leaves the package")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
