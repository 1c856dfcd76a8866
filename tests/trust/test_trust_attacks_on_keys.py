"""The attacks that The Update Framework's specification names, against a device that trusts plain keys; a test for each.

Indefinite freeze is not here: a signature does not expire. It is in `test_trust_attacks_on_tuf.py`, and so are all others again.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from mirror import NAME, Shop, drip, endless, nothing_runs, runs  # type: ignore[import-not-found]

from accordion.artifact.digest import sha256_digest
from accordion.artifact.layout import signature_tag
from accordion.device import Request, fetch, upgrade, verify_model
from accordion.errors import ContentError, DigestError, SignatureError, TransferError, UnmeetableError
from accordion.trust import PROOF, Trust
from accordion.trust.keys import PrivateKey
from accordion.trust.signature import Signed
from accordion.trust.statement import Statement


def signature_path(shop: Shop, tag: str) -> str:
    return f"manifests/{signature_tag(shop.digest(tag))}"


def signed(key: PrivateKey, digest: str, sequence: int) -> Signed:
    payload = Statement(digest, NAME, (), sequence).to_bytes(1_700_000_000)
    return Signed(payload, key.sign(payload))


def test_the_honest_case(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    shop.sign("v1", maker)
    shop.publish()
    fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    runs(tmp_path / "m", trust, "v1")
    assert verify_model(tmp_path / "m", trust=trust) == []


def test_arbitrary_installation_unsigned(shop: Shop, trust: Trust, tmp_path: Path) -> None:
    shop.publish()
    with pytest.raises(SignatureError, match="is not signed"):
        fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)


def test_arbitrary_installation_signed_by_a_stranger(shop: Shop, trust: Trust, stranger: PrivateKey, tmp_path: Path) -> None:
    shop.sign("v1", stranger)
    shop.publish()
    with pytest.raises(SignatureError, match="none of the keys"):
        fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)


def test_arbitrary_installation_with_a_signature_that_was_changed(
    shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path
) -> None:
    """The statement is the attacker's, the signature the maker's over another."""
    shop.sign("v1", maker)
    shop.publish()
    good = json.loads(shop.file(signature_path(shop, "v1")))
    row = good["layers"][0]
    payload = base64.b64decode(row["data"]).replace(shop.digest("v1").encode(), shop.digest("v2").encode())
    row |= {"data": base64.b64encode(payload).decode(), "digest": sha256_digest(payload)}
    shop.lie(signature_path(shop, "v2"), json.dumps(good).encode())
    with pytest.raises(SignatureError, match="none of the keys"):
        fetch(f"{shop.source}:v2", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)


def test_arbitrary_installation_of_layers_behind_a_signed_manifest(
    shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path
) -> None:
    shop.sign("v1", maker)
    shop.publish()
    manifest = shop.layout.manifest("v1")
    needed = shop.layout.ladder(manifest).configurations[-1].layers
    last = manifest.layers[needed - 1]
    for path, at in (
        (f"_accordion/stream/{manifest.digest}", manifest.offsets[needed] - 20),
        (f"blobs/{last.digest}", last.size - 20),  # this mirror knows no ranges, so a device asks for what it needs one by one
    ):
        content = bytearray(shop.file(path))
        content[at] ^= 1
        shop.lie(path, bytes(content))
    with pytest.raises(DigestError, match="corrupt"):
        fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)


def test_a_malicious_mirror_that_withholds_the_signature(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    shop.sign("v1", maker)
    shop.publish()
    shop.lie(signature_path(shop, "v1"), lambda handler: handler.send_error(404))
    with pytest.raises(SignatureError, match="is not signed"):
        fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)
    shop.answers.clear()
    fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    runs(tmp_path / "m", trust, "v1")


def test_endless_data(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    shop.sign("v1", maker)
    shop.publish()
    shop.lie(signature_path(shop, "v1"), endless)
    with pytest.raises(ContentError, match="more than"):
        fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    assert sum(path.stat().st_size for path in tmp_path.glob("m/**/*") if path.is_file()) < 2**20


def test_slow_retrieval(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that drip for ever end at a bound, or at the caller's own deadline where that is nearer."""
    shop.sign("v1", maker)
    shop.publish()
    shop.lie(signature_path(shop, "v1"), drip)
    with pytest.raises(UnmeetableError, match="nothing was complete"):
        fetch(f"{shop.source}:v1", tmp_path / "m", Request(deadline_s=1.0), trust=trust)
    monkeypatch.setattr("accordion.device.delivery.CHECK_S", 0.5)
    with pytest.raises(TransferError, match="did not send the signature"):
        fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)


