"""Certificate and key, looked at before the server takes them, so that what is wrong is said in words."""

from __future__ import annotations

import ssl
from pathlib import Path

from accordion.errors import StorageError, UsageError

__all__ = ["check_pair"]


def check_pair(certificate: Path, key: Path) -> None:
    """UsageError unless `key` is the unencrypted private key of the first certificate in `certificate`, both PEM."""
    for path, what in ((certificate, "certificate"), (key, "key")):
        try:
            with path.open("rb") as stream:
                stream.read(1)
        except FileNotFoundError as error:
            raise UsageError(f"there is no {what} {path}") from error
        except OSError as error:
            raise StorageError(f"can't read the {what} {path}: {error.strerror or error}") from error
    try:
        # An empty password instead of none: OpenSSL would ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(f"{key} is not the key of {certificate}") from error
        raise UsageError(
            f"{certificate} and {key} are no PEM certificate and its key without a password ({error.reason})"
        ) from error
    except ValueError as error:  # an encrypted key and the empty password
        raise UsageError(f"{key} has a password: write it without one, readable for the endpoint only") from error
