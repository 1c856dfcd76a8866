"""What a TUF repository says of a version: learned over the network within bounds, and believed again later without one.

python-tuf holds the rules of the TUF specification: thresholds, rotation, expiry, no way back. This file turns its words into ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from accordion.artifact.bounded import read_file
from accordion.artifact.digest import is_digest
from accordion.errors import AccordionError, SignatureError, StorageError, TransferError, UsageError
from accordion.trust.files import locked
from accordion.trust.keys import needs
from accordion.trust.metadata import ROLES, TIMESTAMP
from accordion.trust.proof import PROOF_LIMIT, Listed
from accordion.trust.rules import REFUSE, Repository
from accordion.trust.statement import DEFAULT_TAG

if TYPE_CHECKING:
    from tuf.api.metadata import Root, Targets

__all__ = ["TufClient", "check_root"]

ROOT_LIMIT = 512_000  # bytes, as python-tuf has it
EXTRA = "tuf"


@contextmanager
def _ours(url: str) -> Iterator[None]:
    """python-tuf's errors as ours. Whoever sent bad content and whoever did not send are told apart by the type."""
    try:
        from tuf.api import exceptions
    except ModuleNotFoundError as error:
        raise needs(error, EXTRA) from error
    try:
        yield
    except exceptions.ExpiredMetadataError as error:
        raise SignatureError(f"the repository {url} has expired: nothing new is accepted until it is renewed ({error})") from error
    except exceptions.BadVersionNumberError as error:
        raise SignatureError(f"the repository {url} shows something older than before, or mixes versions: {error}") from error
    except exceptions.UnsignedMetadataError as error:
        raise SignatureError(f"the repository {url} is not signed by enough of the keys that are trusted: {error}") from error
    except exceptions.LengthOrHashMismatchError as error:
        raise SignatureError(f"the repository {url} sends what it does not promise itself: {error}") from error
    except exceptions.RepositoryError as error:
        raise SignatureError(f"the repository {url} is not to be trusted: {error}") from error
    except exceptions.DownloadLengthMismatchError as error:
        raise SignatureError(f"the repository {url} sends more than it may: {error}") from error
    except exceptions.DownloadError as error:
        raise TransferError(f"can't ask the repository {url}: {error}") from error
    except AccordionError:
        raise
    except OSError as error:
        raise StorageError(f"can't keep what the repository {url} said: {error.strerror or error}") from error


def check_root(data: bytes) -> None:
    """UsageError unless this is root metadata, signed by its own keys. AccordionError without the library."""
    try:
        _root(data, "the root")
    except SignatureError as error:
        raise UsageError(f"this is no root of a TUF repository: {error}") from error


def _root(data: bytes, what: str) -> Root:
    with _ours(what):
        from tuf.api.metadata import Metadata, Root

        found: Metadata[Root] = Metadata.from_bytes(data)
        if not isinstance(found.signed, Root):
            raise SignatureError(f"{what} is {found.signed.type}, not root")
        found.signed.verify_delegate("root", found.signed_bytes, found.signatures)
        return found.signed


