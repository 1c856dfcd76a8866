"""What a package no longer needs: versions that are dropped, blobs that nothing names any more, what killed writes have left."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from accordion.artifact.atomic import INCOMING, UNFINISHED, held
from accordion.artifact.blobs import blobs_of
from accordion.artifact.layout import Layout, belongs_to_a_version
from accordion.artifact.manifest import MANIFEST_LIMIT
from accordion.errors import StorageError, UsageError

__all__ = ["Pruned", "prune"]

_BLOB = re.compile(r"[0-9a-f]{64}")
OVER_S = 86_400  # a write that has not gone on for so long was killed: a younger one may be under way


@dataclass(frozen=True, slots=True)
class Pruned:
    """`tags` that are gone, signatures' too; `blobs` and `unfinished` files of killed writes that were deleted, and their bytes."""

    tags: tuple[str, ...]
    blobs: int
    bytes: int
    unfinished: int = 0
    unfinished_bytes: int = 0


def prune(layout: Layout, drop: Collection[str] = (), *, dry: bool = False) -> Pruned:
    """Drops these versions, with what belongs to them (signatures), and deletes every blob that the index leads to no longer.

    What writes have left that were killed goes, too, once it is a day old, and what pulls have left at once: these are known by
    their lock.

    The index changes first, so a prune that is killed leaves nothing but blobs that the next one finds. A version that was being
    written or pulled meanwhile may lack a blob afterwards, and whoever writes it is told so. With `dry` nothing changes.

    Raises:
        UsageError: there is no such version, or none would be left.
        FormatError: something in the index is no manifest, so what it needs can't be told; nothing was deleted.
        StorageError: the disk failed.
    """
    with held(layout.path):
        tags = layout.tags()
        if missing := [tag for tag in drop if tag not in tags]:
            raise UsageError(f"{layout.path} has no version {missing[0]!r:.90} (it has: {', '.join(list(tags)[:10]) or 'none'})")
        kept = {tag: one for tag, one in tags.items() if tag not in drop}
        if not kept:
            raise UsageError(f"{layout.path} would be left without a version: delete the folder instead")
        signed = {f"sha256-{one.digest.removeprefix('sha256:')}" for one in kept.values()}
        gone = [
            tag for tag in layout.references() if tag in drop or (belongs_to_a_version(tag) and tag.partition(".")[0] not in signed)
        ]
        wanted: set[str] = set()
        for descriptor in layout.manifests(without=gone):
            raw = layout.read_blob(descriptor, limit=MANIFEST_LIMIT)
            wanted.update((descriptor.digest, *(blob.digest for blob in blobs_of(raw))))
        try:
            idle = [
                path
                for path in sorted((layout.path / "blobs" / "sha256").iterdir())
                if _BLOB.fullmatch(path.name) and f"sha256:{path.name}" not in wanted and path.is_file()
            ]
            size = sum(path.stat().st_size for path in idle)
            left, pulls = _unfinished(layout.path), _interrupted(layout.path)
            if not dry:
                if gone:
                    layout.remove(gone)
                for path in (*idle, *left):
                    path.unlink(missing_ok=True)
                for folder in pulls:
                    shutil.rmtree(folder)
        except OSError as error:
            raise StorageError(f"can't delete in {layout.path}: {error.strerror or error}") from error
    unfinished = [*left.values(), *(size for sizes in pulls.values() for size in sizes)]
    return Pruned(tuple(gone), len(idle), size, len(unfinished), sum(unfinished))


def _unfinished(package: Path) -> dict[Path, int]:
    """Files of writes that were killed, wherever a package is written into, and their bytes. OSError from the disk."""
    found = {}
    for folder in (package, package / "blobs" / "sha256"):
        for path in folder.glob(f"{UNFINISHED}*"):
            try:
                stat = path.lstat()
            except FileNotFoundError:
                continue  # a write that has ended meanwhile
            if S_ISREG(stat.st_mode) and time.time() - stat.st_mtime > OVER_S:
                found[path] = stat.st_size
    return found


def _interrupted(package: Path) -> dict[Path, list[int]]:
    """Folders of pulls that were killed, and the bytes of each file there. A pull makes its folder while it holds the package."""
    found: dict[Path, list[int]] = {}
    for folder in package.glob(f"{INCOMING}*"):
        with suppress(StorageError), held(folder, wait=False) as free:
            if free:  # nobody is at work there
                found[folder] = [path.lstat().st_size for path in folder.iterdir()]
    return found
