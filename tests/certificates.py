"""A private authority and a certificate of its making, for tests of TLS."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Pair:
    """PEM files: the authority's certificate, the server's certificate and its key."""

    authority: Path
    certificate: Path
    key: Path


def make_pair(folder: Path) -> Pair:
    """For 127.0.0.1 and localhost, a day long. Skips the test where there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    authority, authority_key = folder / "authority.pem", folder / "authority.key"
    certificate, key, wanted = folder / "certificate.pem", folder / "key.pem", folder / "wanted.csr"
    names = folder / "names"
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _openssl("req", "-x509", *curve, "-keyout", authority_key, "-out", authority, "-days", "1", "-subj", "/CN=a test's authority")
    _openssl("req", *curve, "-keyout", key, "-out", wanted, "-subj", "/CN=a test's endpoint")
    signing = ["-CA", authority, "-CAkey", authority_key, "-CAcreateserial", "-days", "1", "-extfile", names]
    _openssl("x509", "-req", "-in", wanted, "-out", certificate, *signing)
    return Pair(authority, certificate, key)


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
