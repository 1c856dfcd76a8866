"""The attacks that The Update Framework's specification names, against a device that trusts a TUF repository; a test for each.

The repository's clock is the test's: what is signed for a day, yesterday, has expired.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mirror import NAME, Shop, drip, endless, nothing_runs, runs  # type: ignore[import-not-found]

from accordion.device import Model, Request, fetch, upgrade, verify_model
from accordion.errors import ContentError, SignatureError, StorageError, TransferError, UnmeetableError, UsageError
from accordion.trust import Trust
from accordion.trust.keys import ED25519, PrivateKey, make_key
from accordion.trust.rules import REFUSE, RUN, Repository, Rules
from accordion.trust.tuf_repository import EXPIRES_S, ROLES, TufRepository

NOW = datetime.now(UTC)
Changed = Callable[[dict[str, Any]], None]


class Source:
    """A repository, its keys, and where the shop's server shows it."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self.shop, self.folder = shop, folder / "tuf"
        self.keys = {role: [make_key(ED25519)] for role in ROLES}
        self.repository = TufRepository.create(self.folder, self.keys, {}, {})
        self.trust_file = folder / "trust.json"

    def at(self, when: datetime) -> TufRepository:
        """The repository, signing as if it were then."""
        return TufRepository(self.folder, [key for keys in self.keys.values() for key in keys], when)

    def add(self, **tags: str) -> None:
        """Lets tags mean versions of the package, and shows it."""
        listed = {}
        for tag, version in tags.items():
            manifest = self.shop.layout.manifest(version)
            listed[f"{NAME}/{tag}"] = (manifest.digest, manifest.size)
            self.shop.name(version, tag)
        self.repository.add(listed)
        self.show()

    def show(self) -> None:
        self.shop.publish()
        shutil.copytree(self.folder, self.shop.static / "tuf", dirs_exist_ok=True)

    def trust(self, after_expiry: str = RUN) -> Trust:
        made = Trust(self.trust_file, Rules())
        root = (self.folder / "1.root.json").read_text()
        made.add_repository([NAME], Repository(f"{self.shop.url}/tuf", root, after_expiry))
        made.save()
        return Trust.open(made.path)

    def lie(self, name: str, answer: bytes | Callable[[Any], None]) -> None:
        self.shop.answers[f"/tuf/{name}"] = answer

    def file(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def latest(self, role: str) -> str:
        return max((path.name for path in self.folder.glob(f"*.{role}.json")), key=lambda name: int(name.split(".")[0]))


@pytest.fixture
def source(shop: Shop, tmp_path: Path) -> Source:
    return Source(shop, tmp_path)


def test_the_honest_case(source: Source, tmp_path: Path) -> None:
    source.add(v1="v1", latest="v2")
    trust = source.trust()
    fetch(source.shop.source, tmp_path / "m", trust=trust)
    runs(tmp_path / "m", trust, "v2")
    fetch(f"{source.shop.source}:v1", tmp_path / "old", trust=trust)
    runs(tmp_path / "old", trust, "v1")
    assert verify_model(tmp_path / "m", trust=trust) == []


def test_arbitrary_installation(source: Source, tmp_path: Path) -> None:
    """The endpoint shows a manifest that the repository does not list."""
    source.add(v1="v1")
    source.shop.lie("manifests/v1", source.shop.file("manifests/v2"))
    trust = source.trust()
    with pytest.raises(SignatureError, match="lists another manifest"):
        fetch(f"{source.shop.source}:v1", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)


def test_arbitrary_installation_by_a_list_that_nobody_signed(source: Source, tmp_path: Path) -> None:
    source.add(v1="v1")
    name = source.latest("targets")
    value = json.loads(source.file(name))
    row = value["signed"]["targets"][f"{NAME}/v1"]
    v2 = source.shop.layout.manifest("v2")
    row |= {"length": v2.size, "hashes": {"sha256": v2.digest.removeprefix("sha256:")}}
    source.lie(name, json.dumps(value).encode())
    source.shop.lie("manifests/v1", source.shop.file("manifests/v2"))
    trust = source.trust()
    with pytest.raises(SignatureError, match="not signed by enough"):
        fetch(f"{source.shop.source}:v1", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)


def test_a_malicious_mirror_that_withholds_the_repository(source: Source, tmp_path: Path) -> None:
    source.add(v1="v1")
    trust = source.trust()
    source.lie("timestamp.json", lambda handler: handler.send_error(503))
    with pytest.raises(TransferError, match="503"):
        fetch(f"{source.shop.source}:v1", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)
    source.shop.answers.clear()
    fetch(f"{source.shop.source}:v1", tmp_path / "m", trust=trust)
    runs(tmp_path / "m", trust, "v1")


@pytest.mark.parametrize("name", ["timestamp.json", "2.root.json", "2.snapshot.json", "2.targets.json"])
def test_endless_data(name: str, source: Source, tmp_path: Path) -> None:
    source.add(v1="v1")
    source.lie(name, endless)
    trust = source.trust()
    with pytest.raises(SignatureError, match="sends more than it may"):
        fetch(f"{source.shop.source}:v1", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)


def test_slow_retrieval(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that drip for ever end at a bound, or at the caller's own deadline where that is nearer."""
    source.add(v1="v1")
    source.lie("timestamp.json", drip)
    trust = source.trust()
    with pytest.raises(UnmeetableError, match="nothing was complete"):
        fetch(f"{source.shop.source}:v1", tmp_path / "m", Request(deadline_s=1.0), trust=trust)
    monkeypatch.setattr("accordion.device.delivery.CHECK_S", 0.7)
    with pytest.raises(TransferError, match="took more than"):
        fetch(f"{source.shop.source}:v1", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)


def test_another_process_that_asks_for_ever(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time keeps what the repository says; who waits for that waits no longer than for the repository itself."""
    source.add(v1="v1")
    trust = source.trust()
    fetch(f"{source.shop.source}:v1", tmp_path / "m", trust=trust)
    (lock,) = tmp_path.glob("trust.json.tuf/*/.lock")
    with monkeypatch.context() as patch, lock.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        patch.setattr("accordion.device.delivery.CHECK_S", 0.2)
        with pytest.raises(StorageError, match="another process"):
            fetch(f"{source.shop.source}:v1", tmp_path / "other", trust=trust)
    fetch(f"{source.shop.source}:v1", tmp_path / "other", trust=trust)


def test_rollback(source: Source, tmp_path: Path) -> None:
    """The repository as it was, every signature good and nothing expired, shown to a device that has seen the newer one."""
    source.add(stable="v1")
    shutil.copytree(source.folder, tmp_path / "before")
    old = source.shop.file("manifests/stable")
    trust = source.trust()
    fetch(f"{source.shop.source}:stable", tmp_path / "m", trust=trust)
    source.add(stable="v2")
    upgrade(tmp_path / "m", Request(reference="stable"), trust=trust)
    for path in (tmp_path / "before").glob("*.json"):
        source.lie(path.name, path.read_bytes())
    source.shop.lie("manifests/stable", old)
    for folder in ("m", "other"):
        with pytest.raises(SignatureError, match="older than before"):
            fetch(f"{source.shop.source}:stable", tmp_path / folder, trust=trust)
    runs(tmp_path / "m", trust, "v2")
    assert nothing_runs(tmp_path / "other", trust)


def test_rollback_by_the_endpoint_alone(source: Source, tmp_path: Path) -> None:
    source.add(latest="v1")
    old = source.shop.file("manifests/latest")
    trust = source.trust()
    source.add(latest="v2")
    source.shop.lie("manifests/latest", old)
    with pytest.raises(SignatureError, match="lists another manifest"):  # on the first contact too
        fetch(source.shop.source, tmp_path / "m", trust=trust)


def test_indefinite_freeze(source: Source, tmp_path: Path) -> None:
    """What is shown is genuine and was never older, only nothing new comes: at the latest after its expiry that is noticed."""
    source.add(v1="v1", v2="v2")
    trust = source.trust()
    with Model.open(_whole(f"{source.shop.source}:v1", tmp_path / "plain")) as plain:
        small = plain.ladder.configurations[0].bytes
    assert fetch(f"{source.shop.source}:v1", tmp_path / "m", Request(max_bytes=small), trust=trust).configuration == 0
    source.at(NOW - timedelta(seconds=EXPIRES_S["timestamp"] + 60)).renew()
    source.show()
    for tag, folder in (("v1", "m"), ("v2", "m"), ("v2", "new")):
        with pytest.raises(SignatureError, match="has expired"):
            fetch(f"{source.shop.source}:{tag}", tmp_path / folder, trust=trust)
    assert nothing_runs(tmp_path / "new", trust)
    runs(tmp_path / "m", trust, "v1")  # what is installed goes on, and grows: its manifest names all of it
    assert upgrade(tmp_path / "m", trust=trust).configuration == 2
    runs(tmp_path / "m", trust, "v1")
    source.at(NOW).renew()
    source.show()
    fetch(f"{source.shop.source}:v2", tmp_path / "m", trust=trust)
    runs(tmp_path / "m", trust, "v2")


def _whole(source: str, folder: Path) -> Path:
    fetch(source, folder)
    return folder


@pytest.mark.parametrize("role", ["root", "targets", "snapshot"])
def test_freeze_of_a_single_role(role: str, source: Source, tmp_path: Path) -> None:
    source.add(v1="v1")
    then = source.at(NOW - timedelta(seconds=EXPIRES_S[role] + 60))
    # The timestamp says how fresh the rest is; it is renewed as it should be.
    then.renew([role])
    source.at(NOW).renew()
    source.show()
    with pytest.raises(SignatureError, match="has expired"):
        fetch(f"{source.shop.source}:v1", tmp_path / "m", trust=source.trust())


def test_offline_past_expiry_runs_with_a_warning_or_not_at_all(source: Source, tmp_path: Path) -> None:
    source.add(v1="v1")
    trust = source.trust()
    fetch(f"{source.shop.source}:v1", tmp_path / "m", trust=trust)
    with Model.open(tmp_path / "m", trust=trust) as model:
        assert model.warnings == ()
    # Time passes: what the device heard last is put into the past, signed as it was then.
    source.at(NOW - timedelta(seconds=EXPIRES_S["timestamp"] + 60)).renew()
    (heard,) = source.trust_file.parent.glob("trust.json.tuf/*/timestamp.json")
    heard.write_bytes(source.file("timestamp.json"))
    source.shop.url = "http://127.0.0.1:1"
    with Model.open(tmp_path / "m", trust=trust) as model:
        assert "has expired" in model.warnings[0]
    runs(tmp_path / "m", trust, "v1")
    strict = Trust.open(source.trust_file)
    (rule,) = strict.rules.rules
    assert rule.repository is not None
    strict.rules = Rules().with_repository(NAME, Repository(rule.repository.url, rule.repository.root, REFUSE))
    with pytest.raises(SignatureError, match="runs nothing that has"):
        runs(tmp_path / "m", strict, "v1")


def test_mix_and_match(source: Source, tmp_path: Path) -> None:
    """Lists of different times, each well signed, shown together."""
    source.add(v1="v1")
    old = source.latest("targets")
    source.add(v1="v2")
    source.lie(source.latest("targets"), source.file(old))
    source.shop.lie("manifests/v1", source.shop.file(f"manifests/{source.shop.digest('v1')}"))
    trust = source.trust()
    with pytest.raises(SignatureError, match="mixes versions"):
        fetch(f"{source.shop.source}:v1", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)


def test_fast_forward_is_undone_by_new_keys(source: Source, tmp_path: Path) -> None:
    """A stolen timestamp key claims versions far ahead; after new keys the device believes the smaller ones again."""
    source.add(v1="v1")
    trust = source.trust()
    honest = source.file("timestamp.json")
    from tuf.api.metadata import Metadata

    stamp = Metadata.from_bytes(honest)
    stamp.signed.version = 2**31
    from securesystemslib.signer import CryptoSigner

    stamp.sign(CryptoSigner(source.keys["timestamp"][0].crypto))
    source.lie("timestamp.json", stamp.to_bytes())
    fetch(f"{source.shop.source}:v1", tmp_path / "m", trust=trust)
    source.shop.answers.clear()
    with pytest.raises(SignatureError, match="older than before"):
        fetch(f"{source.shop.source}:v1", tmp_path / "m", trust=trust)
    source.at(NOW).change_keys("timestamp", [make_key(ED25519)])
    source.show()
    fetch(f"{source.shop.source}:v1", tmp_path / "m", trust=trust)
    runs(tmp_path / "m", trust, "v1")


def test_wrong_software(source: Source, tmp_path: Path) -> None:
    """Listed, but as something else than what was asked for."""
    source.add(v1="v1", v2="v2")
    v1 = source.shop.layout.manifest("v1")
    source.repository.add({"other/latest": (v1.digest, v1.size)})
    source.show()
    trust = source.trust()
    source.shop.lie("manifests/v2", source.shop.file("manifests/v1"))
    with pytest.raises(SignatureError, match="lists another manifest"):
        fetch(f"{source.shop.source}:v2", tmp_path / "m", trust=trust)
    source.repository.remove(f"{NAME}/v1")
    source.repository.remove(f"{NAME}/v2")
    source.show()
    with pytest.raises(SignatureError, match="lists no such version"):
        fetch(f"{source.shop.source}@{v1.digest}", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)


def test_extraneous_dependencies(source: Source, tmp_path: Path) -> None:
    """The list names manifests and nothing else; a manifest names every byte that its version needs. More is never read."""
    source.add(v1="v1")
    trust = source.trust()
    fetch(f"{source.shop.source}:v1", tmp_path / "m", trust=trust)
    state = json.loads((tmp_path / "m" / "state.json").read_text())
    path, entry = next((path, entry) for path, entry in state["files"].items() if path.endswith(".onnx"))
    (tmp_path / "m" / "extra.onnx").write_bytes((tmp_path / "m" / path).read_bytes())
    state["files"]["extra.onnx"] = entry
    (tmp_path / "m" / "state.json").write_text(json.dumps(state))
    with pytest.raises(ContentError, match="not what was signed"):
        runs(tmp_path / "m", trust, "v1")
    asked = {path for path in source.shop.asked if path.startswith("/tuf/")}
    assert asked == {"/tuf/2.root.json", "/tuf/timestamp.json", "/tuf/2.snapshot.json", "/tuf/2.targets.json"}


def test_key_compromise_below_a_threshold(shop: Shop, tmp_path: Path) -> None:
    """Two have to sign lists; who has one of the keys can list nothing."""
    source = Source(shop, tmp_path / "first")
    keys = {role: [make_key(ED25519) for _ in range(2 if role == "targets" else 1)] for role in ROLES}
    source.folder = tmp_path / "two"
    source.keys = keys
    source.repository = TufRepository.create(source.folder, keys, {"targets": 2}, {})
    source.add(v1="v1")
    trust = source.trust()
    stolen = [keys["targets"][0], keys["snapshot"][0], keys["timestamp"][0]]
    with pytest.raises(UsageError, match="targets needs 2 of its 2 keys; 1 are at hand"):
        TufRepository(source.folder, stolen).add({f"{NAME}/v1": ("sha256:" + "1" * 64, 1)})
    # The attacker writes the list by other means, with what signatures there are.
    from tuf.api.metadata import Metadata

    name = source.latest("targets")
    listed = Metadata.from_bytes(source.file(name))
    del listed.signatures[list(listed.signatures)[1]]
    source.lie(name, listed.to_bytes())
    with pytest.raises(SignatureError, match="not signed by enough"):
        fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)


def test_key_compromise_ends_with_new_keys(source: Source, tmp_path: Path) -> None:
    """After the rotation, what the stolen key signs is worth nothing, and what it alone has signed runs no longer."""
    source.add(v1="v1", v2="v2")
    trust = source.trust()
    fetch(f"{source.shop.source}:v1", tmp_path / "m", trust=trust)
    stolen = source.keys["targets"][0]
    source.at(NOW).change_keys("targets", [make_key(ED25519)])
    source.show()
    fetch(f"{source.shop.source}:v2", tmp_path / "new", trust=trust)
    runs(tmp_path / "new", trust, "v2")
    with pytest.raises(SignatureError, match="not signed by enough"):
        runs(tmp_path / "m", trust, "v1")
    upgrade(tmp_path / "m", trust=trust)  # the new keys vouch for the same version
    runs(tmp_path / "m", trust, "v1")
    rest = [key for role, keys in source.keys.items() if role != "targets" for key in keys]
    with pytest.raises(UsageError, match="0 are at hand"):
        TufRepository(source.folder, [stolen, *rest]).add({f"{NAME}/v1": ("sha256:" + "1" * 64, 1)})


def test_new_root_keys_are_believed_when_the_old_ones_say_so(source: Source, tmp_path: Path) -> None:
    source.add(v1="v1")
    trust = source.trust()
    first: PrivateKey = source.keys["root"][0]
    for _ in range(2):
        fresh = [make_key(ED25519)]
        source.at(NOW).change_keys("root", fresh)
        source.keys["root"] = fresh
    source.show()
    fetch(f"{source.shop.source}:v1", tmp_path / "m", trust=trust)
    runs(tmp_path / "m", trust, "v1")
    # Whoever has the first root's key can't make another third root.
    source.keys["root"] = [first]
    with pytest.raises(UsageError, match="0 are at hand"):
        source.at(NOW).change_keys("root", [make_key(ED25519)])
    other = Source(source.shop, tmp_path / "other")
    other.at(NOW).renew(["root"])
    source.lie("4.root.json", other.file("2.root.json"))
    with pytest.raises(SignatureError):
        fetch(f"{source.shop.source}:v1", tmp_path / "n", trust=trust)
    assert nothing_runs(tmp_path / "n", trust)
