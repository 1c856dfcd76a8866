"""A TUF repository over manifests, kept as a folder of plain files: made, added to, renewed, and its keys changed.

Targets are paths NAME/TAG with the manifest's digest and length. The metadata is all there is: any file server can carry it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from accordion.artifact.atomic import write_file
from accordion.artifact.bounded import read_file
from accordion.errors import FormatError, StorageError, UsageError
from accordion.trust.files import locked
from accordion.trust.keys import PrivateKey, needs
from accordion.trust.metadata import METADATA_LIMIT, ROLES, TIMESTAMP, is_metadata

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root

__all__ = ["EXPIRES_S", "ROLES", "TufRepository"]

DAY_S = 86_400
# For how long each role speaks: who signs rarely, with keys kept far away, for long; the timestamp shows that the rest is fresh.
EXPIRES_S: Mapping[str, int] = {"root": 365 * DAY_S, "targets": 365 * DAY_S, "snapshot": 30 * DAY_S, "timestamp": 7 * DAY_S}
PERIOD = "x-accordion-expires-s"  # in each role's metadata: for how long it is signed again


class TufRepository:
    """A folder of metadata, and the private keys that are at hand. Each change is signed and written whole, the timestamp last."""

    def __init__(self, folder: Path, keys: Iterable[PrivateKey], now: datetime | None = None) -> None:
        try:
            from securesystemslib.signer import CryptoSigner
        except ModuleNotFoundError as error:
            raise needs(error, "tuf") from error
        self.folder = folder
        self.now = (now or datetime.now(UTC)).replace(microsecond=0)
        self._signers = {signer.public_key.keyid: signer for signer in (CryptoSigner(key.crypto) for key in keys)}

    @classmethod
    def create(
        cls,
        folder: Path,
        keys: Mapping[str, Sequence[PrivateKey]],
        thresholds: Mapping[str, int],
        expires_s: Mapping[str, int],
        now: datetime | None = None,
    ) -> TufRepository:
        """A new repository; each role has its own keys. UsageError where there is one, or a threshold can't be reached."""
        made = cls(folder, [key for some in keys.values() for key in some], now)
        from securesystemslib.signer import CryptoSigner
        from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty: name a new folder for the repository")
        root = Root(consistent_snapshot=True)
        for role in ROLES:
            threshold = thresholds.get(role, 1)
            if not 1 <= threshold <= len(keys[role]):
                raise UsageError(f"{role}: {threshold} of {len(keys[role])} keys can't sign")
            for key in keys[role]:
                root.add_key(CryptoSigner(key.crypto).public_key, role)
            root.roles[role].threshold = threshold
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"can't make {folder}: {error.strerror or error}") from error
        signed: dict[str, Any] = {
            "root": root,
            "targets": Targets(),
            "snapshot": Snapshot(meta={"targets.json": MetaFile(1)}),
            "timestamp": Timestamp(snapshot_meta=MetaFile(1)),
        }
        for role in ("root", "targets", "snapshot", "timestamp"):
            signed[role].unrecognized_fields[PERIOD] = expires_s.get(role, EXPIRES_S[role])
            made._write(role, Metadata(signed[role]), root)
        return made

    def targets(self) -> dict[str, str]:
        """What is listed: path → digest."""
        return {path: "sha256:" + str(target.hashes["sha256"]) for path, target in self._read("targets").signed.targets.items()}

    def expires(self) -> dict[str, str]:
        """Until when each role's word holds, as text (UTC)."""
        return {role: f"{self._read(role).signed.expires:%Y-%m-%dT%H:%M:%SZ}" for role in ROLES}

    def keys_of(self, role: str) -> tuple[int, int]:
        """How many keys of a role have to sign, and how many there are."""
        found = self._read("root").signed.roles[role]
        return found.threshold, len(found.keyids)

    def add(self, listed: Mapping[str, tuple[str, int]]) -> None:
        """Lists manifests: path (NAME/TAG) → digest and size in bytes. A path that is there means the new one from now on."""
        from tuf.api.metadata import TargetFile

        with self._changing():
            targets = self._read("targets")
            for path, (digest, size) in listed.items():
                targets.signed.targets[path] = TargetFile(size, {"sha256": digest.removeprefix("sha256:")}, path)
            self._next("targets", targets)
            self._publish()

    def remove(self, path: str) -> None:
        """Lists a path no longer. UsageError where it was not."""
        with self._changing():
            targets = self._read("targets")
            if targets.signed.targets.pop(path, None) is None:
                raise UsageError(f"{self.folder} does not list {path}")
            self._next("targets", targets)
            self._publish()

    def renew(self, roles: Sequence[str] = ("timestamp",)) -> None:
        """Signs roles again, so that they speak for another while. What they say stays the same."""
        with self._changing():
            for role in ("root", "targets", "snapshot"):
                if role in roles:
                    self._next(role, self._read(role))
            self._publish(snapshot="targets" in roles or "snapshot" in roles)

    def change_keys(self, role: str, keys: Sequence[PrivateKey], threshold: int | None = None) -> None:
        """These keys, and no others, sign a role from now on. The root's own change is signed by the old keys and the new ones."""
        from securesystemslib.signer import CryptoSigner

        with self._changing():
            metadata = cast("Metadata[Root]", self._read("root"))
            root, old = metadata.signed, cast("Metadata[Root]", self._read("root")).signed
            wanted = threshold or root.roles[role].threshold
            if wanted > len(keys):
                raise UsageError(f"{role}: {wanted} of {len(keys)} keys can't sign")
            for keyid in list(root.roles[role].keyids):
                root.revoke_key(keyid, role)
            for key in keys:
                signer = CryptoSigner(key.crypto)
                self._signers[signer.public_key.keyid] = signer
                root.add_key(signer.public_key, role)
            root.roles[role].threshold = wanted
            root.version += 1
            self._write("root", metadata, root, old)
            if role in ("targets", "snapshot"):
                self._next(role, self._read(role))
            self._publish(snapshot=role in ("targets", "snapshot"))

    def _publish(self, *, snapshot: bool = True) -> None:
        """A snapshot of what is there, if it changed, and a timestamp of that."""
        from tuf.api.metadata import MetaFile

        if snapshot:
            made = self._read("snapshot")
            made.signed.meta["targets.json"] = MetaFile(self._read("targets").signed.version)
            self._next("snapshot", made)
        stamp = self._read("timestamp")
        stamp.signed.snapshot_meta = MetaFile(self._read("snapshot").signed.version)
        self._next("timestamp", stamp)

    def _next(self, role: str, metadata: Any) -> None:
        metadata.signed.version += 1
        root = metadata.signed if role == "root" else self._read("root").signed
        old = self._read("root").signed if role == "root" else None
        self._write(role, metadata, root, old)

    def _write(self, role: str, metadata: Any, root: Root, old: Root | None = None) -> None:
        """Signs with every key of the role that is at hand, and writes. UsageError if that is not enough of them."""
        from tuf.api.exceptions import UnsignedMetadataError

        signed = metadata.signed
        signed.expires = self.now + timedelta(seconds=int(signed.unrecognized_fields.get(PERIOD, EXPIRES_S[role])))
        metadata.signatures.clear()
        keyids = dict.fromkeys([*root.roles[role].keyids, *(old.roles[role].keyids if old is not None else [])])
        for keyid in keyids:
            if keyid in self._signers:
                metadata.sign(self._signers[keyid], append=True)
        for judge in (root, *([old] if old is not None else [])):
            try:
                judge.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
            except UnsignedMetadataError as error:
                wanted = judge.roles[role]
                have = sum(keyid in self._signers for keyid in wanted.keyids)
                raise UsageError(f"{role} needs {wanted.threshold} of its {len(wanted.keyids)} keys; {have} are at hand") from error
        name = TIMESTAMP if role == "timestamp" else f"{signed.version}.{role}.json"
        write_file(self.folder / name, metadata.to_bytes())

    def _read(self, role: str) -> Any:
        from tuf.api.exceptions import RepositoryError
        from tuf.api.metadata import Metadata

        path = self.folder / TIMESTAMP
        if role != "timestamp":
            versions = [int(one.name.split(".")[0]) for one in self.folder.glob(f"*.{role}.json") if is_metadata(one.name)]
            if not versions:
                raise UsageError(f"{self.folder} is no repository: it has no {role}.json (`accordion tuf init` makes one)")
            path = self.folder / f"{max(versions)}.{role}.json"
        try:
            return Metadata.from_bytes(read_file(path, METADATA_LIMIT))
        except RepositoryError as error:
            raise FormatError(f"{path} is broken: {error}") from error

    def _changing(self) -> Any:
        if not self.folder.is_dir():
            raise UsageError(f"there is no folder {self.folder}")
        return locked(self.folder / ".lock")
