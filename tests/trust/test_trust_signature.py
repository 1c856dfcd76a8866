"""The signature artifact: cosign's form, checked by openssl; and signatures that openssl made, as cosign would, accepted here."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from mirror import NAME, Shop  # type: ignore[import-not-found]
from test_trust_keys import needs_openssl, verified_by_openssl  # type: ignore[import-not-found]

from accordion.artifact.digest import sha256_digest
from accordion.artifact.layout import Layout, signature_tag
from accordion.artifact.manifest import MANIFEST_LIMIT
from accordion.artifact.verify import verify_package
from accordion.endpoint import create_app
from accordion.errors import ContentError, DigestError, SignatureError
from accordion.trust import Trust, signature
from accordion.trust.keys import PrivateKey
from accordion.trust.signature import add_signature, parts_of, signatures_in
from accordion.trust.statement import Statement

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"


def artifact(layout: Layout, digest: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(layout.read_blob(layout.references()[signature_tag(digest)], limit=MANIFEST_LIMIT))
    return value


def test_two_who_sign_at_once_both_stand_in_the_package(
    shop: Shop, maker: PrivateKey, second: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, make, others = shop.layout.manifest("v1"), signature._manifest, []

    def meanwhile(*arguments: Any) -> bytes:
        """Another one signs between what this one has read and what it writes; or waits until it has."""
        if not others:
            signs = Statement(manifest.digest, NAME, ("v1",), 1)
            others.append(threading.Thread(target=add_signature, args=(Layout.open(shop.package), manifest, signs, second, 1)))
            others[0].start()
            others[0].join(1.0)
        return make(*arguments)

    monkeypatch.setattr(signature, "_manifest", meanwhile)
    add_signature(shop.layout, manifest, Statement(manifest.digest, NAME, ("v1",), 1), maker, 1)
    others[0].join()
    found = signatures_in(shop.layout, manifest.digest)
    for key in (maker, second):
        assert sum(key.public.verifies(one.signature, one.payload) for one in found) == 1


@needs_openssl
def test_openssl_verifies_what_stands_in_the_package(shop: Shop, maker: PrivateKey, second: PrivateKey, tmp_path: Path) -> None:
    shop.sign("v1", maker)
    shop.sign("v1", second)
    found = artifact(shop.layout, shop.digest("v1"))
    assert found["subject"]["digest"] == shop.digest("v1")
    assert found["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    assert [row["mediaType"] for row in found["layers"]] == [SIMPLE_SIGNING, SIMPLE_SIGNING]
    config = json.loads(shop.layout.blob_path(found["config"]["digest"]).read_bytes())
    assert config["rootfs"]["diff_ids"] == [row["digest"] for row in found["layers"]]
    for row, key in zip(found["layers"], (maker, second), strict=True):
        blob = shop.layout.blob_path(row["digest"])
        payload = json.loads(blob.read_bytes())
        assert payload["critical"] == {
            "identity": {"docker-reference": NAME},
            "image": {"docker-manifest-digest": shop.digest("v1")},
            "type": "cosign container image signature",
        }
        (tmp_path / "pub").write_text(key.public.pem)
        (tmp_path / "signature").write_bytes(base64.b64decode(row["annotations"]["dev.cosignproject.cosign/signature"]))
        assert verified_by_openssl(key.public.kind, tmp_path / "pub", tmp_path / "signature", blob)
    assert verify_package(shop.package) == []


@needs_openssl
def test_a_signature_made_elsewhere_in_cosigns_form_is_accepted(
    shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path
) -> None:
    """Nothing of ours signs here: payload, signature and manifest as cosign's specification has them."""
    manifest = shop.layout.manifest("v1")
    payload = (
        '{"critical":{"identity":{"docker-reference":"registry.example:5000/net"},"image":{"docker-manifest-digest":"'
        + manifest.digest
        + '"},"type":"cosign container image signature"},"optional":{"accordion.sequence":"7","accordion.tags":"v1,v9"}}'
    ).encode()
    (tmp_path / "key").write_bytes(maker.to_pem(None))
    signature = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", tmp_path / "key"], input=payload, capture_output=True, check=True
    ).stdout
    digest, size = shop.layout.write_blob(payload)
    config_digest, config_size = shop.layout.write_blob(b"{}")
    row = {
        "mediaType": SIMPLE_SIGNING,
        "digest": digest,
        "size": size,
        "annotations": {"dev.cosignproject.cosign/signature": base64.b64encode(signature).decode()},
    }
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config_size}
    shop.layout.add_manifest(
        signature_tag(manifest.digest), json.dumps({"schemaVersion": 2, "config": config, "layers": [row]}).encode()
    )
    signatures = signatures_in(shop.layout, manifest.digest)
    assert Statement.parse(signatures[0].payload) == Statement(manifest.digest, "registry.example:5000/net", ("v1", "v9"), 7)
    proof = trust.admit(NAME, "v1", manifest.digest, manifest.size, signatures)
    assert trust.vouch(NAME, manifest.digest, proof) == ()
    with pytest.raises(SignatureError, match="for the tags v1, v9"):
        trust.admit(NAME, "v2", manifest.digest, manifest.size, signatures)


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_copies_it_byte_for_byte(shop: Shop, maker: PrivateKey, tmp_path: Path) -> None:
    shop.sign("v1", maker)
    for tag in ("v1", signature_tag(shop.digest("v1"))):
        command = ["skopeo", "copy", f"oci:{shop.package}:{tag}", f"oci:{tmp_path / 'copy'}:{tag}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    copy = Layout.open(tmp_path / "copy")
    assert signatures_in(copy, shop.digest("v1")) == signatures_in(shop.layout, shop.digest("v1")) != []
    assert copy.references() == {tag: one for tag, one in shop.layout.references().items() if tag != "v2"}


def test_the_same_key_again_replaces_and_others_stay(shop: Shop, maker: PrivateKey, second: PrivateKey) -> None:
    for key, sequence in ((maker, 1), (second, 2), (maker, 3)):
        shop.sign("v1", key, sequence)
    found = [Statement.parse(one.payload).sequence for one in signatures_in(shop.layout, shop.digest("v1"))]
    assert found == [2, 3]
    assert signatures_in(shop.layout, shop.digest("v2")) == []
    assert set(shop.layout.tags()) == {"v1", "v2"}


async def test_the_endpoint_and_an_export_carry_it(shop: Shop, maker: PrivateKey) -> None:
    shop.sign("v1", maker)
    shop.publish()
    digest = shop.digest("v1")
    transport = httpx.ASGITransport(app=create_app([shop.package]))
    async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client:
        for path in (f"manifests/{signature_tag(digest)}", f"referrers/{digest}"):
            answer = await client.get(f"/v2/{NAME}/{path}")
            assert answer.status_code == 200
            assert answer.content == shop.file(path)
        (found,) = answer.json()["manifests"]
        assert found["artifactType"] == "application/vnd.dev.cosign.artifact.sig.v1+json"
        assert found["digest"] == sha256_digest((await client.get(f"/v2/{NAME}/manifests/{signature_tag(digest)}")).content)


def test_malformed_signatures_are_refused(shop: Shop, maker: PrivateKey) -> None:
    shop.sign("v1", maker)
    good = artifact(shop.layout, shop.digest("v1"))
    assert len(parts_of(json.dumps(good).encode())) == 1

    def changed(**fields: Any) -> bytes:
        return json.dumps({**good, "layers": [{**good["layers"][0], **fields}]}).encode()

    for raw, match in (
        (b"[]", "not a JSON object"),
        (json.dumps({**good, "layers": 7}).encode(), "list of at most"),
        (json.dumps({**good, "layers": good["layers"] * 65}).encode(), "list of at most"),
        (changed(size=2**17), "statement of"),
        (changed(data="!"), "not base64"),
        (changed(annotations={"dev.cosignproject.cosign/signature": "%%"}), "not base64"),
        (changed(digest="sha256:1"), "not a digest"),
        (b" " * (2**20 + 1), "are allowed"),
    ):
        with pytest.raises(ContentError, match=match):
            parts_of(raw)
    with pytest.raises(DigestError, match="not what it promises"):
        parts_of(changed(data=base64.b64encode(b"{}").decode()))
    assert parts_of(changed(mediaType="text/plain")) == []
    assert parts_of(changed(annotations={})) == []


def test_a_statement_says_only_what_makes_sense() -> None:
    digest = "sha256:" + "1" * 64
    statement = Statement(digest, "team/net", ("v1", "latest"), 7)
    raw = statement.to_bytes(1_700_000_000)
    assert Statement.parse(raw) == statement
    assert json.loads(raw)["optional"]["timestamp"] == 1_700_000_000
    assert statement.speaks_for("team/net", "v1") and statement.speaks_for("team/net", None)
    assert not statement.speaks_for("team/net", "v2") and not statement.speaks_for("net", "v1")
    assert Statement(digest, "net").speaks_for("net", "anything")
    value = json.loads(raw)
    for reference, name in (
        ("docker.io/team/net", "team/net"),
        ("localhost/net", "net"),
        ("h:5000/net", "net"),
        ("team/net", "team/net"),
    ):
        value["critical"]["identity"]["docker-reference"] = reference
        said = Statement.parse(json.dumps(value).encode())
        assert said.speaks_for(name, None) and said.speaks_for(reference, None)
        assert not said.speaks_for(f"other/{name}", None) and not said.speaks_for(f"docker.io/{reference}", None)
    for optional in ({"accordion.sequence": -1}, {"accordion.sequence": True}, {"accordion.tags": 7}, {"accordion.tags": [7]}, 7):
        with pytest.raises(ContentError):
            Statement.parse(json.dumps({**value, "optional": optional}).encode())
    assert Statement.parse(json.dumps({**value, "optional": None}).encode()).sequence is None
    for kind in ("atomic container signature", 7):
        with pytest.raises(ContentError):
            Statement.parse(json.dumps({"critical": {**value["critical"], "type": kind}}).encode())


@pytest.mark.parametrize("text", ["0", "1700000000", "1700000000000", str(2**53)])
def test_a_sequence_that_cosign_writes_as_text_is_a_number(text: str) -> None:
    """`cosign sign -a accordion.sequence=…` knows texts only; seconds and milliseconds since 1970 are what scripts give."""
    value = json.loads(Statement("sha256:" + "1" * 64, "net").to_bytes(0))
    value["optional"]["accordion.sequence"] = text
    assert Statement.parse(json.dumps(value).encode()).sequence == int(text)


@pytest.mark.parametrize("text", ["", "-1", "1.0", " 1", "1_0", "٣", "²", str(2**53 + 1), "9" * 5000])
def test_a_text_that_is_no_such_number_is_no_sequence(text: str) -> None:
    value = json.loads(Statement("sha256:" + "1" * 64, "net").to_bytes(0))
    value["optional"]["accordion.sequence"] = text
    with pytest.raises(ContentError, match="not a whole number"):
        Statement.parse(json.dumps(value).encode())
