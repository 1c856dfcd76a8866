"""Keys as files, read and used by openssl too."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from accordion.errors import UsageError
from accordion.trust.keys import TYPES, PrivateKey, PublicKey, make_key

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=False)


def verified_by_openssl(kind: str, public: Path, signature: Path, data: Path) -> bool:
    if kind == "ed25519":
        return (
            openssl("pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-sigfile", signature, "-in", data).returncode == 0
        )
    return openssl("dgst", "-sha256", "-verify", public, "-signature", signature, data).returncode == 0


@pytest.mark.parametrize("kind", TYPES)
def test_a_key_signs_and_only_what_it_signed_is_good(kind: str) -> None:
    key, other = make_key(kind), make_key(kind)
    signature = key.sign(b"a statement")
    assert key.public.kind == kind
    assert key.public.verifies(signature, b"a statement")
    assert not key.public.verifies(signature, b"a statemenT")
    assert not other.public.verifies(signature, b"a statement")
    for wrong in (b"", b"\0" * len(signature), signature[:-1], signature + b"\0"):
        assert not key.public.verifies(wrong, b"a statement")


@pytest.mark.parametrize("kind", TYPES)
def test_there_and_back_as_files(kind: str) -> None:
    key = make_key(kind)
    for password in (None, b"a password"):
        pem = key.to_pem(password)
        assert (b"ENCRYPTED" in pem) == (password is not None)
        assert PrivateKey.parse(pem, password, "it").public == key.public
    public = PublicKey.parse(key.public.pem.encode(), "it")
    assert public == key.public and len(public.fingerprint) == 64


def test_what_is_no_key_is_said_to_be_none() -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    key = make_key()
    closed = key.to_pem(b"right")
    plain = key.to_pem(None)
    for data, password, match in (
        (closed, None, "is encrypted"),
        (closed, b"wrong", "password is wrong"),
        (plain, b"any", "not encrypted"),
        (b"nonsense", None, "no private key"),
        (b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n", None, "cosign's own way"),
        (key.public.pem.encode(), None, "no private key"),
    ):
        with pytest.raises(UsageError, match=match):
            PrivateKey.parse(data, password, "it")
    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    weak = rsa.generate_private_key(65537, 1024).public_key().public_bytes(*form)
    other = ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(*form)
    for data, match in ((weak, "another kind"), (other, "another kind"), (b"", "no public key"), (plain, "private key: give the")):
        with pytest.raises(UsageError, match=match):
            PublicKey.parse(data, "it")
    with pytest.raises(UsageError, match="no kind of key"):
        make_key("rot13")


@needs_openssl
@pytest.mark.parametrize("kind", TYPES)
def test_openssl_reads_our_keys_and_agrees(kind: str, tmp_path: Path) -> None:
    key = make_key(kind)
    (tmp_path / "key").write_bytes(key.to_pem(b"a password"))
    (tmp_path / "data").write_bytes(b"a statement")
    made = openssl("pkey", "-in", tmp_path / "key", "-passin", "pass:a password", "-pubout", "-out", tmp_path / "pub")
    assert made.returncode == 0, made.stderr
    assert PublicKey.parse((tmp_path / "pub").read_bytes(), "it") == key.public
    (tmp_path / "signature").write_bytes(key.sign(b"a statement"))
    assert verified_by_openssl(kind, tmp_path / "pub", tmp_path / "signature", tmp_path / "data")
    (tmp_path / "data").write_bytes(b"another statement")
    assert not verified_by_openssl(kind, tmp_path / "pub", tmp_path / "signature", tmp_path / "data")


@needs_openssl
def test_keys_that_openssl_made_are_ours_too(tmp_path: Path) -> None:
    for kind, more in (("ecdsa-p256", ("EC", "-pkeyopt", "ec_paramgen_curve:P-256")), ("ed25519", ("ED25519",))):
        made = openssl("genpkey", "-algorithm", *more, "-out", tmp_path / "key")
        assert made.returncode == 0, made.stderr
        key = PrivateKey.parse((tmp_path / "key").read_bytes(), None, "it")
        assert key.public.kind == kind
        assert key.public.verifies(key.sign(b"x"), b"x")
