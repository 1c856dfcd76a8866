"""The way to other hosts as the environment names it: certificates and proxies, as the ecosystem's other clients have them."""

from __future__ import annotations

import os
import ssl
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from yarl import URL

from accordion.errors import StorageError, UsageError

__all__ = ["CACERT_VARIABLE", "certificates", "proxy_for", "trusted"]

# More certificates to trust. OpenSSL itself reads SSL_CERT_FILE and SSL_CERT_DIR, which stand instead of the system's.
CACERT_VARIABLE = "ACCORDION_CACERT"


def certificates() -> ssl.SSLContext | None:
    """What `ACCORDION_CACERT` says to trust besides; None where it says nothing. UsageError or StorageError for what is none."""
    path = os.environ.get(CACERT_VARIABLE)
    return trusted(Path(path)) if path else None


def trusted(cacert: Path) -> ssl.SSLContext:
    """The system's certificates and those in `cacert` (PEM)."""
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cacert)
    except FileNotFoundError as error:
        raise UsageError(f"there is no file of certificates {cacert}") from error
    except ssl.SSLError as error:
        raise UsageError(f"{cacert} holds no certificates in PEM form") from error
    except OSError as error:
        raise StorageError(f"can't read the certificates in {cacert}: {error.strerror or error}") from error
    return context


def proxy_for(url: str) -> URL | None:
    """What HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY (in either case) say of this URL; UsageError for what can't be one.

    HTTP_PROXY in capitals is not heeded where REQUEST_METHOD says that a web server set it from a stranger's header.
    """
    parts = urlsplit(url)
    found = urllib.request.getproxies()
    text = found.get(parts.scheme) or found.get("all")
    if not text or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    try:
        proxy = URL(text if "://" in text else f"http://{text}")
        if proxy.scheme not in ("http", "https") or not proxy.host:
            raise ValueError("its scheme is not http or https")
        return proxy
    except ValueError as error:
        name = f"{parts.scheme.upper()}_PROXY"
        raise UsageError(f"{name} (or ALL_PROXY) names no proxy that can be used: {error}") from error