def test_rollback_to_a_version_that_was_signed_before(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    """The attacker has every old manifest with its good signature, and shows them again."""
    shop.name("v1", "stable")
    shop.sign("v1", maker, 1, tags=("stable", "v1"))
    shop.publish()
    fetch(f"{shop.source}:stable", tmp_path / "m", trust=trust)
    old = shop.file("manifests/stable")
    shop.name("v2", "stable")
    shop.sign("v2", maker, 2, tags=("stable", "v2"))
    shop.publish()
    upgrade(tmp_path / "m", Request(reference="stable"), trust=trust)
    runs(tmp_path / "m", trust, "v2")
    shop.lie("manifests/stable", old)
    for folder in ("m", "other"):
        with pytest.raises(SignatureError, match="older"):
            fetch(f"{shop.source}:stable", tmp_path / folder, trust=trust)
    runs(tmp_path / "m", trust, "v2")
    assert nothing_runs(tmp_path / "other", trust)
    # What is asked for by its own name is no rollback.
    fetch(f"{shop.source}:v1", tmp_path / "v1", trust=trust)
    fetch(f"{shop.source}@{shop.digest('v1')}", tmp_path / "exact", trust=trust)
    runs(tmp_path / "exact", trust, "v1")


def test_rollback_without_a_tag(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    shop.name("v2", "latest")
    shop.sign("v1", maker, 1)
    shop.sign("v2", maker, 2)
    shop.publish()
    fetch(shop.source, tmp_path / "m", trust=trust)
    shop.lie("manifests/latest", shop.file("manifests/v1"))
    with pytest.raises(SignatureError, match="older"):
        fetch(shop.source, tmp_path / "m", trust=trust)
    runs(tmp_path / "m", trust, "v2")


def test_mix_and_match_of_a_signature_and_another_manifest(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    shop.sign("v1", maker)
    shop.publish()
    shop.lie(signature_path(shop, "v2"), shop.file(signature_path(shop, "v1")))
    with pytest.raises(SignatureError, match="for another manifest"):
        fetch(f"{shop.source}:v2", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)


def test_mix_and_match_of_tags(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    """Both are well signed; which is which is signed too."""
    shop.sign("v1", maker, tags=("v1",))
    shop.sign("v2", maker, tags=("v2",))
    shop.publish()
    shop.lie("manifests/v2", shop.file("manifests/v1"))
    with pytest.raises(SignatureError, match="for the tags v1, not for v2"):
        fetch(f"{shop.source}:v2", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)


def test_mix_and_match_of_tags_where_none_is_named(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    """No tag means `latest`: a mirror can't hand out whatever else was signed, a trial version say."""
    shop.name("v1", "latest")
    shop.sign("v1", maker, tags=("v1", "latest"))
    shop.sign("v2", maker, 2, tags=("v2",))
    shop.publish()
    fetch(shop.source, tmp_path / "m", trust=trust)
    runs(tmp_path / "m", trust, "v1")
    shop.lie("manifests/latest", shop.file("manifests/v2"))
    with pytest.raises(SignatureError, match="for the tags v2, not for latest, which is what no tag means too"):
        fetch(shop.source, tmp_path / "other", trust=trust)
    assert nothing_runs(tmp_path / "other", trust)


def test_mix_and_match_of_two_versions_in_one_folder(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    """A signed manifest, and a file of another version under its path: `state.json` agrees, the signature does not."""
    for tag in ("v1", "v2"):
        shop.sign(tag, maker)
    shop.publish()
    for tag in ("v1", "v2"):
        fetch(f"{shop.source}:{tag}", tmp_path / tag, trust=trust)
    ours, theirs = (json.loads((tmp_path / tag / "state.json").read_text()) for tag in ("v1", "v2"))
    name = next(path for path, entry in ours["files"].items() if path.endswith(".safetensors") and entry != theirs["files"][path])
    (tmp_path / "v1" / name).write_bytes((tmp_path / "v2" / name).read_bytes())
    ours["files"][name] |= {key: theirs["files"][name][key] for key in ("size", "sha256")}
    (tmp_path / "v1" / "state.json").write_text(json.dumps(ours))
    with pytest.raises(DigestError, match="not what was signed"):
        runs(tmp_path / "v1", trust, "v1")
    assert any("not what was signed" in problem for problem in verify_model(tmp_path / "v1", trust=trust))
    fetch(f"{shop.source}:v1", tmp_path / "v1", trust=trust)
    runs(tmp_path / "v1", trust, "v1")


def test_fast_forward_is_undone_when_the_key_goes(
    shop: Shop, trust: Trust, maker: PrivateKey, second: PrivateKey, tmp_path: Path
) -> None:
    """A stolen key claims to be newer than all that will ever be. With the key, what was seen of it goes."""
    shop.sign("v2", maker, 2**53)
    shop.publish()
    fetch(f"{shop.source}:v2", tmp_path / "m", trust=trust)
    shop.sign("v2", maker, 2)
    shop.publish()
    with pytest.raises(SignatureError, match="older"):
        fetch(f"{shop.source}:v2", tmp_path / "m", trust=trust)
    trust.add_keys([NAME], [second.public.pem.encode()], None)
    trust.rules = trust.rules.without(maker.public.fingerprint)
    shop.sign("v2", second, 3)
    shop.publish()
    fetch(f"{shop.source}:v2", tmp_path / "m", trust=trust)
    runs(tmp_path / "m", trust, "v2")


def test_fast_forward_by_one_of_two_keys_is_no_news(
    shop: Shop, trust: Trust, maker: PrivateKey, second: PrivateKey, tmp_path: Path
) -> None:
    trust.add_keys([NAME], [second.public.pem.encode()], 2)
    shop.sign("v1", maker, 2**53)
    shop.sign("v1", second, 5)
    shop.publish()
    fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    shop.sign("v1", maker, 6)
    shop.sign("v1", second, 6)
    shop.publish()
    fetch(f"{shop.source}:v1", tmp_path / "again", trust=trust)
    runs(tmp_path / "again", trust, "v1")


def test_rollback_below_what_two_keys_have_vouched_for_in_different_words(
    trust: Trust, maker: PrivateKey, second: PrivateKey
) -> None:
    """One says 5, the other 6: enough of them vouch for 5, and what both call 3 is older."""
    trust.add_keys([NAME], [second.public.pem.encode()], 2)
    new, old = sha256_digest(b"new"), sha256_digest(b"old")
    trust.admit(NAME, "stable", new, 3, [signed(maker, new, 5), signed(second, new, 6)])
    with pytest.raises(SignatureError, match=r"older \(sequence 3\) .* \(5\)"):
        trust.admit(NAME, "stable", old, 3, [signed(maker, old, 3), signed(second, old, 3)])
    trust.admit(NAME, "stable", new, 3, [signed(maker, new, 5), signed(second, new, 6)])


@pytest.mark.parametrize("sequences", [(1, 9), (9, 1)])
def test_rollback_below_the_newest_of_several_statements_by_one_key(
    trust: Trust, maker: PrivateKey, sequences: tuple[int, int]
) -> None:
    """A mirror chooses their order, and may leave the newest out later; that it was seen is remembered."""
    digest = sha256_digest(b"it")
    trust.admit(NAME, "stable", digest, 2, [signed(maker, digest, one) for one in sequences])
    for sequence in (1, 8):
        with pytest.raises(SignatureError, match=rf"older \(sequence {sequence}\) .* \(9\)"):
            trust.admit(NAME, "stable", digest, 2, [signed(maker, digest, sequence)])


def test_another_manifest_than_the_digest_asked_for(trust: Trust, maker: PrivateKey) -> None:
    """However well it is signed. Who asks for a digest has checked that already; whoever forgets to is told here."""
    asked, came = sha256_digest(b"asked"), sha256_digest(b"came")
    signatures = [signed(maker, came, 1)]
    trust.admit(NAME, came, came, 4, signatures)
    with pytest.raises(SignatureError, match=f"{came} came where {asked} was asked for"):
        trust.admit(NAME, asked, came, 4, signatures)


def test_wrong_software(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    """Well signed, by the right key, for another name."""
    shop.sign("v1", maker, name="team/other")
    shop.publish()
    with pytest.raises(SignatureError, match="signed as 'team/other'"):
        fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)


def test_extraneous_dependencies(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    """A version needs nothing that its signed manifest does not name: what lies beside it is never read."""
    shop.sign("v1", maker)
    shop.publish()
    fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    state = json.loads((tmp_path / "m" / "state.json").read_text())
    path, entry = next((path, entry) for path, entry in state["files"].items() if path.endswith(".onnx"))
    (tmp_path / "m" / "extra.onnx").write_bytes((tmp_path / "m" / path).read_bytes())
    state["files"]["extra.onnx"] = entry
    (tmp_path / "m" / "state.json").write_text(json.dumps(state))
    with pytest.raises(DigestError, match="not what was signed"):
        runs(tmp_path / "m", trust, "v1")


def test_key_compromise_of_one_key_where_two_have_to_sign(
    shop: Shop, trust: Trust, maker: PrivateKey, second: PrivateKey, tmp_path: Path
) -> None:
    trust.add_keys([NAME], [second.public.pem.encode()], 2)
    shop.sign("v1", maker)
    shop.publish()
    with pytest.raises(SignatureError, match="1 of the 2 keys"):
        fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    assert nothing_runs(tmp_path / "m", trust)
    shop.sign("v1", second)
    shop.publish()
    fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    runs(tmp_path / "m", trust, "v1")


def test_key_compromise_ends_when_the_key_is_trusted_no_longer(
    shop: Shop, trust: Trust, maker: PrivateKey, second: PrivateKey, tmp_path: Path
) -> None:
    """What only the stolen key vouches for does not even run any more."""
    shop.sign("v1", maker)
    shop.publish()
    fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    trust.add_keys([NAME], [second.public.pem.encode()], None)
    trust.rules = trust.rules.without(maker.public.fingerprint[:16])
    with pytest.raises(SignatureError, match="none of the keys"):
        runs(tmp_path / "m", trust, "v1")
    with pytest.raises(SignatureError, match="none of the keys"):
        fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    shop.sign("v1", second)
    shop.publish()
    fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    runs(tmp_path / "m", trust, "v1")


def test_a_model_folder_whose_manifest_was_exchanged_for_an_unsigned_one(
    shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path
) -> None:
    """Offline: what is on the disk was changed, and all of it agrees with itself."""
    shop.sign("v1", maker)
    shop.publish()
    fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    fetch(f"{shop.source}:v2", tmp_path / "unsigned")
    (tmp_path / "unsigned" / PROOF).write_bytes((tmp_path / "m" / PROOF).read_bytes())
    assert nothing_runs(tmp_path / "unsigned", trust)
    (tmp_path / "unsigned" / PROOF).unlink()
    assert nothing_runs(tmp_path / "unsigned", trust)
    (tmp_path / "unsigned" / PROOF).write_bytes(b'{"schema_version": 1}')
    assert nothing_runs(tmp_path / "unsigned", trust)
    runs(tmp_path / "m", trust, "v1")
