"""A package as static files under the endpoint's own paths, for nginx, a CDN or object storage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from importlib import resources
from pathlib import Path

from accordion.artifact.atomic import held, write_file, write_named_by_content
from accordion.artifact.digest import Verifier, file_digest, is_digest
from accordion.artifact.manifest import Descriptor, Manifest
from accordion.artifact.names import is_name
from accordion.artifact.strict_json import dump, parse_object
from accordion.endpoint.package import INDEX_MEDIA_TYPE, Document, Package, Snapshot
from accordion.endpoint.routing import ACCORDION
from accordion.errors import FormatError, StorageError, UsageError

__all__ = ["export"]

NGINX = "nginx-accordion.conf"
_CHUNK = 1024 * 1024
_MOST_CATALOG_BYTES = 64 * 2**20


def export(package_dir: Path | str, out_dir: Path | str, *, name: str | None = None) -> list[Path]:
    """Writes `out_dir/v2/…`: manifests, blobs, tags, referrers and streams, as the endpoint would answer; returns what was written.

    Several packages can go to one folder; `name` is the package's, left out: its directory's. Each file appears whole or not at
    all, and what tags name comes last, so that a folder that is being served never names what is not there yet.

    Raises:
        UsageError: there is no such package, or the name is impossible.
        ContentError: the package is not what it promises; every digest is checked.
        StorageError: the disk failed.
    """
    source, out = Path(package_dir).resolve(), Path(out_dir)
    name = source.name if name is None else name
    if not is_name(name):
        raise UsageError(f"{name!r} can't be a package's name: letters, digits, '.', '_' and '-', parts joined by '/'")
    if not source.is_dir():
        raise UsageError(f"there is no directory {package_dir}")
    package = Package(name, source)
    snapshot = package.snapshot()
    if snapshot is None or package.problems:
        raise FormatError(f"{package_dir} can't be exported: {'; '.join(package.problems)}")
    root = out / "v2" / name
    written = [*_write_blobs(snapshot, root / "blobs"), *_write_streams(snapshot, root / ACCORDION / "stream")]
    written += _write_manifests(snapshot, root)
    written.append(_write(root / "tags" / "list", dump({"name": name, "tags": sorted(snapshot.tags)})))
    with held(out / "v2"):  # another package may be on its way to the same folder
        names = sorted({name, *_names_before(out / "v2" / "_catalog")})
        written.append(_write(out / "v2" / "_catalog", dump({"repositories": names})))
    conf = resources.files("accordion.endpoint").joinpath("nginx.conf").read_bytes()
    written.append(_write(out / NGINX, conf))
    return written


def _documents(snapshot: Snapshot) -> dict[str, Document]:
    """Every manifest that travels, by digest: what has a tag, and what refers to a version."""
    found = {document.digest: document for document in snapshot.tags.values()}
    for digest in snapshot.versions:
        for descriptor in snapshot.referrers(digest):
            document = snapshot.document(str(descriptor["digest"]))
            if document is not None:
                found[document.digest] = document
    return found


def _write_blobs(snapshot: Snapshot, folder: Path) -> Iterator[Path]:
    wanted: dict[str, Descriptor] = {}
    for document in _documents(snapshot).values():
        layers = document.fields.get("layers")
        for value in (document.fields.get("config"), *(layers if isinstance(layers, list) else [])):
            if value is not None:
                descriptor = Descriptor.from_json(value, f"a blob of the manifest {document.digest}")
                wanted[descriptor.digest] = descriptor
    for descriptor in wanted.values():
        target = folder / descriptor.digest
        if not (target.is_file() and target.stat().st_size == descriptor.size and file_digest(target) == descriptor.digest):
            _write_chunks(target, _checked(snapshot, descriptor))
        yield target


def _write_streams(snapshot: Snapshot, folder: Path) -> Iterator[Path]:
    for digest, version in snapshot.versions.items():
        target = folder / digest
        chunks = partial(_stream, snapshot, version.manifest)
        if not (target.is_file() and target.stat().st_size == version.stream.size and _holds(target, chunks())):
            _write_chunks(target, chunks())
        yield target


def _stream(snapshot: Snapshot, manifest: Manifest) -> Iterator[bytes]:
    return (chunk for layer in manifest.layers for chunk in _checked(snapshot, layer))


def _holds(target: Path, chunks: Iterator[bytes]) -> bool:
    """Whether the file is exactly these bytes: one that was damaged since is written again."""
    with target.open("rb") as stream:
        return all(stream.read(len(chunk)) == chunk for chunk in chunks) and not stream.read(1)


def _write_manifests(snapshot: Snapshot, root: Path) -> list[Path]:
    documents = _documents(snapshot)
    written = [_write(root / "manifests" / digest, document.raw) for digest, document in documents.items()]
    for digest in documents:
        index = {"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": snapshot.referrers(digest)}
        written.append(_write(root / "referrers" / digest, dump(index)))
    written += [_write(root / "manifests" / tag, document.raw) for tag, document in snapshot.tags.items()]
    for path in (root / "manifests").iterdir():  # tags of an earlier export that are no more
        if not is_digest(path.name) and path.name not in snapshot.tags and not path.name.startswith("."):
            path.unlink()
    return written


def _checked(snapshot: Snapshot, descriptor: Descriptor) -> Iterator[bytes]:
    """A blob's bytes; ContentError before the last is given if they are not what was promised."""
    verifier = Verifier(descriptor.digest, descriptor.size, f"the blob {descriptor.digest}")
    try:
        with snapshot.layout.blob_path(descriptor.digest).open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                verifier.update(chunk)
                if not verifier.missing:
                    verifier.finish()
                yield chunk
    except FileNotFoundError as error:
        raise FormatError(f"the blob {descriptor.digest} is missing") from error
    except OSError as error:
        raise StorageError(f"can't read the blob {descriptor.digest}: {error.strerror or error}") from error
    verifier.finish()


def _names_before(path: Path) -> list[str]:
    """The names in the folder's catalog from earlier exports."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror or error}") from error
    names = parse_object(data, str(path), _MOST_CATALOG_BYTES).get("repositories")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _write(path: Path, data: bytes) -> Path:
    _make_folder(path.parent)
    write_file(path, data)
    return path


def _write_chunks(path: Path, chunks: Iterable[bytes]) -> None:
    _make_folder(path.parent)
    write_named_by_content(path.parent, chunks, lambda: path)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"can't make {path}: {error.strerror or error}") from error