class TufClient:
    """One repository, and what this device has learned of it, in a folder of its own under `base`."""

    def __init__(self, base: Path, repository: Repository) -> None:
        self.repository = repository
        mark = hashlib.sha256(f"{repository.url}\n{repository.root}".encode()).hexdigest()
        self.folder = base / mark[:16]

    def listed(self, name: str, reference: str | None, digest: str, size: int, within_s: float) -> Listed:
        """Asks what is current, and holds the manifest that came against it.

        Raises:
            SignatureError: the list has expired, is older than before, is badly signed, or names another manifest.
            TransferError: the repository can't be reached, or takes longer than `within_s` seconds.
            StorageError: what it said can't be kept, or another process has been asking it for so long.
        """
        url = self.repository.url
        with _ours(url):
            from tuf.ngclient import Updater

            from accordion.trust.tuf_fetcher import BoundedFetcher

            fetcher = BoundedFetcher(within_s)  # which counts from now: the wait for another process is a part of it
            with locked(self.folder / ".lock", within_s):
                updater = Updater(str(self.folder), url, fetcher=fetcher, bootstrap=self.repository.root.encode())
                updater.refresh()
                raw = read_file(self.folder / "targets.json", PROOF_LIMIT // 2)
                path = _place(self._targets(raw), name, reference, digest)
                target = updater.get_targetinfo(path)
            if target is None or target.hashes.get("sha256") != digest.removeprefix("sha256:") or target.length != size:
                raise SignatureError(f"{name} is not to be trusted: {url} lists another manifest as {path}, not {digest}")
            return Listed(raw, path)

    def vouches(self, name: str, digest: str, listed: Listed) -> tuple[str, ...]:
        """Holds a list that was kept against the keys that this device trusts now; asks nobody. Returns warnings.

        Raises:
            SignatureError: too few of them signed the list, it does not name the manifest, or it has expired and that ends all.
        """
        with _ours(self.repository.url):
            from tuf.api.metadata import Metadata

            kept: Metadata[Targets] = Metadata.from_bytes(listed.targets)
            self._root().verify_delegate("targets", kept.signed_bytes, kept.signatures)
            target = self._targets(listed.targets).targets.get(listed.path)
            if (
                target is None
                or listed.path.rpartition("/")[0] != name
                or target.hashes.get("sha256") != digest.removeprefix("sha256:")
            ):
                raise SignatureError(f"{name} is not to be trusted: the list that is kept with it does not name {digest}")
            expires = self._expires(kept.signed)
        if datetime.now(UTC) < expires:
            return ()
        said = f"what {self.repository.url} said of {name} has expired on {expires:%Y-%m-%d %H:%M} UTC"
        if self.repository.after_expiry == REFUSE:
            raise SignatureError(f"{said}: this device runs nothing that has")
        return (f"{said}: nothing new is accepted until it is renewed; what was installed before goes on running",)

    def _root(self) -> Root:
        """The newest root that this device has accepted; the one it was given, before it has asked."""
        newest = self.folder / "root.json"
        with _ours(self.repository.url):
            data = read_file(newest, ROOT_LIMIT) if newest.exists() else self.repository.root.encode()
        return _root(data, str(newest))

    def _targets(self, raw: bytes) -> Targets:
        from tuf.api.metadata import Metadata, Targets

        found: Metadata[Targets] = Metadata.from_bytes(raw)
        if not isinstance(found.signed, Targets):
            raise SignatureError(f"the list of {self.repository.url} is {found.signed.type}, not targets")
        return found.signed

    def _expires(self, kept: Targets) -> datetime:
        """When the first of what this device last heard runs out; where it has heard nothing itself, the list that came along."""
        from tuf.api.metadata import Metadata

        times = [kept.expires] if not (self.folder / TIMESTAMP).exists() else []
        for role in ROLES:
            path = self.folder / f"{role}.json"
            if path.exists():
                times.append(Metadata.from_bytes(read_file(path, PROOF_LIMIT)).signed.expires)
        return min(times)


def _place(targets: Targets, name: str, reference: str | None, digest: str) -> str:
    """Under which path of the list the manifest must stand. SignatureError where nothing is listed for this name."""
    tags = {path.rpartition("/")[2]: target for path, target in targets.targets.items() if path.rpartition("/")[0] == name}
    if reference is not None and not is_digest(reference):
        return f"{name}/{reference}"
    if reference is None and DEFAULT_TAG in tags:
        return f"{name}/{DEFAULT_TAG}"
    for tag, target in tags.items():
        if target.hashes.get("sha256") == digest.removeprefix("sha256:"):
            return f"{name}/{tag}"
    raise SignatureError(f"{name} is not to be trusted: its repository lists no such version ({digest})")
