"""A TUF repository over manifests, kept as a folder of plain files: made, added to, renewed, and its keys changed.

Targets are paths NAME/TAG with the manifest's digest and length. The metadata is all there is: any file server can carry it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from accordion.artifact.atomic import UNFINISHED, write_file
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
WRITTEN = ("targets", "snapshot", "root", "timestamp")  # in this order: devices follow no new snapshot before its timestamp
PERIOD = "x-accordion-expires-s"  # in each role's metadata: for how long it is signed again


class TufRepository:
    """A folder of metadata, and the private keys that are at hand.

    Each change is signed whole before anything is written, and the timestamp is written last: one that fails leaves nothing behind.
    """

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
        signed: dict[str, Any] = {
            "root": root,
            "targets": Targets(),
            "snapshot": Snapshot(meta={"targets.json": MetaFile(1)}),
            "timestamp": Timestamp(snapshot_meta=MetaFile(1)),
        }
        for role in ROLES:
            signed[role].unrecognized_fields[PERIOD] = expires_s.get(role, EXPIRES_S[role])
        files = dict(made._signed(role, Metadata(signed[role]), root) for role in WRITTEN)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"can't make {folder}: {error.strerror or error}") from error
        made._write(files)
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
            self._publish({"targets": targets})

    def remove(self, path: str) -> None:
        """Lists a path no longer. UsageError where it was not."""
        with self._changing():
            targets = self._read("targets")
            if targets.signed.targets.pop(path, None) is None:
                raise UsageError(f"{self.folder} does not list {path}")
            self._publish({"targets": targets})

    def renew(self, roles: Sequence[str] = ("timestamp",)) -> None:
        """Signs roles again, so that they speak for another while. What they say stays the same."""
        with self._changing():
            self._publish({role: self._read(role) for role in roles})

    def change_keys(self, role: str, keys: Sequence[PrivateKey], threshold: int | None = None) -> None:
        """These keys, and no others, sign a role from now on. The root's own change is signed by the old keys and the new ones."""
        from securesystemslib.signer import CryptoSigner

        with self._changing():
            metadata = cast("Metadata[Root]", self._read("root"))
            root = metadata.signed
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
            changed: dict[str, Any] = {"root": metadata}
            if role != "root":
                changed[role] = self._read(role)
            self._publish(changed)

    def _publish(self, changed: Mapping[str, Any]) -> None:
        """These roles anew, a snapshot if it has to follow, and a timestamp. All is signed before anything is written."""
        from tuf.api.metadata import MetaFile

        old = self._read("root").signed
        made = dict(changed)
        if "targets" in made:
            made.setdefault("snapshot", self._read("snapshot"))
        made.setdefault("timestamp", self._read("timestamp"))
        for metadata in made.values():
            metadata.signed.version += 1
        now = {role: made[role] if role in made else self._read(role) for role in ROLES}
        now["snapshot"].signed.meta["targets.json"] = MetaFile(now["targets"].signed.version)
        now["timestamp"].signed.snapshot_meta = MetaFile(now["snapshot"].signed.version)
        self._write(dict(self._signed(role, made[role], now["root"].signed, old) for role in WRITTEN if role in made))

    def _signed(self, role: str, metadata: Any, root: Root, old: Root | None = None) -> tuple[str, bytes]:
        """Signed with every key of the role that is at hand: the file's name and content. UsageError if that is not enough keys.

        `old` is the root before this one, whose keys have a say in the root, too.
        """
        from tuf.api.exceptions import UnsignedMetadataError

        signed = metadata.signed
        signed.expires = self.now + timedelta(seconds=int(signed.unrecognized_fields.get(PERIOD, EXPIRES_S[role])))
        metadata.signatures.clear()
        judges = [root, old] if role == "root" and old is not None else [root]
        for keyid in dict.fromkeys(keyid for judge in judges for keyid in judge.roles[role].keyids):
            if keyid in self._signers:
                metadata.sign(self._signers[keyid], append=True)
        for judge in judges:
            try:
                judge.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
            except UnsignedMetadataError as error:
                wanted = judge.roles[role]
                have = sum(keyid in self._signers for keyid in wanted.keyids)
                raise UsageError(f"{role} needs {wanted.threshold} of its {len(wanted.keyids)} keys; {have} are at hand") from error
        return TIMESTAMP if role == "timestamp" else f"{signed.version}.{role}.json", metadata.to_bytes()

    def _write(self, files: Mapping[str, bytes]) -> None:
        """All of these files under their names, in this order, or none of them. StorageError from the disk.

        A full disk shows while they lie under other names. All but the timestamp have new names, so taking them away undoes it.
        """
        begun = {self.folder / f"{UNFINISHED}{name}": self.folder / name for name in files}
        there = []
        try:
            for unfinished, data in zip(begun, files.values(), strict=True):
                write_file(unfinished, data)
            for unfinished, path in begun.items():
                unfinished.replace(path)
                there.append(path)
        except BaseException as error:
            if len(there) < len(begun):
                for path in (*begun, *there):
                    path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise StorageError(f"can't write into {self.folder}: {error.strerror or error}") from error
            raise

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
