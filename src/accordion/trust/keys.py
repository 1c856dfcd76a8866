"""Keys that sign and keys that are trusted: ECDSA over P-256 or Ed25519, in PEM (PKCS 8, PKIX), as openssl and cosign have them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from accordion.errors import AccordionError, UsageError
from accordion.extras import how_to_install

__all__ = ["ECDSA_P256", "ED25519", "KEY_LIMIT", "TYPES", "PrivateKey", "PublicKey", "make_key", "needs"]

ECDSA_P256, ED25519 = "ecdsa-p256", "ed25519"
TYPES = (ECDSA_P256, ED25519)
KEY_LIMIT = 2**16  # bytes of a key's file


def needs(error: ModuleNotFoundError, extra: str = "trust") -> AccordionError:
    """What to say where a library is missing: where trust is configured and can't be checked, nothing goes on."""
    return AccordionError(f"signatures can't be checked without {error.name}: {how_to_install(extra)}")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that is trusted. `fingerprint` is the SHA-256 of its DER form, in hexadecimal; equal keys are the same key."""

    pem: str = field(compare=False)
    fingerprint: str
    _key: Any = field(compare=False, repr=False)

    @classmethod
    def parse(cls, data: bytes, what: str) -> PublicKey:
        """The key in a PEM file. UsageError naming `what` if there is none of a known kind; AccordionError without the library."""
        try:
            from cryptography.exceptions import UnsupportedAlgorithm
            from cryptography.hazmat.primitives import serialization
        except ModuleNotFoundError as error:
            raise needs(error) from error
        if b"PRIVATE KEY-----" in data:
            raise UsageError(f"{what} is a private key: give the public one, and keep this one to yourself")
        try:
            key = serialization.load_pem_public_key(data[:KEY_LIMIT])
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UsageError(f"{what} is no public key in PEM form") from error
        _kind(key, what)
        encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return cls(pem.decode(), hashlib.sha256(encoded).hexdigest(), key)

    @property
    def kind(self) -> str:
        """`ecdsa-p256` or `ed25519`."""
        return _kind(self._key, "the key")

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether this key's owner signed these bytes."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ed25519

        try:
            if isinstance(self._key, ed25519.Ed25519PublicKey):
                self._key.verify(signature, data)
            else:
                self._key.verify(signature, data, _ecdsa())
        except InvalidSignature:
            return False
        return True

    def __str__(self) -> str:
        return f"{self.kind} {self.fingerprint[:16]}"


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key that signs."""

    public: PublicKey
    crypto: Any = field(repr=False)  # cryptography's own object, for libraries that take one

    @classmethod
    def parse(cls, data: bytes, password: bytes | None, what: str) -> PrivateKey:
        """The key in a PEM file; UsageError naming `what` if it is none, or if the password is missing or wrong."""
        try:
            from cryptography.exceptions import UnsupportedAlgorithm
            from cryptography.hazmat.primitives import serialization
        except ModuleNotFoundError as error:
            raise needs(error) from error
        if b"SIGSTORE PRIVATE KEY-----" in data:
            raise UsageError(f"{what} is encrypted in cosign's own way: sign with cosign, or make a key with `accordion key`")
        try:
            key = serialization.load_pem_private_key(data[:KEY_LIMIT], password)
        except TypeError as error:  # how the library says that a password is missing, or is not wanted
            wanted = "is encrypted: give its password" if password is None else "is not encrypted: leave the password out"
            raise UsageError(f"{what} {wanted}") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            tried = ", or the password is wrong" if password is not None else ""
            raise UsageError(f"{what} is no private key in PEM form{tried}") from error
        _kind(key, what)
        return cls(_public(key), key)

    def sign(self, data: bytes) -> bytes:
        """A signature over `data`: 64 bytes (Ed25519), or ASN.1 over its SHA-256 (ECDSA)."""
        signed = self.crypto.sign(data) if self.public.kind == ED25519 else self.crypto.sign(data, _ecdsa())
        return bytes(signed)

    def to_pem(self, password: bytes | None) -> bytes:
        """As a PKCS 8 file, encrypted if there is a password."""
        from cryptography.hazmat.primitives import serialization

        closed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        made: bytes = self.crypto.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, closed)
        return made


def make_key(kind: str = ECDSA_P256) -> PrivateKey:
    """A new key of one of `TYPES`. UsageError for another kind, AccordionError without the library."""
    try:
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    except ModuleNotFoundError as error:
        raise needs(error) from error
    if kind not in TYPES:
        raise UsageError(f"{kind!r:.40} is no kind of key: one of {', '.join(TYPES)}")
    key = ed25519.Ed25519PrivateKey.generate() if kind == ED25519 else ec.generate_private_key(ec.SECP256R1())
    return PrivateKey(_public(key), key)


def _public(key: Any) -> PublicKey:
    from cryptography.hazmat.primitives import serialization

    raw = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey.parse(raw, "the key")


def _kind(key: Any, what: str) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if isinstance(key, ed25519.Ed25519PublicKey | ed25519.Ed25519PrivateKey):
        return ED25519
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return ECDSA_P256
    raise UsageError(f"{what} is a key of another kind: ECDSA over P-256 and Ed25519 are known")


def _ecdsa() -> Any:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.ECDSA(hashes.SHA256())
